//! What the proxies are told: the splits of all rollouts, and the world made of them and of the views.
//!
//! A split is published at once; changes of endpoints are gathered for a moment first. Nothing is published before every
//! rollout has said its split once, so a fresh operator never serves a world in which a canary is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::plan::Percent;
use rollout_core::state::{Revoked, State};
use rollout_core::{CanarySplit, Split};
use traffic_core::config::{Revocation, Weight};

use super::heard::Sent;
use super::revisions;
use super::views::Views;
use crate::key::Key;
use crate::mesh::{self, Finding, TargetSplit, View, World};

/// How one rollout's traffic is to go.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutSplit {
    deployment: String,
    pod_labels: BTreeMap<String, String>,
    stable: String,
    /// What the machine calls the Deployment's present template.
    target: String,
    split: Split,
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
            retired,
            revoked: state.revoked.clone(),
        }
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
    by_rollout: BTreeMap<Key, RolloutSplit>,
    sent: BTreeMap<Key, Sent>,
    said: BTreeSet<Finding>,
}

impl Traffic {
    /// How one rollout's traffic is to go from now on; `None`: its Services are balanced over all pods. Says whether that is
    /// another way than before.
    pub fn set(&mut self, key: &Key, split: Option<RolloutSplit>) -> bool {
        match split {
            Some(split) if self.by_rollout.get(key) == Some(&split) => false,
            Some(split) => {
                self.by_rollout.insert(key.clone(), split);
                true
            }
            None => self.by_rollout.remove(key).is_some(),
        }
    }

    /// What is in the world that was made last.
    pub fn sent(&self, key: &Key) -> Sent {
        self.sent.get(key).cloned().unwrap_or_default()
    }

    /// The world as it is to be now. What was sent of a rollout whose split or pods changed is in the answer.
    pub fn world(&mut self, views: &Views) -> (Arc<World>, BTreeSet<Key>) {
        let targets: Vec<TargetSplit> = self
            .by_rollout
            .iter()
            .map(|(key, split)| target(key, split))
            .collect();
        let retired = self
            .by_rollout
            .iter()
            .flat_map(|(key, split)| {
                let of_one = split.retired.iter();
                of_one.map(|revision| (key.namespace.clone(), revision.clone()))
            })
            .collect();
        let target_of = |key: &Key| self.by_rollout.get(key).map(|split| split.target.clone());
        let revisions = revisions::of_pods(views, target_of, &retired);
        let copies = revisions::of_copies(views);
        let (services, slices) = (views.services.state(), views.slices.state());
        let view = mesh::view(
            mesh::Objects {
                services: &services,
                slices: &slices,
                revisions: &revisions,
                copies: &copies,
            },
            &targets,
        );
        let sent: BTreeMap<Key, Sent> = self
            .by_rollout
            .iter()
            .map(|(key, split)| (key.clone(), sent(key, split, &view)))
            .collect();
        let changed = sent
            .iter()
            .filter(|(key, sent)| self.sent.get(key) != Some(sent))
            .map(|(key, _)| key.clone())
            .collect();
        self.sent = sent;
        let findings: BTreeSet<Finding> = view.findings.into_iter().collect();
        for finding in findings.difference(&self.said) {
            tracing::info!(%finding, "not everything goes through the split");
        }
        self.said = findings;
        (Arc::new(view.world), changed)
    }
}

fn sent(key: &Key, split: &RolloutSplit, view: &View) -> Sent {
    let rollout = key.to_string();
    let routes: Vec<_> = view
        .world
        .routes
        .values()
        .filter(|entry| entry.route.rollout == rollout)
        .collect();
    // A canary without endpoints has weight 0 in the world, whatever was asked for.
    let weight = routes
        .iter()
        .filter_map(|entry| entry.route.split.canary.as_ref())
        .map(|canary| canary.weight)
        .min();
    let canary = split.canary().zip(weight).map(|(canary, weight)| {
        let whole = i64::from(weight.units() / (Weight::SCALE / 100));
        (canary.run, Percent::new(whole).unwrap_or(canary.weight))
    });
    let strangers = view.findings.iter().filter_map(|finding| match finding {
        Finding::NotExclusive {
            rollout: of,
            endpoint,
            ..
        } if *of == rollout => Some(endpoint.clone()),
        Finding::NotExclusive { .. }
        | Finding::StableEmpty { .. }
        | Finding::SharedService { .. }
        | Finding::SharedAddress { .. } => None,
    });
    Sent {
        routes: routes.len(),
        canary,
        retired: split.retired.clone(),
        strangers: strangers
            .collect::<BTreeSet<_>>()
            .into_iter()
            .take(5)
            .collect(),
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
