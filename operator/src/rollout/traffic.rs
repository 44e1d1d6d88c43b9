//! What the proxies are told: the splits of all rollouts, and the world made of them and of the views, Service by Service.
//!
//! A change makes anew what belongs to it: who depends on what is known by the links of the views, and by which Services select
//! whose pods. A split is published at once; changes of endpoints are gathered for a moment first. Nothing is published before
//! every rollout has said its split once, so a fresh operator never serves a world in which a canary is missing.

mod business;
mod parts;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::plan::Percent;
use rollout_core::state::{Revoked, State};
use rollout_core::{CanarySplit, Split};
use traffic_core::config::Revocation;
use traffic_core::fuse::Tolerance;
use traffic_core::spiffe::TrustDomain;
use traffic_core::split::sticky;

use super::changes::Change;
use super::heard::Sent;
use super::identities::Identities;
use super::inbounds::Inbounds;
use super::revisions::{Named, Revisions};
use super::views::{By, Views};
use crate::key::Key;
use crate::mesh::{self, TargetSplit, WorldChange};
use crate::strict::Demanded;

use business::Business;
use parts::{Known, Parts};

/// How one rollout's traffic is to go.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutSplit {
    deployment: String,
    pod_labels: BTreeMap<String, String>,
    stable: String,
    /// What the machine calls the Deployment's present template.
    target: String,
    split: Split,
    fuse: Option<Tolerance>,
    sticky: Option<sticky::Key>,
    /// Copies of these revisions get nothing any more.
    retired: BTreeSet<String>,
    revoked: Vec<Revoked>,
}

impl RolloutSplit {
    pub fn of(
        deployment: &DynamicObject,
        state: &State,
        split: Split,
        retired: BTreeSet<String>,
    ) -> RolloutSplit {
        let labels = deployment.data.pointer("/spec/template/metadata/labels");
        RolloutSplit {
            deployment: deployment.name_any(),
            pod_labels: serde_json::from_value(labels.cloned().unwrap_or_default())
                .unwrap_or_default(),
            stable: state.stable.revision.clone(),
            target: state.target.revision.clone(),
            split,
            fuse: None,
            sticky: None,
            retired,
            revoked: state.revoked.clone(),
        }
    }

    /// Proxies hold requests back from its canary by themselves.
    pub fn with_fuse(self, fuse: Option<Tolerance>) -> RolloutSplit {
        RolloutSplit { fuse, ..self }
    }

    /// Requests that say by this whose they are follow their users.
    pub fn with_sticky(self, sticky: Option<sticky::Key>) -> RolloutSplit {
        RolloutSplit { sticky, ..self }
    }

    fn canary(&self) -> Option<&CanarySplit> {
        match &self.split {
            Split::Canary(canary) => Some(canary),
            Split::All | Split::Stable => None,
        }
    }
}

/// The splits of all rollouts, and what was made of them last.
#[derive(Default)]
pub struct Traffic {
    pub(super) identities: Identities,
    inbounds: Inbounds,
    splits: Splits,
    /// Rollouts whose splits are others than those that the parts were made with, and what those were.
    before: BTreeMap<Key, Option<RolloutSplit>>,
    parts: Parts,
    business: Business,
    stale: Stale,
    sent: HashMap<Key, Sent>,
}

/// What is to be published, and whom it concerns.
#[derive(Debug, Default)]
pub struct Published {
    pub change: WorldChange,
    /// Rollouts of which something else is sent now.
    pub told: BTreeSet<Key>,
}

/// The Services whose parts are to be made anew.
#[derive(Default)]
enum Stale {
    #[default]
    All,
    Some(BTreeSet<Key>),
}

impl Stale {
    fn add(&mut self, services: impl IntoIterator<Item = Key>) {
        match self {
            Stale::All => {}
            Stale::Some(stale) => stale.extend(services),
        }
    }
}

#[derive(Default)]
struct Splits {
    by_rollout: HashMap<Key, RolloutSplit>,
    /// How many rollouts say that of a revision (its namespace and name).
    retired: HashMap<Key, usize>,
}

impl Named for Splits {
    fn target(&self, rollout: &Key) -> Option<&str> {
        self.by_rollout
            .get(rollout)
            .map(|split| split.target.as_str())
    }

    fn retired(&self, revision: &Key) -> bool {
        self.retired.contains_key(revision)
    }
}

impl Splits {
    fn put(&mut self, key: &Key, split: Option<RolloutSplit>) -> Option<RolloutSplit> {
        for revision in split.iter().flat_map(|split| &split.retired) {
            *self.retired.entry(key.beside(revision)).or_default() += 1;
        }
        let before = match split {
            Some(split) => self.by_rollout.insert(key.clone(), split),
            None => self.by_rollout.remove(key),
        };
        for revision in before.iter().flat_map(|split| &split.retired) {
            let revision = key.beside(revision);
            if let Some(count) = self.retired.get_mut(&revision) {
                *count -= 1;
                if *count == 0 {
                    self.retired.remove(&revision);
                }
            }
        }
        before
    }
}

