//! A snapshot, made ready for the workers: revocations applied, splits and metric handles resolved, once for all of them.
//!
//! What did not change is carried over. A route whose canary (revision, run) and effective weight are the same keeps its
//! [`Interleaver`]: one weight epoch is one exact sequence of picks, however many snapshots pass meanwhile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use traffic_core::config::{Arm, Cluster, Inbound, Route, Snapshot, Split, Weight};
use traffic_core::revoked::{self, RevocationMemory};
use traffic_core::split::sticky::{self, Head, Key, Seed};
use traffic_core::split::{Interleaver, Pick};

use crate::identity::Generation;
use crate::metrics::{ArmMetrics, Metrics, Source};

/// Everything a worker needs to serve, by original destination.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// `None`: the control plane knows no route there.
    pub routes: HashMap<SocketAddr, Option<Arc<ReadyRoute>>>,
    /// By an address of this pod's. With splits of their own: what comes in and what goes out are two sequences.
    pub applications: HashMap<SocketAddr, Option<Arc<ReadyRoute>>>,
    pub clusters: HashMap<String, Arc<Cluster>>,
    /// What this proxy is to others. It travels with the clusters: a worker never has the endpoints of one moment and the roots of another.
    pub identity: Option<Arc<Generation>>,
    /// What to do with what comes in. `None`: the control plane has not said.
    pub inbound: Option<Arc<Inbound>>,
}

/// A route with the split that really holds.
#[derive(Debug)]
pub struct ReadyRoute {
    pub route: Arc<Route>,
    /// After revocations.
    pub split: Split,
    pub interleaver: Arc<Interleaver>,
    /// Where requests go that say whose they are; `None`: nobody asks them.
    pub sticky: Option<Sticky>,
    pub stable: Arc<ArmMetrics>,
    pub canary: Option<Arc<ArmMetrics>>,
}

/// Users and where they go.
#[derive(Debug)]
pub struct Sticky {
    key: Key,
    seed: Seed,
    weight: Weight,
}

impl Sticky {
    fn of(route: &Route, split: &Split) -> Option<Sticky> {
        let canary = split.canary.as_ref()?;
        Some(Sticky {
            key: canary.sticky.clone()?,
            seed: Seed::of(&route.rollout, canary.run),
            weight: canary.weight,
        })
    }

    /// Where a request's user goes; `None`: it does not say whose it is.
    pub fn pick(&self, head: &impl Head) -> Option<Pick> {
        let user = self.key.read(head)?;
        Some(sticky::pick(self.weight, self.seed, user))
    }
}

impl Table {
    /// Prepares `snapshot`. `seed` gives a new weight epoch its random places.
    pub fn prepare(
        snapshot: &Snapshot,
        previous: &Table,
        memory: &RevocationMemory,
        metrics: &Metrics,
        mut seed: impl FnMut() -> u64,
    ) -> Table {
        let mut ready = |routes: &HashMap<_, _>, previous: &Routes, source: Source| {
            let of = |route: &Route, revision: &str| metrics.arm_of(route, revision, source);
            self::ready(routes, previous, memory, of, &mut seed)
        };
        Table {
            routes: ready(&snapshot.routes, &previous.routes, Source::Application),
            applications: ready(
                &snapshot.applications,
                &previous.applications,
                Source::Outside,
            ),
            clusters: snapshot.clusters.clone(),
            identity: previous.identity.clone(),
            inbound: snapshot.inbound.clone(),
        }
    }
}

type Routes = HashMap<SocketAddr, Option<Arc<ReadyRoute>>>;

/// Makes routes ready, with what they had before.
fn ready(
    routes: &HashMap<SocketAddr, Option<Arc<Route>>>,
    previous: &Routes,
    memory: &RevocationMemory,
    metrics: impl Fn(&Route, &str) -> Arc<ArmMetrics>,
    seed: &mut impl FnMut() -> u64,
) -> Routes {
    let before: HashMap<&str, &Arc<ReadyRoute>> = previous
        .values()
        .flatten()
        .map(|ready| (ready.route.name.as_str(), ready))
        .collect();
    // Several addresses (IPv4 and IPv6) may lead to one route; they share its split.
    let mut ready: HashMap<&str, Arc<ReadyRoute>> = HashMap::new();
    for route in routes.values().flatten() {
        ready.entry(&route.name).or_insert_with(|| {
            let split = revoked::effective(route, memory);
            match before.get(route.name.as_str()) {
                Some(&old) if *old.route == **route && old.split == split => old.clone(),
                old => {
                    let old = old.map(|old| &***old);
                    Arc::new(ReadyRoute::new(route, split, old, &metrics, seed))
                }
            }
        });
    }
    let routes = routes.iter().map(|(address, route)| {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let ready = route
            .as_ref()
            .and_then(|route| ready.get(route.name.as_str()).cloned());
        (address, ready)
    });
    routes.collect()
}

