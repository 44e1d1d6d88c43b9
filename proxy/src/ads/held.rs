//! What the client holds, and the data plane that shows it. Leases end on time whatever else the client waits for: a connection,
//! the next attempt, or an install.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aviary_xds::client::{Generation, Output};
use aviary_xds::{DeltaClient, Request};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::standing::Says;
use crate::control::{Install, Installed};

/// Requests on their way to the control plane. Unbounded, or both sides could wait for each other; what is in it is bounded by
/// what was demanded and received.
pub(super) type Requests = mpsc::UnboundedSender<Request>;

pub(super) struct Held {
    /// Behind a lock for people who ask how it stands; nobody holds that while anything is waited for.
    pub(super) client: Arc<Mutex<DeltaClient>>,
    pub(super) install: Arc<dyn Install>,
    /// The newest snapshot that was handed over; an older one is confirmed with it.
    pub(super) installing: Option<(Generation, Installed)>,
    /// The way to the control plane, if there is a stream.
    pub(super) requests: Option<Requests>,
}

impl Held {
    pub(super) fn new(install: Arc<dyn Install>, control_plane: String) -> Held {
        let client = Arc::new(Mutex::new(DeltaClient::new(fastrand::f64())));
        install.standing(Arc::new(Says::new(control_plane, client.clone())));
        Held {
            client,
            install,
            installing: None,
            requests: None,
        }
    }

    pub(super) fn client(&self) -> MutexGuard<'_, DeltaClient> {
        locked(&self.client)
    }

    pub(super) fn apply(&mut self, output: Output) {
        if let Some(reason) = output.rejected {
            tracing::warn!(reason, "configuration rejected, serving the last good one");
        }
        if !output.lapsed.is_empty() {
            tracing::warn!(
                routes = ?output.lapsed,
                "not heard from the control plane for too long: the canary's share goes to stable"
            );
        }
        if let Some(requests) = &self.requests {
            for request in output.requests {
                // A closed channel is a lost stream: its responses say so, too.
                requests.send(request).ok();
            }
        }
        if let Some((generation, snapshot)) = output.snapshot {
            self.installing = Some((generation, self.install.install(snapshot)));
        }
    }

    /// Waits for `work`.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = lease_ends(&self.client) => self.lapse(),
            }
        }
    }

    /// Waits until what was handed over is installed.
    pub(super) async fn finish_install(&mut self) {
        while self.installing.is_some() {
            tokio::select! {
                generation = installed(&mut self.installing) => {
                    self.installing = None;
                    let output = self.client().installed(generation);
                    self.apply(output);
                }
                () = lease_ends(&self.client) => self.lapse(),
            }
        }
    }

    pub(super) fn lapse(&mut self) {
        let output = self.client().lapse(Instant::now().into_std());
        self.apply(output);
    }
}

fn locked(client: &Mutex<DeltaClient>) -> MutexGuard<'_, DeltaClient> {
    client.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves when the next lease ends; never, if nothing is lent. Cancel safe.
pub(super) fn lease_ends(client: &Mutex<DeltaClient>) -> impl Future<Output = ()> + use<> {
    let end = locked(client).lapses_at();
    async move {
        match end {
            Some(end) => tokio::time::sleep_until(end.into()).await,
            None => std::future::pending().await,
        }
    }
}

/// Resolves when the newest snapshot is installed; never, if none is on its way. Cancel safe.
pub(super) async fn installed(installing: &mut Option<(Generation, Installed)>) -> Generation {
    match installing {
        Some((generation, installed)) => {
            installed.await;
            *generation
        }
        None => std::future::pending().await,
    }
}
