//! The control plane's client: carries the messages of [`DeltaClient`] over TLS, hands snapshots to the data plane, and asks for
//! the destinations that it demands. It reconnects for ever; meanwhile the data plane serves the last configuration.
//!
//! ```text
//!   connect ──ok──> exchange ──lost──> finish the install ──> wait (0.1 s .. 5 s, jittered) ──┐
//!      ^ └─failed────────────────────────────────────────────────────^                         │
//!      └────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Not here: what a snapshot does (the data plane), and giving up a canary's weight when the control plane is silent for long.

mod backoff;
mod connect;
mod failure;

use std::sync::Arc;
use std::time::Duration;

use aviary_xds::client::{Generation, Output};
use aviary_xds::{DeltaClient, Node, Request, Response};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;

use crate::control::{ControlPlane, Demand, Install, Installed, Link};

pub use connect::AddressError;

use backoff::Backoff;
use connect::Connector;
use failure::Failure;

/// Demands that are sent in one request.
const DEMANDS_AT_ONCE: usize = 256;
/// A stream that lived this long was a good one: the next attempt after it is an early one.
const GOOD_STREAM: Duration = Duration::from_secs(10);

/// Runs until the data plane drops its end of `demands`.
pub async fn run(
    control_plane: ControlPlane,
    install: Arc<dyn Install>,
    demands: mpsc::Receiver<Demand>,
) -> Result<(), AddressError> {
    let connector = Connector::new(&control_plane)?;
    let id = format!("{}.{}", control_plane.pod_name, control_plane.pod_namespace);
    let link = AdsLink {
        connector,
        id,
        install,
        demands,
        client: DeltaClient::default(),
        installing: None,
        backoff: Backoff::default(),
        last_failure: None,
    };
    link.run().await;
    Ok(())
}

struct AdsLink {
    connector: Connector,
    /// `<pod>.<namespace>`.
    id: String,
    install: Arc<dyn Install>,
    demands: mpsc::Receiver<Demand>,
    client: DeltaClient,
    /// The newest snapshot that was handed over; an older one is confirmed with it.
    installing: Option<(Generation, Installed)>,
    backoff: Backoff,
    /// Said once, not at each attempt.
    last_failure: Option<String>,
}

/// Requests on their way to the control plane. Unbounded, or both sides could wait for each other; what is in it is bounded by
/// what was demanded and received.
type Requests = mpsc::UnboundedSender<Request>;

/// Why a stream ended.
enum End {
    Lost(Failure),
    /// The data plane is gone.
    Stopped,
}

impl AdsLink {
    async fn run(mut self) {
        loop {
            let started = Instant::now();
            let failure = match self.stream().await {
                End::Stopped => return,
                End::Lost(failure) => failure,
            };
            self.client.disconnected();
            self.install.link(Link::Disconnected);
            // What is reported at the next connect must be installed, not on its way.
            self.finish_install().await;
            if started.elapsed() >= GOOD_STREAM {
                self.backoff.reset();
            }
            let wait = self.backoff.next(fastrand::f64());
            self.log(&failure, wait);
            if self.wait(wait).await.is_none() {
                return;
            }
        }
    }

    /// One stream, from the connection to its end.
    async fn stream(&mut self) -> End {
        let node = Node {
            id: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revocations: self.install.revocations(),
        };
        let (requests, to_server) = mpsc::unbounded_channel();
        // The first requests wait in the channel: the control plane may answer only when it has read them.
        let output = self.client.connected(&node);
        self.apply(output, &requests);
        let mut responses = match self.connector.open(to_server).await {
            Ok(responses) => responses,
            Err(failure) => return End::Lost(failure),
        };
        tracing::info!(address = %self.connector, "connected to the control plane");
        self.last_failure = None;
        self.install.link(Link::Connected);
        self.exchange(&requests, &mut responses).await
    }

    async fn exchange(&mut self, requests: &Requests, responses: &mut Streaming<Response>) -> End {
        let mut demanded = Vec::new();
        loop {
            let output = tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => self.client.received(response),
                    Ok(None) => return End::Lost(Failure::Ended),
                    Err(status) => return End::Lost(status.into()),
                },
                generation = installed(&mut self.installing) => {
                    self.installing = None;
                    self.client.installed(generation)
                }
                count = self.demands.recv_many(&mut demanded, DEMANDS_AT_ONCE) => match count {
                    0 => return End::Stopped,
                    _ => self.client.demand(demanded.drain(..)),
                },
            };
            self.apply(output, requests);
        }
    }

    fn apply(&mut self, output: Output, requests: &Requests) {
        if let Some(reason) = output.rejected {
            tracing::warn!(reason, "configuration rejected, serving the last good one");
        }
        for request in output.requests {
            // A closed channel is a lost stream: its responses say so, too.
            requests.send(request).ok();
        }
        if let Some((generation, snapshot)) = output.snapshot {
            self.installing = Some((generation, self.install.install(snapshot)));
        }
    }

    async fn finish_install(&mut self) {
        if self.installing.is_some() {
            let generation = installed(&mut self.installing).await;
            self.installing = None;
            self.client.installed(generation);
        }
    }

    /// Takes demands meanwhile; `None` when there can be no more.
    async fn wait(&mut self, time: Duration) -> Option<()> {
        let until = Instant::now() + time;
        let mut demanded = Vec::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Some(()),
                count = self.demands.recv_many(&mut demanded, DEMANDS_AT_ONCE) => match count {
                    0 => return None,
                    _ => drop(self.client.demand(demanded.drain(..))),
                },
            }
        }
    }

    fn log(&mut self, failure: &Failure, retry_in: Duration) {
        let reason = failure.to_string();
        if self.last_failure.as_ref() == Some(&reason) {
            tracing::debug!(reason, ?retry_in, "still without the control plane");
            return;
        }
        tracing::warn!(
            reason,
            address = %self.connector,
            routes = self.client.visible_routes(),
            "no control plane, serving the last configuration; trying again for ever"
        );
        self.last_failure = Some(reason);
    }
}

/// Resolves when the newest snapshot is installed; never, if none is on its way. Cancel safe.
async fn installed(installing: &mut Option<(Generation, Installed)>) -> Generation {
    match installing {
        Some((generation, installed)) => {
            installed.await;
            *generation
        }
        None => std::future::pending().await,
    }
}
