//! The data plane as the control plane's client sees it: [`Install`] for all workers at once.

mod dump;
mod identity;
mod inbound;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use traffic_core::config::{SignedRevocation, Snapshot};
use traffic_core::inbound::Unidentified;
use traffic_core::outcome::{Counts, Second};
use traffic_core::revoked::RevocationMemory;

use crate::clock::WallClock;
use crate::command::Command;
use crate::control::{Install, Installed, Link, Outcome, Outcomes, Reporting, Standing};
use crate::limits::Limits;
use crate::link::LinkState;
use crate::metrics::Metrics;
use crate::plaintext::PlainCallers;
use crate::table::Table;
use crate::telemetry::Telemetry;

pub struct Data {
    state: Mutex<State>,
    workers: Vec<mpsc::UnboundedSender<Command>>,
    metrics: Arc<Metrics>,
    link: Arc<LinkState>,
    clock: Arc<WallClock>,
    /// Whether every worker has an identity.
    identified: Arc<watch::Sender<bool>>,
    /// Who has called without one.
    plaintext: Arc<PlainCallers>,
    telemetry: Option<Arc<Telemetry>>,
    /// What it takes.
    limits: Limits,
    /// What this proxy listens on, by name.
    listeners: Vec<(&'static str, SocketAddr)>,
    /// Whom to ask how it stands with the control plane.
    standing: OnceLock<Arc<dyn Standing>>,
}

#[derive(Debug, Default)]
struct State {
    memory: RevocationMemory,
    table: Arc<Table>,
}

impl Data {
    pub fn new(
        workers: Vec<mpsc::UnboundedSender<Command>>,
        metrics: Arc<Metrics>,
        link: Arc<LinkState>,
        clock: Arc<WallClock>,
    ) -> Data {
        Data {
            state: Mutex::default(),
            workers,
            metrics,
            link,
            clock,
            identified: Arc::default(),
            plaintext: Arc::default(),
            telemetry: None,
            limits: Limits::default(),
            listeners: Vec::new(),
            standing: OnceLock::new(),
        }
    }

    /// Whom the workers have seen call without an identity.
    #[must_use]
    pub fn knowing(self, plaintext: Arc<PlainCallers>) -> Data {
        Data { plaintext, ..self }
    }

    /// Who is told of single requests, and has to know where they go.
    #[must_use]
    pub fn telling(self, telemetry: Option<Arc<Telemetry>>) -> Data {
        Data { telemetry, ..self }
    }

    /// What the proxy takes.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Data {
        Data { limits, ..self }
    }

    /// What the proxy listens on, by name.
    #[must_use]
    pub fn listening(self, listeners: Vec<(&'static str, SocketAddr)>) -> Data {
        Data { listeners, ..self }
    }

    /// Sends under the lock: every worker sees the tables in the same order.
    fn hand_over(
        &self,
        state: &mut MutexGuard<'_, State>,
        table: Table,
    ) -> Vec<oneshot::Receiver<()>> {
        state.table = Arc::new(table);
        let hand_over = |worker: &mpsc::UnboundedSender<Command>| {
            let (done, acknowledgement) = oneshot::channel();
            // A worker that is gone picks nothing any more; its acknowledgement resolves at once.
            let _ = worker.send(Command::Install(state.table.clone(), done));
            acknowledgement
        };
        self.workers.iter().map(hand_over).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Install for Data {
    fn install(&self, snapshot: Arc<Snapshot>) -> Installed {
        let acknowledgements: Vec<oneshot::Receiver<()>> = {
            let mut state = self.state();
            let applications = snapshot.applications.values();
            for route in snapshot.routes.values().chain(applications).flatten() {
                state.memory.learn(&route.revoked);
            }
            let table = Table::prepare(
                &snapshot,
                &state.table,
                &state.memory,
                &self.metrics,
                || fastrand::u64(..),
            );
            let routes = table.routes.values().flatten().count();
            self.metrics
                .routes
                .store(i64::try_from(routes).unwrap_or(i64::MAX), Ordering::Relaxed);
            if let Some(telemetry) = &self.telemetry {
                telemetry.know(snapshot.clusters.values());
            }
            self.hand_over(&mut state, table)
        };
        let metrics = self.metrics.clone();
        Box::pin(async move {
            join_all(acknowledgements).await;
            metrics.installs.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn revocations(&self) -> Vec<SignedRevocation> {
        self.state().memory.report()
    }

    fn link(&self, link: Link) {
        self.link.set(link);
        let connected = match link {
            Link::Connected => 1,
            Link::Disconnected => 0,
        };
        if self.metrics.connected.swap(connected, Ordering::Relaxed) != connected {
            match link {
                Link::Connected => tracing::info!("connected to the control plane"),
                Link::Disconnected => {
                    tracing::warn!("lost the control plane; going on with what is known")
                }
            }
        }
    }

    fn identified(&self) -> watch::Receiver<bool> {
        self.identified.subscribe()
    }

    fn unidentified(&self) -> Vec<(Unidentified, Duration)> {
        self.plaintext.seen(Instant::now())
    }

    fn outcomes(&self, now: Second) -> Outcomes {
        self.clock.follow(Instant::now(), SystemTime::now());
        let told: Vec<oneshot::Receiver<Vec<Outcome>>> = self
            .workers
            .iter()
            .map(|worker| {
                let (tell, told) = oneshot::channel();
                // A worker that is gone has nothing to tell.
                let _ = worker.send(Command::Outcomes(now, tell));
                told
            })
            .collect();
        Box::pin(async move { sum(join_all(told).await.into_iter().flatten().flatten()) })
    }

    fn standing(&self, standing: Arc<dyn Standing>) {
        // One client fills one data plane.
        let _ = self.standing.set(standing);
    }

    fn reporting(&self, news: Reporting) {
        let reports = &self.metrics.reports;
        match news {
            Reporting::Opened => reports.connected.store(1, Ordering::Relaxed),
            Reporting::Ended => reports.connected.store(0, Ordering::Relaxed),
            Reporting::Sent(outcomes) => reports.sent(outcomes),
            Reporting::Dropped(outcomes) => reports.dropped(outcomes),
        }
    }
}

/// What all workers say of a cluster and a second, as one.
fn sum(told: impl Iterator<Item = Outcome>) -> Vec<Outcome> {
    let mut sums: BTreeMap<(String, Second), Counts> = BTreeMap::new();
    for outcome in told {
        let sum = sums.entry((outcome.cluster, outcome.second)).or_default();
        sum.merge(&outcome.counts);
    }
    sums.into_iter()
        .map(|((cluster, second), counts)| Outcome {
            cluster,
            second,
            counts,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(cluster: &str, second: Second, started: u64) -> Outcome {
        Outcome {
            cluster: cluster.to_owned(),
            second,
            counts: Counts {
                started,
                ..Counts::default()
            },
        }
    }

    #[test]
    fn what_workers_say_of_the_same_second_adds_up() {
        let told = [
            started("v2", 100, 1),
            started("v1", 101, 2),
            started("v2", 100, 30),
            started("v1", 100, 400),
        ];
        let expected = [
            started("v1", 100, 400),
            started("v1", 101, 2),
            started("v2", 100, 31),
        ];
        assert_eq!(sum(told.into_iter()), expected);
    }
}