impl Traffic {
    /// Which trust domain pods have their names of.
    pub(super) fn naming(&mut self, domain: TrustDomain) {
        self.inbounds.domain = Some(domain.clone());
        self.identities = Identities::of(domain);
    }

    /// Where plaintext is refused.
    pub(super) fn demanding(&mut self, demanded: &Demanded) {
        self.identities.demanding(demanded.clone());
        self.inbounds.demanded = demanded.clone();
    }

    /// How one rollout's traffic is to go from now on; `None`: its Services are balanced over all pods. Says whether that is
    /// another way than before.
    pub fn set(&mut self, key: &Key, split: Option<RolloutSplit>) -> bool {
        if self.splits.by_rollout.get(key) == split.as_ref() {
            return false;
        }
        let before = self.splits.put(key, split);
        self.before.entry(key.clone()).or_insert(before);
        true
    }

    /// What was published last.
    pub fn sent(&self, key: &Key) -> Sent {
        self.sent.get(key).cloned().unwrap_or_default()
    }

    /// Notes what a change is about. Says whether there may be something to publish.
    pub(super) fn touch(&mut self, views: &Views, change: &Change) -> bool {
        self.inbounds.touch(views, change);
        match change {
            Change::Everything => {
                self.stale = Stale::All;
                self.business.touch(self.splits.by_rollout.keys().cloned());
            }
            Change::Service(service) | Change::Endpoints(service) => {
                self.stale.add([service.clone()]);
            }
            Change::Pod(pod) => self.stale.add(services_of(views, pod)),
            Change::ReplicaSet(set) => self.stale.add(services_of_set(views, set)),
            Change::Revisions(deployment) => {
                self.stale.add(services_of_deployment(views, deployment));
            }
            // The endpoints of all its pods are others now.
            Change::Demand(namespace) => {
                let pods = views.pods.by(By::Namespace, &Key::new(namespace, ""));
                let services = pods.iter().flat_map(|pod| services_of(views, &pod.key));
                self.stale.add(services);
            }
            Change::Policy(policy) => {
                let rollouts = self.splits.by_rollout.keys();
                let its = rollouts.filter(|rollout| rollout.namespace == policy.namespace);
                self.business.touch(its.cloned());
            }
            Change::Rollout(_)
            | Change::Target(_)
            | Change::Deployment(_)
            | Change::Claim(_)
            | Change::Lacking { .. }
            | Change::Namespace(_) => return false,
        }
        true
    }

    /// The world as it is to be now, as far as it is another one than what was published last.
    pub fn publish(&mut self, views: &Views) -> Published {
        let mut told: BTreeSet<Key> = BTreeSet::new();
        for (key, before) in std::mem::take(&mut self.before) {
            self.resplit(views, &key, before.as_ref());
            self.business.touch([key.clone()]);
            told.insert(key);
        }
        let mut todo: BTreeSet<Key> =
            match std::mem::replace(&mut self.stale, Stale::Some(BTreeSet::new())) {
                Stale::All => views
                    .services
                    .keys()
                    .into_iter()
                    .chain(self.parts.keys())
                    .collect(),
                Stale::Some(stale) => stale,
            };
        let services: Vec<Key> = todo.iter().cloned().collect();
        for key in services {
            let service = views.service(&key);
            todo.extend(self.parts.place(&key, service.as_deref()));
        }
        let mut change = WorldChange::default();
        let pods = Revisions::new(views, &self.splits, &self.identities);
        for key in todo {
            let part = views.service(&key).map(|service| {
                let candidates = self.parts.selection.rollouts_for(&service);
                let targets: Vec<TargetSplit> = candidates
                    .iter()
                    .filter_map(|rollout| {
                        Some(target(rollout, self.splits.by_rollout.get(rollout)?))
                    })
                    .filter(|target| mesh::selects(&service, target))
                    .collect();
                let addresses = &self.parts.addresses;
                let objects = mesh::Objects {
                    service: &service,
                    slices: &views.slices.by(By::Service, &key),
                    pods: &pods,
                    owns: &|address| addresses.owns(&key, address),
                };
                mesh::part(objects, &targets)
            });
            told.extend(self.parts.put(&key, part, &mut change));
        }
        self.inbounds.publish(views, &mut change);
        self.business
            .publish(views, &self.splits.by_rollout, &mut change);
        told.retain(|key| self.resend(key));
        Published { change, told }
    }