impl ReadyRoute {
    fn new(
        route: &Arc<Route>,
        split: Split,
        old: Option<&ReadyRoute>,
        metrics: impl Fn(&Route, &str) -> Arc<ArmMetrics>,
        seed: &mut impl FnMut() -> u64,
    ) -> ReadyRoute {
        let interleaver = match old {
            Some(old) if epoch(&old.split) == epoch(&split) => old.interleaver.clone(),
            Some(_) | None => Arc::new(Interleaver::new(weight(&split), seed())),
        };
        let of = |arm: &Arm| metrics(route, &arm.revision);
        ReadyRoute {
            stable: of(&split.stable),
            canary: split.canary.as_ref().map(|canary| of(&canary.arm)),
            sticky: Sticky::of(route, &split),
            route: route.clone(),
            split,
            interleaver,
        }
    }
}

fn weight(split: &Split) -> Weight {
    split
        .canary
        .as_ref()
        .map_or(Weight::ZERO, |canary| canary.weight)
}

/// What makes a weight epoch: the same sequence of picks goes on as long as this does not change.
fn epoch(split: &Split) -> (Weight, Option<(&str, u64)>) {
    (
        weight(split),
        split
            .canary
            .as_ref()
            .map(|canary| (canary.arm.revision.as_str(), canary.run)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic_core::bounds::Bounds;
    use traffic_core::config::{CanaryArm, Protocol, Revocation};
    use traffic_core::lease::Lease;

    fn arm(revision: &str) -> Arm {
        Arm {
            cluster: format!("shop/web/80/{revision}"),
            revision: revision.into(),
        }
    }

    fn snapshot(percent: u32, run: u64) -> Snapshot {
        let canary = CanaryArm {
            arm: arm("v2"),
            weight: Weight::percent(percent).unwrap(),
            run,
            lease: Lease::Unlimited,
            fuse: None,
            sticky: None,
        };
        let route = Arc::new(Route {
            name: "shop/web/80".into(),
            namespace: "shop".into(),
            service: "web".into(),
            port: 80,
            protocol: Protocol::Detect,
            rollout: "shop/web".into(),
            split: Split {
                stable: arm("v1"),
                canary: Some(canary),
            },
            bounds: Bounds::default(),
            revoked: vec![],
        });
        let addresses =
            ["10.0.0.1:80", "[fd00::1]:80"].map(|a| (a.parse().unwrap(), Some(route.clone())));
        Snapshot {
            routes: addresses.into_iter().collect(),
            applications: HashMap::from([("10.1.0.1:8080".parse().unwrap(), Some(route))]),
            clusters: HashMap::new(),
            inbound: None,
        }
    }

    fn ready(table: &Table) -> Arc<ReadyRoute> {
        table.routes[&"10.0.0.1:80".parse().unwrap()]
            .clone()
            .unwrap()
    }

    fn prepare(snapshot: &Snapshot, previous: &Table, memory: &RevocationMemory) -> Table {
        Table::prepare(snapshot, previous, memory, &Metrics::default(), || 1)
    }

    #[test]
    fn both_addresses_of_a_service_share_one_split() {
        let table = prepare(
            &snapshot(10, 1),
            &Table::default(),
            &RevocationMemory::default(),
        );
        let other = table.routes[&"[fd00::1]:80".parse().unwrap()]
            .clone()
            .unwrap();
        assert!(Arc::ptr_eq(&ready(&table), &other));
    }

    #[test]
    fn what_comes_in_has_a_split_and_series_of_its_own() {
        let table = prepare(
            &snapshot(10, 1),
            &Table::default(),
            &RevocationMemory::default(),
        );
        let inside = table.applications[&"10.1.0.1:8080".parse().unwrap()].clone();
        let (inside, outbound) = (inside.unwrap(), ready(&table));
        assert_eq!(inside.split, outbound.split);
        assert!(!Arc::ptr_eq(&inside.interleaver, &outbound.interleaver));
        assert!(!Arc::ptr_eq(&inside.stable, &outbound.stable));
        let same = prepare(&snapshot(10, 1), &table, &RevocationMemory::default());
        let again = same.applications[&"10.1.0.1:8080".parse().unwrap()].clone();
        assert!(Arc::ptr_eq(&inside, &again.unwrap()));
    }

    #[test]
    fn an_epoch_ends_with_its_weight_or_its_run_and_with_nothing_else() {
        let memory = RevocationMemory::default();
        let first = prepare(&snapshot(10, 1), &Table::default(), &memory);
        let same = prepare(&snapshot(10, 1), &first, &memory);
        assert!(Arc::ptr_eq(&ready(&first), &ready(&same)));
        for changed in [snapshot(20, 1), snapshot(10, 2)] {
            let next = prepare(&changed, &first, &memory);
            assert!(!Arc::ptr_eq(
                &ready(&first).interleaver,
                &ready(&next).interleaver
            ));
        }
    }

    #[test]
    fn a_revoked_run_is_prepared_at_weight_zero() {
        let mut memory = RevocationMemory::default();
        let revocation = Revocation {
            rollout: "shop/web".into(),
            revision: "v2".into(),
            run: 1,
        };
        memory.learn(&[revocation.into()]);
        let table = prepare(&snapshot(50, 1), &Table::default(), &memory);
        assert_eq!(ready(&table).interleaver.weight(), Weight::ZERO);
        assert_eq!(weight(&ready(&table).split), Weight::ZERO);
    }
}
