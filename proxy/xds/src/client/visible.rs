//! What of all that was received the data plane is shown: routes whose clusters are known, with the weights that are still lent.

use std::collections::BTreeSet;
use std::sync::Arc;

use traffic_core::config::{Cluster, Route, Snapshot, Wanted, Weight};

use super::{
    Answer, DeltaClient, Destination, HeldCluster, HeldRoute, Output, Shown, leases, subscribe,
};
use crate::Request;
use crate::kind::Kind;

impl DeltaClient {
    /// Makes visible what is complete.
    pub(super) fn show(&mut self) {
        for destination in self.destinations.values_mut() {
            match &destination.answer {
                Answer::Awaited => {}
                Answer::Nowhere => destination.shown = Some(Shown::PassThrough),
                Answer::Route(name) => {
                    let known = |name: &String| {
                        self.clusters
                            .get(name)
                            .is_some_and(HeldCluster::is_complete)
                    };
                    let complete = |held: &&Arc<HeldRoute>| clusters_in_use(&held.route).all(known);
                    if let Some(held) = self.routes.get(name).filter(complete) {
                        destination.shown = Some(Shown::Route(Arc::clone(held)));
                    }
                }
            }
        }
    }

    pub(super) fn forget_routes(&mut self) {
        let answers = self
            .destinations
            .values()
            .filter_map(|each| match &each.answer {
                Answer::Route(name) => Some(name.as_str()),
                Answer::Awaited | Answer::Nowhere => None,
            });
        let named: BTreeSet<&str> = answers.collect();
        self.routes.retain(|name, _| named.contains(name.as_str()));
        let shown = self.destinations.values().filter_map(shown_route);
        let held = self.routes.values().chain(shown);
        let held: BTreeSet<(&str, &str)> = held
            .map(|held| (held.route.name.as_str(), held.version.as_str()))
            .collect();
        self.leases
            .retain(|(name, version)| held.contains(&(name.as_str(), version.as_str())));
    }

    pub(super) fn wanted_clusters(&self) -> BTreeSet<String> {
        let visible = self.destinations.values().filter_map(shown_route);
        self.routes
            .values()
            .chain(visible)
            .flat_map(|held| clusters_of(&held.route))
            .cloned()
            .collect()
    }

    pub(super) fn follow_clusters(&mut self, output: &mut Output) {
        let wanted = self.wanted_clusters();
        let fresh: Vec<String> = wanted
            .iter()
            .filter(|name| !self.clusters.contains_key(*name))
            .cloned()
            .collect();
        let unneeded: Vec<String> = self
            .clusters
            .keys()
            .filter(|name| !wanted.contains(*name))
            .cloned()
            .collect();
        self.clusters.retain(|name, _| wanted.contains(name));
        self.clusters.extend(
            fresh
                .iter()
                .map(|name| (name.clone(), HeldCluster::default())),
        );
        if fresh.is_empty() && unneeded.is_empty() {
            return;
        }
        for kind in [Kind::Cluster, Kind::Endpoints] {
            let unsubscribe = unneeded.clone();
            output.requests.push(Request {
                resource_names_unsubscribe: unsubscribe,
                ..subscribe(kind, fresh.clone())
            });
        }
    }

    pub(super) fn publish(&mut self, output: &mut Output) {
        let mut snapshot = Snapshot::default();
        for (destination, Destination { shown, answer: _ }) in &self.destinations {
            match shown {
                None => {}
                Some(Shown::PassThrough) => put(&mut snapshot, *destination, None),
                Some(Shown::Route(held)) => {
                    let route = if self.leases.has_lapsed(&held.route.name, &held.version) {
                        Arc::new(leases::decayed(&held.route))
                    } else {
                        Arc::clone(&held.route)
                    };
                    put(&mut snapshot, *destination, Some(route));
                    for name in clusters_of(&held.route) {
                        let known = self
                            .clusters
                            .get(name)
                            .and_then(|held| held.cluster.clone());
                        let cluster = known.unwrap_or_else(|| Arc::new(nobody(name)));
                        snapshot.clusters.insert(name.clone(), cluster);
                    }
                }
            }
        }
        snapshot.inbound = self.inbound.as_ref().map(|held| Arc::clone(&held.inbound));
        let Snapshot {
            routes,
            applications,
            clusters,
            inbound,
        } = &snapshot;
        let shown = &self.snapshot;
        if (routes, applications) == (&shown.routes, &shown.applications)
            && (clusters, inbound) == (&shown.clusters, &shown.inbound)
        {
            return;
        }
        self.snapshot = Arc::new(snapshot);
        self.generation.0 += 1;
        output.snapshot = Some((self.generation, Arc::clone(&self.snapshot)));
    }
}

impl HeldCluster {
    fn is_complete(&self) -> bool {
        self.cluster_version.is_some() && self.endpoints_version.is_some()
    }
}

fn put(snapshot: &mut Snapshot, wanted: Wanted, route: Option<Arc<Route>>) {
    match wanted {
        Wanted::Destination(address) => snapshot.routes.insert(address, route),
        Wanted::Application(address) => snapshot.applications.insert(address, route),
    };
}

fn shown_route(destination: &Destination) -> Option<&Arc<HeldRoute>> {
    match &destination.shown {
        Some(Shown::Route(held)) => Some(held),
        Some(Shown::PassThrough) | None => None,
    }
}

pub(super) fn clusters_of(route: &Route) -> impl Iterator<Item = &String> {
    std::iter::once(&route.split.stable.cluster)
        .chain(route.split.canary.iter().map(|canary| &canary.arm.cluster))
}

/// Those that get requests.
fn clusters_in_use(route: &Route) -> impl Iterator<Item = &String> {
    let canary = route
        .split
        .canary
        .iter()
        .filter(|canary| canary.weight != Weight::ZERO);
    std::iter::once(&route.split.stable.cluster).chain(canary.map(|canary| &canary.arm.cluster))
}

/// A cluster of which nothing is known yet.
fn nobody(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        endpoints: Vec::new(),
    }
}
