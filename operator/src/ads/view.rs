//! What one stream has sent and heard, and what that means for one rollout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aviary_xds::server::{AcceptedCluster, RouteState, Verdict};
use aviary_xds::{DeltaServer, Kind, Resources};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// By subscribed name.
    routes: BTreeMap<String, RouteState>,
    /// By name.
    clusters: BTreeMap<String, AcceptedCluster>,
    rejected_clusters: BTreeMap<String, Arc<str>>,
}

/// Where one connected proxy stands with one rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing<'a> {
    pub(super) acknowledged: bool,
    pub(super) endpoints: bool,
    pub(super) rejection: Option<&'a Arc<str>>,
}

impl View {
    pub(super) fn of(server: &DeltaServer) -> View {
        View {
            routes: server.routes(),
            clusters: server.accepted_clusters(),
            rejected_clusters: server.rejected_clusters(),
        }
    }

    /// The names by which it subscribes to routes.
    pub(super) fn calls(&self) -> BTreeSet<&str> {
        self.routes.keys().map(String::as_str).collect()
    }

    /// The rollouts of which it may be using a route.
    pub(super) fn rollouts(&self) -> BTreeSet<&str> {
        let uses = self.routes.values().flat_map(|state| &state.uses);
        uses.map(String::as_str).collect()
    }

    /// The rollouts that may wait for it.
    pub(super) fn concerns(&self, resources: &Resources) -> BTreeSet<String> {
        let current = self.routes.keys().filter_map(|name| {
            let route = resources.resolve(Kind::Route, name)?;
            route.rollout.clone().filter(|rollout| !rollout.is_empty())
        });
        current
            .chain(self.rollouts().into_iter().map(str::to_owned))
            .collect()
    }

    /// Whether the proxy may be using a route of the rollout.
    pub(super) fn uses(&self, rollout: &str) -> bool {
        let mut uses = self.routes.values().flat_map(|state| &state.uses);
        uses.any(|each| each == rollout)
    }

    /// `None`: it has no route of the rollout.
    pub(super) fn standing(&self, rollout: &str, resources: &Resources) -> Option<Standing<'_>> {
        let mut standing: Option<Standing<'_>> = None;
        for (name, state) in &self.routes {
            let current = resources
                .resolve(Kind::Route, name)
                .filter(|current| current.rollout.as_deref() == Some(rollout));
            if current.is_none() && !state.uses.iter().any(|each| each == rollout) {
                continue;
            }
            let standing = standing.get_or_insert(Standing {
                acknowledged: true,
                endpoints: true,
                rejection: None,
            });
            // The Service is no longer the rollout's, or gone, and the proxy has not yet said that it knows.
            let Some(current) = current else {
                standing.acknowledged = false;
                standing.endpoints = false;
                continue;
            };
            standing.endpoints &= current
                .clusters
                .iter()
                .all(|name| self.has_endpoints(name, resources));
            let sent = state
                .sent
                .as_ref()
                .filter(|sent| sent.name == current.name && sent.version == current.version);
            match sent.map(|sent| &sent.verdict) {
                Some(Verdict::Accepted) => {}
                Some(Verdict::Rejected(text)) => {
                    standing.acknowledged = false;
                    standing.rejection = Some(text);
                }
                // A route whose clusters were rejected is never shown, so it is never acknowledged.
                Some(Verdict::Pending) | None => {
                    standing.acknowledged = false;
                    let mut clusters = current.clusters.iter();
                    let rejected = clusters.find_map(|name| self.rejected_clusters.get(name));
                    standing.rejection = standing.rejection.or(rejected);
                }
            }
        }
        standing
    }

    /// Whether there is anything about the endpoints behind a namespace's routes that the proxy has not accepted.
    pub(super) fn is_behind(&self, namespace: &str, resources: &Resources) -> bool {
        let routes = self.routes.keys().filter_map(|name| {
            let route = resources.resolve(Kind::Route, name)?;
            let of = route.name.split_once('/').map(|(of, _)| of);
            (of == Some(namespace)).then_some(route)
        });
        let mut clusters = routes.flat_map(|route| &route.clusters);
        clusters.any(|name| !self.has_endpoints(name, resources))
    }

    /// Whether the proxy has accepted what is served about the cluster now.
    fn has_endpoints(&self, name: &str, resources: &Resources) -> bool {
        let version = |kind: Kind| {
            let current = resources.resolve(kind, name);
            current.map(|current| current.version.as_str())
        };
        self.clusters.get(name).is_some_and(|accepted| {
            accepted.cluster.as_deref() == version(Kind::Cluster)
                && accepted.endpoints.as_deref() == version(Kind::Endpoints)
        })
    }
}
