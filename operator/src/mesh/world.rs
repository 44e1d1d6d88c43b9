//! What is served, as values: the currency between the view of the mesh and the xDS server.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use traffic_core::config::{Cluster, Inbound, Route};

use super::Callers;
use crate::key::Key;

/// Everything that proxies may ask for. `Ads::set_world` serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// By name.
    pub routes: BTreeMap<String, RouteEntry>,
    /// By name.
    pub clusters: BTreeMap<String, Cluster>,
    /// What the sidecars do with what comes in, by pod.
    pub inbound: BTreeMap<Key, Inbound>,
    /// Who may call the pods of a rollout (`<namespace>/<name>`); one that is missing is everybody's.
    pub callers: BTreeMap<String, Callers>,
}

/// A route, and the addresses at which callers find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    pub route: Route,
    /// Sorted, without duplicates. No two routes share one.
    pub destinations: Vec<SocketAddr>,
    /// The addresses of its endpoints, while there is something to split: their sidecars ask for the route, to pick for callers that have none. Sorted, without
    /// duplicates.
    pub applications: Vec<SocketAddr>,
}

/// What is different in another world; `None`: it is not there any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorldChange {
    /// By name.
    pub routes: BTreeMap<String, Option<RouteEntry>>,
    /// By name.
    pub clusters: BTreeMap<String, Option<Cluster>>,
    /// By pod.
    pub inbound: BTreeMap<Key, Option<Inbound>>,
    /// By rollout.
    pub callers: BTreeMap<String, Option<Callers>>,
}

impl WorldChange {
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
            && self.clusters.is_empty()
            && self.inbound.is_empty()
            && self.callers.is_empty()
    }
}

impl World {
    /// Says whether that made it another world.
    pub fn apply(&mut self, change: WorldChange) -> bool {
        let routes = put(&mut self.routes, change.routes);
        let clusters = put(&mut self.clusters, change.clusters);
        let inbound = put(&mut self.inbound, change.inbound);
        let callers = put(&mut self.callers, change.callers);
        routes || clusters || inbound || callers
    }
}

fn put<K: Ord, T: PartialEq>(all: &mut BTreeMap<K, T>, change: BTreeMap<K, Option<T>>) -> bool {
    let mut changed = false;
    for (name, item) in change {
        changed |= match item {
            Some(item) if all.get(&name) == Some(&item) => false,
            Some(item) => {
                all.insert(name, item);
                true
            }
            None => all.remove(&name).is_some(),
        };
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, change: bool) -> (String, Option<Cluster>) {
        let cluster = Cluster {
            name: name.to_owned(),
            endpoints: Vec::new(),
        };
        (name.to_owned(), change.then_some(cluster))
    }

    #[test]
    fn a_change_that_changes_nothing_makes_no_other_world() {
        let mut world = World::default();
        let change = |name: &str, is: bool| WorldChange {
            clusters: [cluster(name, is)].into(),
            ..WorldChange::default()
        };
        assert!(world.apply(change("a", true)));
        assert!(!world.apply(change("a", true)) && !world.apply(change("b", false)));
        assert!(world.apply(change("a", false)) && world == World::default());
    }
}