    /// The whole world, made of nothing but the splits and the views.
    #[cfg(test)]
    pub(super) fn afresh(&self, views: &Views) -> mesh::World {
        let mut traffic = Traffic {
            identities: self.identities.clone(),
            ..Traffic::default()
        };
        traffic.inbounds = self.inbounds.afresh();
        for (key, split) in &self.splits.by_rollout {
            traffic.set(key, Some(split.clone()));
        }
        let mut world = mesh::World::default();
        world.apply(traffic.publish(views).change);
        world
    }

    /// A rollout's split is another one: notes whose parts are made with it.
    fn resplit(&mut self, views: &Views, key: &Key, before: Option<&RolloutSplit>) {
        let after = self.splits.by_rollout.get(key);
        let none = BTreeMap::new();
        let labels = |split: Option<&RolloutSplit>| {
            split.map_or(none.clone(), |split| split.pod_labels.clone())
        };
        for labels in BTreeSet::from([labels(before), labels(after)]) {
            self.stale
                .add(self.parts.selection.services_for(&key.namespace, &labels));
        }
        self.parts.selection.set_rollout(key, &labels(after));
        let names = |split: Option<&RolloutSplit>| {
            split.map(|split| (split.deployment.clone(), split.target.clone()))
        };
        if names(before) != names(after) {
            for split in before.into_iter().chain(after) {
                self.stale.add(services_of_deployment(
                    views,
                    &key.beside(&split.deployment),
                ));
            }
        }
        let none = BTreeSet::new();
        let retired = |split: Option<&'_ RolloutSplit>| {
            split.map_or(none.clone(), |split| split.retired.clone())
        };
        for revision in retired(before).symmetric_difference(&retired(after)) {
            let pods = views.pods.by(By::Revision, &key.beside(revision));
            self.stale
                .add(pods.iter().flat_map(|pod| services_of(views, &pod.key)));
        }
    }

    /// Says whether something else is sent of this rollout now.
    fn resend(&mut self, key: &Key) -> bool {
        let Some(split) = self.splits.by_rollout.get(key) else {
            return self.sent.remove(key).is_some();
        };
        let sent = sent(split, self.parts.of_rollout(key));
        let same = self.sent.get(key) == Some(&sent);
        if !same {
            self.sent.insert(key.clone(), sent);
        }
        !same
    }
}

/// The Services that have this pod for an endpoint.
fn services_of(views: &Views, pod: &Key) -> Vec<Key> {
    let slices = views.slices.by(By::Pod, pod);
    slices
        .iter()
        .filter_map(|slice| mesh::service_of(slice))
        .collect()
}

fn services_of_set(views: &Views, set: &Key) -> BTreeSet<Key> {
    let pods = views.pods.by(By::ReplicaSet, set);
    pods.iter()
        .flat_map(|pod| services_of(views, &pod.key))
        .collect()
}

fn services_of_deployment(views: &Views, deployment: &Key) -> BTreeSet<Key> {
    let sets = views.replica_sets.by(By::Deployment, deployment);
    sets.iter()
        .flat_map(|set| services_of_set(views, &Key::of(&**set)))
        .collect()
}

fn sent<'a>(split: &RolloutSplit, parts: impl Iterator<Item = &'a Known>) -> Sent {
    let (mut routes, mut weight, mut strangers) = (0, None, BTreeSet::new());
    for part in parts {
        routes += part.routes.len();
        // A canary without endpoints has weight 0 in the world, whatever was asked for.
        weight = weight.into_iter().chain(part.weight).min();
        strangers.extend(part.strangers.iter().cloned());
    }
    let canary = split.canary().zip(weight).map(|(canary, weight)| {
        let whole = i64::from(weight.units() / (traffic_core::config::Weight::SCALE / 100));
        (canary.run, Percent::new(whole).unwrap_or(canary.weight))
    });
    Sent {
        routes,
        canary,
        retired: split.retired.clone(),
        strangers: strangers.into_iter().take(5).collect(),
    }
}

fn target(key: &Key, split: &RolloutSplit) -> TargetSplit {
    let rollout = key.to_string();
    let stable = match &split.split {
        Split::All => TargetSplit::ALL.to_owned(),
        Split::Stable | Split::Canary(_) => split.stable.clone(),
    };
    TargetSplit {
        namespace: key.namespace.clone(),
        deployment: split.deployment.clone(),
        pod_labels: split.pod_labels.clone(),
        stable,
        canary: split.canary().cloned(),
        fuse: split.fuse,
        sticky: split.sticky.clone(),
        revoked: split
            .revoked
            .iter()
            .map(|revoked| Revocation {
                rollout: rollout.clone(),
                revision: revoked.revision.clone(),
                run: revoked.run,
            })
            .collect(),
        rollout,
    }
}
