//! The control plane's client: carries the messages of [`DeltaClient`] over TLS, hands snapshots to the data plane, and asks for
//! the destinations that it demands. It reconnects for ever; meanwhile the data plane serves the last configuration.
//!
//! ```text
//!   connect ──ok──> exchange ──lost──> finish the install ──> wait (0.1 s .. 5 s, jittered) ──┐
//!      ^ └─failed────────────────────────────────────────────────────^                         │
//!      └────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! While there is a stream, what becomes of first attempts is told on a second one beside it (`reports`), and the pod's certificate is
//! kept new (`certificates`); the failures of either are its own. On the first one it is told who calls this pod without an identity (`callers`).
//!
//! A canary's weight is only lent: when the control plane is not heard in time it goes back to stable, with or without a stream.
//!
//! Not here: what a snapshot does (the data plane).

mod backoff;
mod callers;
mod certificates;
mod connect;
mod failure;
mod held;
mod reports;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use aviary_xds::{Node, Response};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::Streaming;

use crate::control::{ControlPlane, Demand, Identify, Install, Link};

pub(crate) use certificates::seconds;
pub use connect::AddressError;

use backoff::Backoff;
use callers::Callers;
use certificates::Certificates;
use connect::Connector;
use failure::Failure;
use held::{Held, installed, lease_ends};
use reports::Reports;

/// Demands that are sent in one request.
const DEMANDS_AT_ONCE: usize = 256;
/// A stream that lived this long was a good one: the next attempt after it is an early one.
const GOOD_STREAM: Duration = Duration::from_secs(10);

/// Runs until the data plane drops its end of `demands`. Without `identify`, the pod has no certificate.
pub async fn run(
    control_plane: ControlPlane,
    install: Arc<dyn Install>,
    identify: Option<Arc<dyn Identify>>,
    demands: mpsc::Receiver<Demand>,
) -> Result<(), AddressError> {
    let connector = Arc::new(Connector::new(&control_plane)?);
    let id = format!("{}.{}", control_plane.pod_name, control_plane.pod_namespace);
    let link = AdsLink {
        connector,
        id,
        demands,
        identified: install.identified(),
        held: Held::new(install, control_plane.address.clone()),
        backoff: Backoff::default(),
        last_failure: None,
    };
    link.run(Certificates::new(identify)).await;
    Ok(())
}

struct AdsLink {
    connector: Arc<Connector>,
    /// `<pod>.<namespace>`.
    id: String,
    demands: mpsc::Receiver<Demand>,
    held: Held,
    /// Whether the data plane has an identity.
    identified: watch::Receiver<bool>,
    backoff: Backoff,
    /// Said once, not at each attempt.
    last_failure: Option<String>,
}

/// Why a stream ended.
enum End {
    Lost(Failure),
    /// The data plane is gone.
    Stopped,
}

impl AdsLink {
    async fn run(mut self, mut certificates: Certificates) {
        loop {
            let started = Instant::now();
            let failure = match self.stream(&mut certificates).await {
                End::Stopped => return,
                End::Lost(failure) => failure,
            };
            self.held.requests = None;
            self.held.client().disconnected();
            if let Failure::Status(text) = &failure {
                self.held.client().ended_with(text);
            }
            self.held.install.link(Link::Disconnected);
            // What is reported at the next connect must be installed, not on its way.
            self.held.finish_install().await;
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
    async fn stream(&mut self, certificates: &mut Certificates) -> End {
        let node = Node {
            id: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revocations: self.held.install.revocations(),
        };
        let (requests, to_server) = mpsc::unbounded_channel();
        // The first requests wait in the channel: the control plane may answer only when it has read them.
        self.held.requests = Some(requests);
        if *self.identified.borrow_and_update() {
            self.held.client().accept_tls();
        }
        let output = self.held.client().connected(&node);
        self.held.apply(output);
        let opened = self.held.during(self.connector.open(to_server)).await;
        let (channel, mut responses) = match opened {
            Ok(opened) => opened,
            Err(failure) => return End::Lost(failure),
        };
        tracing::info!(address = %self.connector, "connected to the control plane");
        self.last_failure = None;
        self.held.install.link(Link::Connected);
        let connector = Arc::clone(&self.connector);
        let certified = certificates.run(&connector, channel.clone());
        let reports = Reports {
            connector: Arc::clone(&self.connector),
            channel,
            id: self.id.clone(),
            install: Arc::clone(&self.held.install),
        };
        tokio::select! {
            end = self.exchange(&mut responses) => end,
            never = reports.run() => match never {},
            never = certified => match never {},
        }
    }

    async fn exchange(&mut self, responses: &mut Streaming<Response>) -> End {
        let mut demanded = Vec::new();
        let mut callers = Callers::new(Instant::now());
        let held = &mut self.held;
        loop {
            let output = tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => held.client().received(response, Instant::now().into_std()),
                    Ok(None) => return End::Lost(Failure::Ended),
                    Err(status) => return End::Lost(status.into()),
                },
                generation = installed(&mut held.installing) => {
                    held.installing = None;
                    held.client().installed(generation)
                }
                count = self.demands.recv_many(&mut demanded, DEMANDS_AT_ONCE) => match count {
                    0 => return End::Stopped,
                    _ => held.client().demand(demanded.drain(..)),
                },
                () = identified(&mut self.identified) => held.client().accept_tls(),
                () = callers.due() => {
                    let seen = held.install.unidentified();
                    callers.tell(&mut held.client(), &seen, Instant::now())
                }
                () = lease_ends(&held.client) => {
                    held.lapse();
                    continue;
                }
            };
            held.apply(output);
        }
    }

    /// Takes demands meanwhile; `None` when there can be no more.
    async fn wait(&mut self, time: Duration) -> Option<()> {
        let until = Instant::now() + time;
        let mut demanded = Vec::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Some(()),
                () = lease_ends(&self.held.client) => self.held.lapse(),
                count = self.demands.recv_many(&mut demanded, DEMANDS_AT_ONCE) => match count {
                    0 => return None,
                    _ => drop(self.held.client().demand(demanded.drain(..))),
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
            routes = self.held.client().visible_routes(),
            "no control plane, serving the last configuration; trying again for ever"
        );
        self.last_failure = Some(reason);
    }
}

/// Resolves when the data plane gets an identity; never, if nobody gives it one. Cancel safe.
async fn identified(identified: &mut watch::Receiver<bool>) {
    if identified.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
