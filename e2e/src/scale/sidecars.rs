//! Sidecars without a data plane: each a connection of its own to the operator, with the token of its pod and the proxy's
//! own xDS client; what it is sent counts as installed at once. On demand each tells once a second what became of requests that
//! nobody made.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aviary_xds::grpc::Client as Xds;
use aviary_xds::load::{self, Report};
use aviary_xds::{DeltaClient, Node};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;
use traffic_core::outcome::{Bucket, Counts, PerClass};

use super::CALLED;
use crate::connection::{self, ConnectionError};

/// A handshake or a token review each.
const AT_ONCE: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    #[error("the API server does not answer")]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("the Service has no ClusterIP")]
    NoAddress,
}

/// They go when this is dropped.
pub struct Sidecars {
    connected: Arc<AtomicUsize>,
    /// The revisions that they tell of: stable's, and the canary's.
    tell: watch::Sender<Option<[String; 2]>>,
    _streams: JoinSet<()>,
}

impl Sidecars {
    /// The sidecars of the callers' pods; every one calls the Service [`CALLED`].
    pub async fn connect(client: &Client, port: u16) -> Result<Sidecars, SidecarError> {
        let tls = TlsConnector::from(connection::trusting(client).await?);
        let services: Api<Service> = Api::namespaced(client.clone(), CALLED);
        let address = services
            .get(CALLED)
            .await?
            .spec
            .and_then(|spec| spec.cluster_ip);
        let destination: SocketAddr = address
            .and_then(|ip| format!("{ip}:80").parse().ok())
            .ok_or(SidecarError::NoAddress)?;
        let tokens = tokens(client).await?;
        let connected = Arc::new(AtomicUsize::new(0));
        let (tell, told) = watch::channel(None);
        let mut streams = JoinSet::new();
        for (pod, token) in tokens {
            let (tls, connected) = (tls.clone(), Arc::clone(&connected));
            let told = told.clone();
            streams.spawn(async move {
                // One that is lost comes back, as a proxy does.
                loop {
                    let sidecar = Sidecar {
                        pod: &pod,
                        token: &token,
                        told: told.clone(),
                    };
                    let _ = sidecar
                        .follow(tls.clone(), port, destination, &connected)
                        .await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
        }
        Ok(Sidecars {
            connected,
            tell,
            _streams: streams,
        })
    }

    /// From now on each tells, once a second, of three Services with these two revisions; one of them is [`CALLED`].
    pub fn tell(&self, revisions: [String; 2]) {
        self.tell.send_replace(Some(revisions));
    }

    /// Those that have been sent something.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }
}

/// The names of the callers' pods, and their tokens.
pub(super) async fn tokens(client: &Client) -> kube::Result<Vec<(String, String)>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), CALLED);
    let pods = pods
        .list(&ListParams::default().labels("app=callers"))
        .await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), CALLED);
    stream::iter(pods.items)
        .map(|pod| token(&accounts, pod))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn token(accounts: &Api<ServiceAccount>, pod: Pod) -> kube::Result<(String, String)> {
    let token = connection::token(accounts, &pod).await?;
    Ok((pod.name_any(), token))
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Stream(#[from] tonic::Status),
}

struct Sidecar<'a> {
    pod: &'a str,
    token: &'a str,
    told: watch::Receiver<Option<[String; 2]>>,
}

impl Sidecar<'_> {
    async fn follow(
        &self,
        tls: TlsConnector,
        port: u16,
        destination: SocketAddr,
        connected: &AtomicUsize,
    ) -> Result<(), Lost> {
        let channel = connection::dial(tls, port).await?;
        let mut client = DeltaClient::new(fastrand::f64());
        let (requests, to_server) = mpsc::unbounded_channel();
        let node = Node {
            id: format!("{}.{CALLED}", self.pod),
            version: "bench".to_owned(),
            revocations: Vec::new(),
        };
        let first = client.connected(&node);
        let calls = client.demand([destination]);
        for request in first.requests.into_iter().chain(calls.requests) {
            requests.send(request).ok();
        }
        let to_server = received(to_server);
        let answer = Xds::new(channel.clone())
            .delta_aggregated_resources(connection::signed(self.token, to_server)?)
            .await?;
        let reports = self.report(channel);
        tokio::pin!(reports);
        let mut responses = answer.into_inner();
        let mut counted = Counted {
            count: connected,
            is: false,
        };
        loop {
            let response = tokio::select! {
                response = responses.message() => response?,
                lost = &mut reports => return lost,
            };
            let Some(response) = response else {
                return Ok(());
            };
            counted.set();
            let mut output = client.received(response, Instant::now());
            loop {
                for request in output.requests {
                    requests.send(request).ok();
                }
                let Some((generation, _)) = output.snapshot else {
                    break;
                };
                output = client.installed(generation);
            }
        }
    }

    /// Tells what there is to tell, for as long as it is polled.
    async fn report(&self, channel: Channel) -> Result<(), Lost> {
        let mut told = self.told.clone();
        if told.wait_for(Option::is_some).await.is_err() {
            return std::future::pending().await;
        }
        let (messages, to_server) = mpsc::unbounded_channel();
        messages.send(load::hello(self.pod)).ok();
        let answer = load::grpc::Client::new(channel)
            .stream_load_stats(connection::signed(self.token, received(to_server))?)
            .await?;
        let mut answers = answer.into_inner();
        // Not all at once, as real ones.
        let offset = Duration::from_millis(fastrand::u64(..1000));
        loop {
            tokio::select! {
                answer = answers.message() => if answer?.is_none() {
                    return Ok(());
                },
                () = tokio::time::sleep_until(next_second(offset)) => {
                    let revisions = told.borrow().clone();
                    for message in revisions.map(batch).unwrap_or_default() {
                        messages.send(message).ok();
                    }
                }
            }
        }
    }
}

fn received<T: Send + 'static>(
    messages: mpsc::UnboundedReceiver<T>,
) -> impl Stream<Item = T> + Send + 'static {
    stream::unfold(messages, |mut messages| async move {
        Some((messages.recv().await?, messages))
    })
}

fn wall() -> Duration {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    wall.unwrap_or_default()
}

/// `offset` after the next whole second.
fn next_second(offset: Duration) -> tokio::time::Instant {
    let now = wall();
    let next = Duration::from_secs(now.as_secs() + 1) + offset;
    tokio::time::Instant::now() + (next - now)
}

/// What a proxy that makes 40 requests a second to each of three Services has to tell.
fn batch([stable, canary]: [String; 2]) -> Vec<load::Request> {
    let second = wall().as_secs() - 1;
    let counts = |started: u32| Counts {
        started: started.into(),
        ended: PerClass::from([started.into(), 0, 0, 0]),
        latency: (0..started)
            .map(|n| {
                (
                    Bucket::of(Duration::from_micros(900 + 50 * u64::from(n))),
                    1,
                )
            })
            .collect(),
        ..Counts::default()
    };
    let services = [CALLED, "another", "a-third"];
    let arms = services
        .iter()
        .flat_map(|service| [(service, &stable, 36), (service, &canary, 4)]);
    let reports: Vec<Report> = arms
        .map(|(service, revision, started)| Report {
            cluster: format!("{CALLED}/{service}/80/{revision}"),
            second,
            counts: counts(started),
        })
        .collect();
    load::encode(&reports).collect()
}

/// Counts one stream as long as it lives.
struct Counted<'a> {
    count: &'a AtomicUsize,
    is: bool,
}

impl Counted<'_> {
    fn set(&mut self) {
        if !std::mem::replace(&mut self.is, true) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.is {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
