//! What is served, as values: the currency between the view of the mesh and the xDS server.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use aviary_xds::Resources;
use traffic_core::config::{Cluster, Route};

/// Everything that proxies may ask for. `Ads::set_world` serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// By name.
    pub routes: BTreeMap<String, RouteEntry>,
    /// By name.
    pub clusters: BTreeMap<String, Cluster>,
}

/// A route, and the addresses at which callers find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    pub route: Route,
    /// Sorted, without duplicates. No two routes share one.
    pub destinations: Vec<SocketAddr>,
}

impl World {
    /// Encodes it. What is the same in the world before is not encoded again: a weight is one route among thousands, and waits
    /// for this.
    pub fn resources(&self, before: Option<(&World, &Resources)>) -> Resources {
        let mut resources = Resources::default();
        let empty = (World::default(), Resources::default());
        let (world, encoded) = before.unwrap_or((&empty.0, &empty.1));
        for (name, entry) in &self.routes {
            let same = world.routes.get(name) == Some(entry);
            if !(same && resources.carry_route(encoded, name)) {
                resources.insert_route(&entry.route, &entry.destinations);
            }
        }
        for (name, cluster) in &self.clusters {
            let same = world.clusters.get(name) == Some(cluster);
            if !(same && resources.carry_cluster(encoded, name)) {
                resources.insert_cluster(cluster);
            }
        }
        resources
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aviary_xds::Kind;
    use traffic_core::config::{Arm, Protocol, Split};

    use super::*;

    fn add(world: &mut World, service: &str, revision: &str) {
        let name = format!("shop/{service}/80");
        let arm = Arm {
            cluster: format!("{name}/{revision}"),
            revision: revision.to_owned(),
        };
        let cluster = Cluster {
            name: arm.cluster.clone(),
            endpoints: Vec::new(),
        };
        world.clusters.insert(cluster.name.clone(), cluster);
        let route = Route {
            name: name.clone(),
            namespace: "shop".to_owned(),
            service: service.to_owned(),
            port: 80,
            protocol: Protocol::Detect,
            rollout: format!("shop/{service}"),
            split: Split {
                stable: arm,
                canary: None,
            },
            revoked: Vec::new(),
        };
        world.routes.insert(
            name,
            RouteEntry {
                route,
                destinations: Vec::new(),
            },
        );
    }

    #[test]
    fn only_what_changed_is_encoded_again() {
        let mut before = World::default();
        add(&mut before, "web", "v1");
        add(&mut before, "api", "v1");
        let old = before.resources(None);
        let mut after = before.clone();
        add(&mut after, "web", "v2");
        after.clusters.remove("shop/web/80/v1");
        let new = after.resources(Some((&before, &old)));
        let same = |kind, name: &str| match (old.resolve(kind, name), new.resolve(kind, name)) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, _) | (_, None) => false,
        };
        assert!(same(Kind::Route, "shop/api/80") && same(Kind::Endpoints, "shop/api/80/v1"));
        let version = |world: &Resources| {
            world
                .resolve(Kind::Route, "shop/web/80")
                .unwrap()
                .version
                .clone()
        };
        assert_ne!(version(&old), version(&new));
        assert_eq!(
            version(&new),
            version(&after.resources(None)),
            "carried over or not, it is the same world"
        );
        assert!(
            new.resolve(Kind::Cluster, "shop/web/80/v1").is_none(),
            "what is gone is not carried over"
        );
    }
}
