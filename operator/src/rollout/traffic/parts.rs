//! What was published last, Service by Service: only what is asked for later.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::core::v1::Service;
use traffic_core::config::Weight;

use crate::key::Key;
use crate::mesh::{self, Addresses, Finding, Part, Selection, WorldChange};

#[derive(Default)]
pub(super) struct Parts {
    pub(super) selection: Selection,
    pub(super) addresses: Addresses,
    by_service: HashMap<Key, Known>,
    /// The Services whose traffic is split for a rollout.
    of_rollout: HashMap<Key, BTreeSet<Key>>,
}

/// One Service's part, as far as it is asked for later.
#[derive(Debug, Default)]
pub(super) struct Known {
    rollout: Option<Key>,
    /// Names.
    pub(super) routes: Box<[String]>,
    clusters: Box<[String]>,
    /// The least of its canary's weights.
    pub(super) weight: Option<Weight>,
    /// Endpoints that are of none of the rollout's revisions.
    pub(super) strangers: Box<[String]>,
    findings: Box<[Finding]>,
}

impl Parts {
    pub(super) fn keys(&self) -> Vec<Key> {
        self.by_service.keys().cloned().collect()
    }

    /// Notes what a Service selects and where it is called; `None`: it does not exist. Other Services that this concerns are in
    /// the answer.
    pub(super) fn place(&mut self, key: &Key, service: Option<&Service>) -> Vec<Key> {
        self.selection.set_service(key, service);
        let addresses = service.map(mesh::addresses_of).unwrap_or_default();
        self.addresses.set(key, addresses)
    }

    /// What was published of a rollout's Services.
    pub(super) fn of_rollout(&self, rollout: &Key) -> impl Iterator<Item = &Known> {
        let services = self.of_rollout.get(rollout).into_iter().flatten();
        services.filter_map(|service| self.by_service.get(service))
    }

    /// The Service's part is this from now on. Adds to `change` what is to be published, and gives the rollouts that it concerns.
    pub(super) fn put(
        &mut self,
        key: &Key,
        part: Option<Part>,
        change: &mut WorldChange,
    ) -> BTreeSet<Key> {
        let known = part.as_ref().map(|part| Known::of(key, part));
        let before = match known {
            Some(known) => self.by_service.insert(key.clone(), known),
            None => self.by_service.remove(key),
        };
        let now = self.by_service.get(key);
        let (old, new) = (
            before.as_ref().and_then(|known| known.rollout.clone()),
            now.and_then(|known| known.rollout.clone()),
        );
        if old != new {
            if let Some(old) = &old
                && let Some(services) = self.of_rollout.get_mut(old)
            {
                services.remove(key);
                if services.is_empty() {
                    self.of_rollout.remove(old);
                }
            }
            if let Some(new) = &new {
                self.of_rollout
                    .entry(new.clone())
                    .or_default()
                    .insert(key.clone());
            }
        }
        for finding in now.into_iter().flat_map(|known| &known.findings) {
            let said = before
                .as_ref()
                .is_some_and(|before| before.findings.contains(finding));
            if said {
                continue;
            }
            match finding {
                Finding::Annotation { .. } => tracing::warn!("{finding}"),
                Finding::FaultsOff { .. } => tracing::info!("{finding}"),
                Finding::SharedService { .. }
                | Finding::NotExclusive { .. }
                | Finding::StableEmpty { .. }
                | Finding::SharedAddress { .. } => {
                    tracing::info!(%finding, "not everything goes through the split");
                }
            }
        }
        // First what is gone, then what is there: a name that stays is there.
        let gone = before.unwrap_or_default();
        change
            .routes
            .extend(gone.routes.into_iter().map(|name| (name, None)));
        change
            .clusters
            .extend(gone.clusters.into_iter().map(|name| (name, None)));
        let part = part.unwrap_or_default();
        let routes = part.routes.into_iter();
        change
            .routes
            .extend(routes.map(|entry| (entry.route.name.clone(), Some(entry))));
        let clusters = part.clusters.into_iter();
        change
            .clusters
            .extend(clusters.map(|cluster| (cluster.name.clone(), Some(cluster))));
        old.into_iter().chain(new).collect()
    }
}

impl Known {
    fn of(service: &Key, part: &Part) -> Known {
        let canaries = part
            .routes
            .iter()
            .filter_map(|entry| entry.route.split.canary.as_ref());
        let strangers = part.findings.iter().filter_map(|finding| match finding {
            Finding::NotExclusive { endpoint, .. } => Some(endpoint.clone()),
            Finding::StableEmpty { .. }
            | Finding::Annotation { .. }
            | Finding::FaultsOff { .. }
            | Finding::SharedService { .. }
            | Finding::SharedAddress { .. } => None,
        });
        let name = |rollout: &String| Key::read(rollout);
        debug_assert!(
            part.rollout.is_none()
                || part
                    .rollout
                    .as_ref()
                    .and_then(name)
                    .is_some_and(|key| key.namespace == service.namespace)
        );
        Known {
            rollout: part.rollout.as_ref().and_then(name),
            routes: part
                .routes
                .iter()
                .map(|entry| entry.route.name.clone())
                .collect(),
            clusters: part
                .clusters
                .iter()
                .map(|cluster| cluster.name.clone())
                .collect(),
            weight: canaries.map(|canary| canary.weight).min(),
            strangers: strangers.collect(),
            findings: part.findings.clone().into(),
        }
    }
}
