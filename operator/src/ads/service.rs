//! The gRPC service: authenticates a stream, then hands it to its own task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aviary_xds::grpc::{DiscoveryRequest, DiscoveryResponse, Server, Service};
use aviary_xds::{Request as XdsRequest, Response as XdsResponse};
use aviary_xds::{identity, load};
use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::certify::IdentityService;
use super::door::{Door, Responses};
use super::loads::LoadService;
use super::stream::Session;
use super::visit::Visits;
use super::{Ads, Authenticator};
use crate::certificates::workload::Workloads;
use crate::serve::TlsListener;

/// A peer that answers no ping for this long is gone: its stream ends, and its pod becomes a laggard.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// On one connection: a proxy opens one for each service that it uses.
const STREAMS: u32 = 8;
/// A token has one or two kilobytes.
const LARGEST_HEAD: u32 = 16 << 10;
/// A proxy that calls a thousand Services says so in half of this.
const LARGEST_REQUEST: usize = 256 << 10;
/// A hundred reports, each with every latency there is, have a tenth of this.
const LARGEST_REPORT: usize = 4 << 20;
/// How long the last messages may take after `stop`.
const GOODBYE: Duration = Duration::from_secs(1);
/// Messages between a stream's task and its transport: more would let old ones queue up in front of a weight change.
const AHEAD: usize = 1;

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("xDS server: {0}")]
    Transport(#[from] tonic::transport::Error),
}

struct AdsService {
    door: Door,
}

impl Ads {
    /// Serves proxies until `stop`; then every stream is told to connect again. Without `workloads` they get no certificates.
    pub async fn serve(
        self,
        listener: TlsListener,
        authenticator: Arc<dyn Authenticator>,
        workloads: Option<Workloads>,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let door = Door::new(self, authenticator, stop.clone());
        let identities = workloads.map(|workloads| {
            identity::grpc::Server::new(IdentityService::new(door.clone(), workloads))
        });
        let loads = LoadService { door: door.clone() };
        let service = AdsService { door };
        let visits = Visits::new();
        let connections = listener
            .incoming()
            .map_ok(move |connection| visits.welcome_tls(connection));
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS)
            .http2_max_header_list_size(LARGEST_HEAD)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .add_service(Server::new(service).max_decoding_message_size(LARGEST_REQUEST))
            .add_service(load::grpc::Server::new(loads).max_decoding_message_size(LARGEST_REPORT))
            .add_optional_service(identities)
            .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
        // A peer that answers nothing would keep a graceful end waiting for ever (hyper#4170).
        let too_late = async {
            stop.cancelled().await;
            tokio::time::sleep(GOODBYE).await;
        };
        tokio::select! {
            served = serving => served?,
            () = too_late => tracing::debug!("some proxies did not take the end of their stream"),
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Service for AdsService {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<XdsResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented(
            "state-of-the-world xDS is not served yet: use delta ADS (api_type: DELTA_GRPC)",
        ))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<XdsRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (pod, stay) = self.door.enter(&request).await?;
        let span = tracing::info_span!("ads", namespace = pod.namespace, pod = pod.pod);
        let (responses, to_proxy) = mpsc::channel(AHEAD);
        let session = Session::new(self.door.ads.clone(), pod, responses);
        let (ads, stop) = (self.door.ads.clone(), self.door.stop.clone());
        // Owned by the connection: it ends when either half of the stream does, or at `stop`.
        tokio::spawn(
            async move {
                ads.0.counters.streams.fetch_add(1, Ordering::Relaxed);
                session.run(request.into_inner(), stop).await;
                ads.0.counters.streams.fetch_sub(1, Ordering::Relaxed);
                drop(stay);
            }
            .instrument(span),
        );
        Ok(Response::new(Box::pin(ReceiverStream::new(to_proxy))))
    }
}
