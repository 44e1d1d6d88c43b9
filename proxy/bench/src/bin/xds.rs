//! A control plane for one sidecar and one Service with two revisions: delta ADS over TLS on `aviary-xds`, as the operator serves
//! it. Each line of standard input is the canary's weight in percent from then on; it is answered when the sidecar has acknowledged.
//! On demand the Service is a second sidecar, with mutual TLS before it, and both get their certificates here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use aviary_bench::authority::Authority;
use aviary_xds::grpc::{DiscoveryRequest, DiscoveryResponse, Server as Grpc, Service};
use aviary_xds::identity::grpc::{Server as Identities, Service as Sign};
use aviary_xds::identity::{SignRequest, SignResponse};
use aviary_xds::server::Verdict;
use aviary_xds::{DeltaServer, Kind, Request as XdsRequest, Resources, Response as XdsResponse};
use clap::Parser;
use rcgen::CertificateSigningRequestParams;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use traffic_core::bounds::Bounds;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Expected, Health, Protocol, Route, Split, Weight,
};
use traffic_core::fuse::TOLERANCE;
use traffic_core::lease::Lease;

const ROUTE: &str = "shop/web/80";
const TRUST: &str = "spiffe://cluster.local/ns/shop/sa";
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Options {
    #[arg(long)]
    port: u16,
    /// Where to write the certificate that the sidecar shall trust.
    #[arg(long)]
    root: PathBuf,
    /// The Service's address, as applications know it.
    #[arg(long)]
    service: SocketAddr,
    /// The port of the stable revision; that of the canary is the next one.
    #[arg(long)]
    backends: u16,
    /// The canary's weight in percent.
    #[arg(long)]
    share: u32,
    /// The port of a sidecar that is called instead of the backends.
    #[arg(long)]
    sidecar: Option<u16>,
}

struct World {
    service: SocketAddr,
    resources: Mutex<Resources>,
    changes: watch::Sender<()>,
    /// The version of the route that the sidecar has acknowledged last.
    acknowledged: watch::Sender<String>,
}

impl World {
    fn new(options: &Options) -> World {
        let mut resources = Resources::default();
        for (revision, port) in [("v1", options.backends), ("v2", options.backends + 1)] {
            resources.insert_cluster(&Cluster {
                name: format!("{ROUTE}/{revision}"),
                endpoints: vec![Endpoint {
                    address: (Ipv4Addr::LOCALHOST, options.sidecar.unwrap_or(port)).into(),
                    health: Health::Healthy,
                    identity: options.sidecar.map(|_| Expected {
                        id: format!("{TRUST}/called").into(),
                        accepts: true,
                        demands: false,
                    }),
                    workload: None,
                }],
            });
        }
        World {
            service: options.service,
            resources: Mutex::new(resources),
            changes: watch::Sender::default(),
            acknowledged: watch::Sender::default(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Resources) -> T) -> T {
        work(
            &mut self
                .resources
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Returns the version of the route with this weight.
    fn shift(&self, percent: u32) -> anyhow::Result<String> {
        let weight = Weight::percent(percent).with_context(|| format!("{percent} %"))?;
        let arm = |revision: &str| Arm {
            cluster: format!("{ROUTE}/{revision}"),
            revision: revision.into(),
        };
        let route = Route {
            name: ROUTE.to_owned(),
            namespace: "shop".to_owned(),
            service: "web".to_owned(),
            port: 80,
            protocol: Protocol::Detect,
            rollout: "shop/web".to_owned(),
            split: Split {
                stable: arm("v1"),
                canary: Some(CanaryArm {
                    arm: arm("v2"),
                    weight,
                    run: 1,
                    lease: Lease::for_weight(weight),
                    fuse: Some(TOLERANCE),
                    sticky: None,
                }),
            },
            bounds: Bounds::default(),
            revoked: Vec::new(),
        };
        let version = self.with(|resources| {
            resources.insert_route(&route, &[self.service]);
            resources
                .resolve(Kind::Route, ROUTE)
                .map(|route| route.version.clone())
        });
        self.changes.send_replace(());
        version.context("the route is there")
    }

    async fn exchange(
        &self,
        mut requests: Streaming<XdsRequest>,
        responses: mpsc::UnboundedSender<Result<XdsResponse, Status>>,
    ) -> anyhow::Result<()> {
        let mut server = DeltaServer::default();
        let mut changes = self.changes.subscribe();
        loop {
            while let Some(response) = self.with(|world| server.next(world, Instant::now())) {
                responses.send(Ok(response))?;
            }
            for sent in server.routes().into_values().filter_map(|route| route.sent) {
                match sent.verdict {
                    Verdict::Accepted => drop(self.acknowledged.send_replace(sent.version)),
                    Verdict::Rejected(text) => return Err(anyhow!("the sidecar says: {text}")),
                    Verdict::Pending => {}
                }
            }
            let heartbeat = self.with(|world| server.heartbeat_at(world));
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => drop(server.on_request(request)?),
                    None => return Ok(()),
                },
                changed = changes.changed() => changed?,
                () = sleep_until(heartbeat.unwrap_or_else(Instant::now).into()), if heartbeat.is_some() => {}
            }
        }
    }
}

struct Ads(Arc<World>);

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Service for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<XdsResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<XdsRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, responses) = mpsc::unbounded_channel();
        let world = self.0.clone();
        tokio::spawn(async move {
            if let Err(error) = world.exchange(request.into_inner(), sender).await {
                eprintln!("{error:#}");
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            responses,
        ))))
    }
}

/// Whoever asks is who the token says, and the token is a name.
struct Signer(Option<Authority>);

#[tonic::async_trait]
impl Sign for Signer {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let Some(authority) = &self.0 else {
            return Err(Status::unimplemented("without certificates"));
        };
        let token = request.metadata().get("authorization");
        let name = token
            .and_then(|token| token.to_str().ok()?.strip_prefix("Bearer "))
            .ok_or_else(|| Status::unauthenticated("no token"))?;
        let id = format!("{TRUST}/{name}");
        let csr = request.get_ref().csr.as_slice().into();
        let refused = |error: rcgen::Error| Status::invalid_argument(error.to_string());
        let asked = CertificateSigningRequestParams::from_der(&csr).map_err(refused)?;
        let leaf = authority.sign(&id, &asked.public_key).map_err(refused)?;
        Ok(Response::new(SignResponse {
            chain: vec![leaf.der()],
            roots: vec![authority.der()],
            seconds_left: 3600,
            id,
        }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let pem = certificate.cert.pem();
    let identity = Identity::from_pem(&pem, certificate.signing_key.serialize_pem());
    std::fs::write(&options.root, &pem)?;
    let world = Arc::new(World::new(&options));
    world.shift(options.share)?;
    let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, options.port).into())?;
    let authority = options.sidecar.map(|_| Authority::new()).transpose()?;
    println!("ready");
    let served = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))?
        .add_service(Grpc::new(Ads(world.clone())))
        .add_service(Identities::new(Signer(authority)))
        .serve_with_incoming(incoming.with_nodelay(Some(true)));
    let told = async {
        let mut acknowledged = world.acknowledged.subscribe();
        let mut lines = BufReader::new(stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            let version = world.shift(line.trim().parse()?)?;
            timeout(PATIENCE, acknowledged.wait_for(|seen| *seen == version))
                .await
                .context("the sidecar does not acknowledge")??;
            println!("acknowledged");
        }
        anyhow::Ok(())
    };
    tokio::select! {
        served = served => Ok(served?),
        told = told => told,
    }
}
