//! One look at everything that a rollout depends on: pure, over what is watched and what the proxies say. Nothing here asks
//! the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use aviary_crds::{CanaryRollout, REVISION_LABEL, ROLLOUT_LABEL};
use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::observation::{CopySeen, Observation, Original, Serving, Traffic};
use rollout_core::plan::Percent;
use rollout_core::state::{Phase, State, Template, Unsettled};
use rollout_core::time::Time;
use rollout_core::{CanarySplit, Exposed, Hooks, Window, effective, effective_while_replaced};

use super::heard::Heard;
use super::lacking::Lacking;
use super::problems::{self, Blocking};
use super::replica_sets::{self, ReplicaSet};
use super::request;
use super::views::{By, Views};
use super::{copy, deployment};
use crate::admission::rollout::PrometheusPolicy;
use crate::key::Key;

/// What was seen at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    pub now: Time,
    pub key: Key,
    pub rollout: Arc<CanaryRollout>,
    pub target: Target,
    /// All copies that this rollout has made.
    pub copies: Vec<Arc<DynamicObject>>,
    /// The Deployment's ReplicaSets.
    pub sets: Vec<ReplicaSet>,
    /// Templates that were kept, as ControllerRevisions.
    pub kept: Vec<Arc<DynamicObject>>,
    /// Pods of copies without a sidecar, by revision.
    unmeshed: BTreeMap<String, String>,
    /// What pods of the namespace lack, and how it is mended; `None` if nothing.
    pub lacking: Option<Lacking>,
    pub frozen: bool,
    pub deleted: bool,
    /// What the other objects make impossible.
    pub objects: Option<Blocking>,
    pub heard: Heard,
}

/// The Deployment that the rollout names.
#[derive(Clone, Debug)]
pub enum Target {
    /// Not there, or not adopted yet.
    Unknown {
        /// A watch has seen it. If not, it may be there all the same: a watch can be behind.
        seen: bool,
    },
    /// Another CanaryRollout releases it.
    Taken { by: String },
    Found {
        deployment: Arc<DynamicObject>,
        template: Template,
    },
}

impl Target {
    pub fn deployment(&self) -> Option<&Arc<DynamicObject>> {
        match self {
            Target::Found { deployment, .. } => Some(deployment),
            Target::Unknown { .. } | Target::Taken { .. } => None,
        }
    }
}

/// Looks. `rollout` is the newest version of it that is known, which may be newer than the view's.
pub(super) fn look(
    views: &Views,
    rollout: &Arc<CanaryRollout>,
    heard: Heard,
    policy: &PrometheusPolicy,
    now: Time,
) -> Look {
    let key = Key::of(&**rollout);
    let target = target(views, rollout, &key);
    let sets: Vec<ReplicaSet> = target.deployment().map_or_else(Vec::new, |deployment| {
        let sets = views.replica_sets_of(deployment);
        sets.iter().map(|set| replica_sets::read(set)).collect()
    });
    let copies = views.copies_of(&key);
    let unmeshed = unmeshed(views, &key, &copies);
    Look {
        now,
        copies,
        sets,
        kept: views.kept_of(&key),
        unmeshed,
        lacking: Lacking::of(&key.namespace, &views.lacking(&key.namespace)),
        frozen: views.frozen(),
        deleted: rollout.metadata.deletion_timestamp.is_some(),
        objects: problems::of_objects(views, rollout, target.deployment(), policy),
        target,
        rollout: Arc::clone(rollout),
        heard,
        key,
    }
}

fn target(views: &Views, rollout: &CanaryRollout, key: &Key) -> Target {
    let name = &rollout.spec.target_ref.name;
    let found = views.original(&key.beside(name));
    let owner = found
        .as_ref()
        .and_then(|deployment| deployment.labels().get(ROLLOUT_LABEL).cloned());
    if let Some(deployment) = found.filter(|_| owner.as_ref() == Some(&key.name))
        && let Some(template) = deployment::template(&deployment)
    {
        return Target::Found {
            deployment,
            template,
        };
    }
    match another_owner(views, rollout, key, owner.as_deref()) {
        Some(by) => Target::Taken { by },
        None => Target::Unknown {
            seen: views.unadopted.has(&key.beside(name)),
        },
    }
}

/// The CanaryRollout that has this target: the one that adopted it, else the oldest of those that name it.
fn another_owner(
    views: &Views,
    rollout: &CanaryRollout,
    key: &Key,
    adopted_by: Option<&str>,
) -> Option<String> {
    let age = |r: &CanaryRollout| (r.creation_timestamp().map(|time| time.0), r.name_any());
    let others = views.rivals(&key.beside(&rollout.spec.target_ref.name));
    let rivals = others
        .iter()
        .filter(|other| other.name_any() != key.name)
        .filter(|other| {
            Some(other.name_any().as_str()) == adopted_by
                || (adopted_by != Some(key.name.as_str()) && age(other) < age(rollout))
        });
    rivals.map(|other| other.name_any()).min()
}

/// A pod without a sidecar for each revision that has one.
fn unmeshed(views: &Views, key: &Key, copies: &[Arc<DynamicObject>]) -> BTreeMap<String, String> {
    let revisions = copies
        .iter()
        .filter_map(|copy| copy.labels().get(REVISION_LABEL));
    let unmeshed = revisions.filter_map(|revision| {
        let pods = views.pods.by(By::Unmeshed, &key.beside(revision));
        let pod = pods.first()?;
        Some((revision.clone(), pod.key.name.clone()))
    });
    unmeshed.collect()
}

