//! The data plane as the control plane's client sees it: [`Install`] for all workers at once.

mod identity;
mod inbound;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use traffic_core::config::{SignedRevocation, Snapshot, Weight};
use traffic_core::inbound::Unidentified;
use traffic_core::outcome::{Counts, Second};
use traffic_core::revoked::RevocationMemory;

use crate::clock::WallClock;
use crate::command::Command;
use crate::control::{Install, Installed, Link, Outcome, Outcomes, Reporting};
use crate::link::LinkState;
use crate::metrics::Metrics;
use crate::plaintext::PlainCallers;
use crate::table::Table;

#[derive(Debug)]
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
        }
    }

    /// Whom the workers have seen call without an identity.
    #[must_use]
    pub fn knowing(self, plaintext: Arc<PlainCallers>) -> Data {
        Data { plaintext, ..self }
    }

    /// What the proxy does now, as JSON: routes with the weights that really hold, clusters, revocations.
    pub fn dump(&self) -> serde_json::Value {
        let (table, revocations) = {
            let state = self.state();
            (state.table.clone(), state.memory.all())
        };
        let mut destinations: Vec<(&SocketAddr, _)> = table.routes.iter().collect();
        destinations.sort_by_key(|(address, _)| **address);
        let routes = destinations.into_iter().map(|(address, ready)| {
            let Some(ready) = ready else {
                return serde_json::json!({"destination": address.to_string(), "route": null});
            };
            serde_json::json!({
                "destination": address.to_string(),
                "route": ready.route.name,
                "rollout": ready.route.rollout,
                "protocol": format!("{:?}", ready.route.protocol),
                "stable": {"revision": ready.split.stable.revision, "cluster": ready.split.stable.cluster},
                "canary": ready.split.canary.as_ref().map(|canary| serde_json::json!({
                    "revision": canary.arm.revision,
                    "cluster": canary.arm.cluster,
                    "run": canary.run,
                    "weight": canary.weight.to_string(),
                })),
                "wanted": wanted(&ready.route).to_string(),
                "picks": ready.interleaver.requests(),
            })
        });
        let mut applications: Vec<_> = table.applications.iter().collect();
        applications.sort_by_key(|(address, _)| **address);
        let applications = applications.into_iter().map(|(address, ready)| {
            let ready = ready.as_ref();
            let canary = ready.and_then(|ready| ready.split.canary.as_ref());
            serde_json::json!({
                "address": address.to_string(),
                "route": ready.map(|ready| &ready.route.name),
                "weight": canary.map(|canary| canary.weight.to_string()),
                "picks": ready.map(|ready| ready.interleaver.requests()),
            })
        });
        let mut clusters: Vec<_> = table.clusters.values().collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        let clusters = clusters.into_iter().map(|cluster| {
            let endpoints = cluster.endpoints.iter().map(|endpoint| {
                serde_json::json!({"address": endpoint.address.to_string(), "health": format!("{:?}", endpoint.health),
                    "identity": endpoint.identity.as_ref().map(|it| &*it.id), "tls": endpoint.identity.as_ref().map(|it| it.accepts)})
            });
            serde_json::json!({"name": cluster.name, "endpoints": endpoints.collect::<Vec<_>>()})
        });
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "connected": self.metrics.connected.load(Ordering::Relaxed) == 1,
            "identity": table.identity.as_ref().map(|own| serde_json::json!({"id": &*own.id, "number": own.number})),
            "inbound": table.inbound.as_deref().map(inbound::dump),
            "installs": self.metrics.installs.load(Ordering::Relaxed),
            "routes": routes.collect::<Vec<_>>(),
            "applications": applications.collect::<Vec<_>>(),
            "clusters": clusters.collect::<Vec<_>>(),
            "revocations": revocations.iter().map(|each| &each.revocation).map(|r| serde_json::json!({
                "rollout": r.rollout, "revision": r.revision, "run": r.run,
            })).collect::<Vec<_>>(),
        })
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

fn wanted(route: &traffic_core::config::Route) -> Weight {
    route
        .split
        .canary
        .as_ref()
        .map_or(Weight::ZERO, |canary| canary.weight)
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
