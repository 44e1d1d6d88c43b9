//! This pod's application as one of a route's endpoints: where a caller without a sidecar came to, and may have to be sent on from.
//!
//! kube-proxy spreads such callers over the pods, whatever weight a release has. So the called pod picks the revision. Where that is its own, the application gets
//! the request; where it is not, it goes on to a pod that has it, with the mark of a sidecar that has picked, so that nobody picks again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use traffic_core::config::Cluster;
use traffic_core::split::Pick;

use super::destination::LocalRoute;

#[derive(Debug)]
pub struct Application {
    pub route: Rc<LocalRoute>,
    is_stable: bool,
    is_canary: bool,
}

impl Application {
    /// At `address`. `None`: the route has nothing to split.
    pub(super) fn new(
        route: Rc<LocalRoute>,
        address: SocketAddr,
        clusters: &HashMap<String, Arc<Cluster>>,
    ) -> Option<Rc<Application>> {
        let split = &route.ready.split;
        // Also one that is not ready, or about to leave: who comes to it all the same is served.
        let is_in = |cluster: &str| {
            let cluster = clusters.get(cluster);
            cluster.is_some_and(|it| it.endpoints.iter().any(|each| each.address == address))
        };
        let canary = split.canary.as_ref()?;
        Some(Rc::new(Application {
            is_stable: is_in(&split.stable.cluster),
            is_canary: is_in(&canary.arm.cluster),
            route,
        }))
    }

    /// Whether it is of the revision that a pick leads to.
    pub fn is_picked(&self, pick: Pick) -> bool {
        match pick {
            Pick::Stable => self.is_stable,
            Pick::Canary => self.is_canary,
        }
    }
}
