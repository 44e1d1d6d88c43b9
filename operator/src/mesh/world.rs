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
    /// Encodes all of it.
    pub fn resources(&self) -> Resources {
        let mut resources = Resources::default();
        for entry in self.routes.values() {
            resources.insert_route(&entry.route, &entry.destinations);
        }
        for cluster in self.clusters.values() {
            resources.insert_cluster(cluster);
        }
        resources
    }
}