impl Look {
    /// The copy that runs this revision.
    pub fn copy_of(&self, revision: &str) -> Option<&Arc<DynamicObject>> {
        let name = copy::name(&self.rollout.spec.target_ref.name, revision);
        self.copies.iter().find(|copy| copy.name_any() == name)
    }

    fn copy_ready(&self, revision: &str) -> u32 {
        self.copy_of(revision)
            .map_or(0, |copy| deployment::ready(copy))
    }

    /// The weight that the canary's Ready pods can carry.
    pub fn carried(&self, state: &State, canary: &CanarySplit) -> CanarySplit {
        let Some(run) = &state.run else {
            return canary.clone();
        };
        let copy = self.copy_ready(&canary.revision);
        // The Deployment's own pods of the canary's revision serve with the copy's.
        let own = || replica_sets::ready_of(&self.sets, &canary.revision);
        let stable = || replica_sets::ready_of(&self.sets, &state.stable.revision);
        let needed = run.plan.replicas(run.base_replicas, canary.weight);
        let weight = match state.phase {
            Phase::Promoting { .. } => {
                let replicas = self
                    .target
                    .deployment()
                    .map_or(0, |it| deployment::replicas(it));
                let ready = copy.saturating_add(own());
                effective_while_replaced((ready, needed), (stable(), replicas)).min(canary.weight)
            }
            // What stable has not taken back stays, as long as anybody is there.
            Phase::Returning { .. } if copy == 0 && own() == 0 && stable() > 0 => Percent::ZERO,
            Phase::Returning { .. } => canary.weight,
            Phase::Unsettled { .. }
            | Phase::Stable
            | Phase::Scaling { .. }
            | Phase::Shifting { .. }
            | Phase::Soaking { .. }
            | Phase::RollingBack { .. }
            | Phase::Failed => effective(canary.weight, copy, needed),
        };
        CanarySplit {
            weight,
            ..canary.clone()
        }
    }

    /// The machine's observation. `None` while there is no Deployment to speak of.
    pub fn observation(&self, state: &State, more: More) -> Option<Observation> {
        let Target::Found {
            deployment,
            template,
        } = &self.target
        else {
            return None;
        };
        let run = state.run.as_ref();
        let canary = run.map(|run| run.canary.revision.as_str());
        let replicas = deployment::replicas(deployment);
        let exists = match state.phase {
            // These are over when no copy of this rollout is left, an older one's included.
            Phase::RollingBack { .. } | Phase::Unsettled { .. } => !self.copies.is_empty(),
            Phase::Stable
            | Phase::Scaling { .. }
            | Phase::Shifting { .. }
            | Phase::Soaking { .. }
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::Failed => canary.is_some_and(|canary| self.copy_of(canary).is_some()),
        };
        let revoked = self
            .heard
            .revoked
            .iter()
            .filter(|(revision, _)| Some(revision.as_str()) == canary)
            .map(|(_, run)| *run)
            .max();
        Some(Observation {
            now: self.now,
            deployment: deployment.uid().unwrap_or_default(),
            template: template.clone(),
            generation: deployment.metadata.generation.unwrap_or(0),
            original: Original {
                replicas,
                paused: deployment::paused(deployment),
                rolled_out: deployment::rolled_out(deployment),
                serving: self.serving(deployment, template),
                stable_ready: replica_sets::ready_of(&self.sets, &state.stable.revision),
                canary_pods: canary.map_or(0, |c| replica_sets::pods_of(&self.sets, c)),
                canary_complete: canary
                    .is_some_and(|c| replica_sets::complete(&self.sets, c, replicas)),
            },
            copy: CopySeen {
                exists,
                ready: canary.map_or(0, |canary| self.copy_ready(canary)),
                without_sidecar: canary.is_some_and(|c| self.unmeshed.contains_key(c)),
            },
            traffic: Traffic {
                sent: self.heard.sent.canary,
                acknowledged: self.heard.acks.complete() && self.heard.sent.routes > 0,
            },
            window: more.window,
            alarm: more.alarm,
            doubt: more.doubt,
            exposed: more.exposed,
            revoked,
            lapsed: more.lapsed,
            deleted: self.deleted,
            break_glass: deployment::break_glass(deployment),
            request: request::asked(&self.rollout).and_then(Result::ok),
            may_raise: more.may_raise,
            hooks: Hooks::Agree,
        })
    }

    fn serving(&self, deployment: &DynamicObject, template: &Template) -> Serving {
        if deployment.metadata.deletion_timestamp.is_some() {
            return Serving::Unclear(Unsettled::Rolling);
        }
        replica_sets::serving(deployment, &self.sets, template)
    }

    pub fn break_glass(&self) -> bool {
        self.target
            .deployment()
            .is_some_and(|deployment| deployment::break_glass(deployment))
    }
}

/// What an observation needs that is not seen but known.
#[derive(Clone, Copy, Debug)]
pub struct More {
    pub window: Option<Window>,
    pub alarm: bool,
    pub doubt: bool,
    pub exposed: Exposed,
    pub lapsed: bool,
    pub may_raise: bool,
}

#[cfg(test)]
mod tests;
