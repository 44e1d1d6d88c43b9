//! What a persisted state asks of the cluster that is not so yet: a pure, ordered list of requests, each with its
//! precondition. Level-based: when nothing is missing the list is empty.
//!
//! | effect | precondition |
//! |---|---|
//! | the Deployment gets our label | it exists |
//! | the gate closes | the Deployment's uid |
//! | the gate opens | the Deployment's uid and resourceVersion: what was looked at, and nothing newer, may roll |
//! | a copy is made | none of that name |
//! | a copy is scaled | its resourceVersion |
//! | a copy is deleted | its uid; no proxy knows it |
//! | a ReplicaSet is scaled or deleted | its uid and resourceVersion |
//! | a template is kept or brought back | none of that name |
//! | a person's request is taken away | the CanaryRollout's uid and resourceVersion |
//! | the Deployment says how its release stands | its uid |

mod answered;
mod copies;
mod gate;
mod kept;
mod paused;
mod released;

use std::collections::BTreeSet;

use aviary_crds::{FINALIZER, ROLLOUT_LABEL};
use kube::ResourceExt;
use rollout_core::state::{Phase, State};
use rollout_core::{Copies, Desired, Gate, desired};
use serde_json::{Value, json};

use super::events::Note;
use super::look::{Look, Target};
use super::persisted::Persisted;
use super::write::{Kind, Verb, Write};
use crate::reason::Reason;

pub(super) use copies::{delete, unwanted};
pub(super) use released::{forgotten, told};

/// One request, and what is said about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Effect {
    /// The reason of the condition and the Event if it fails.
    pub reason: Reason,
    /// What cannot be done then.
    pub failing: String,
    pub write: Write,
    /// Told when it is done.
    pub done: Option<Note>,
}

/// A template that was read for keeping: the name of its ReplicaSet, and the object.
pub(super) type Fetched = (String, Value);

/// Everything that is missing, in the order in which it is to be done. `drained`: copies that no proxy knows any more.
pub(super) fn effects(
    persisted: &Persisted,
    look: &Look,
    drained: &BTreeSet<String>,
    fetched: Option<&Fetched>,
) -> Vec<Effect> {
    let state = persisted.state();
    let Target::Found { deployment, .. } = &look.target else {
        return Vec::new();
    };
    // The state may be about a Deployment that was here before.
    if deployment.uid().as_deref() != Some(state.deployment.as_str()) {
        return Vec::new();
    }
    let desired = desired(state);
    let mut effects = Vec::new();
    if !look.break_glass() {
        effects.extend(gate::closed(&desired, deployment, state));
    }
    effects.extend(copies::present(&desired, look, deployment, state));
    if !look.break_glass() {
        effects.extend(gate::open(&desired, deployment));
        effects.extend(paused::replica_sets(&desired, look, deployment, fetched));
        effects.extend(kept::templates(state, look, deployment, fetched));
    }
    effects.extend(copies::absent(&desired, look, drained));
    effects.extend(answered::clear(look, persisted));
    effects
}

/// The Deployment, if it exists, gets our label; then it is watched.
pub(super) fn adopt(look: &Look) -> Effect {
    let name = &look.rollout.spec.target_ref.name;
    Effect {
        reason: Reason::TargetNotFound,
        failing: format!(
            "Deployment {name} in namespace {}, which spec.targetRef.name names, cannot be adopted",
            look.key.namespace
        ),
        write: Write {
            kind: Kind::Deployment,
            key: look.key.beside(name),
            verb: Verb::Patch(json!({"metadata": {"labels": {ROLLOUT_LABEL: look.key.name}}})),
        },
        done: None,
    }
}

/// Nothing of ours is in the cluster, and nothing has to be done before the rollout may go.
pub(super) fn at_rest(state: &State, look: &Look) -> bool {
    let opens = matches!(desired(state).gate, Gate::Open)
        && look
            .target
            .deployment()
            .is_some_and(|deployment| super::deployment::paused(deployment));
    let resting = match state.phase {
        Phase::Unsettled { .. } | Phase::Stable | Phase::Failed => true,
        Phase::Scaling { .. }
        | Phase::Shifting { .. }
        | Phase::Soaking { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. } => false,
    };
    resting && look.copies.is_empty() && (!opens || look.break_glass())
}

/// Sets or removes our finalizer; `None` when it is as it should be. `wanted` while there is something to tidy up.
pub(super) fn finalizer(look: &Look, wanted: bool) -> Option<Effect> {
    let has = look.rollout.finalizers().iter().any(|f| f == FINALIZER);
    if wanted == has {
        return None;
    }
    let others = look.rollout.finalizers().iter().filter(|f| *f != FINALIZER);
    let finalizers: Vec<&str> = others
        .map(String::as_str)
        .chain(wanted.then_some(FINALIZER))
        .collect();
    // A list is replaced whole, so nobody may have changed it meanwhile.
    let patch = json!({"metadata": {
        "finalizers": finalizers,
        "uid": look.rollout.uid(),
        "resourceVersion": look.rollout.resource_version(),
    }});
    Some(Effect {
        reason: Reason::FinalizerNotWritten,
        failing: "the finalizer of the CanaryRollout cannot be changed".to_owned(),
        write: Write {
            kind: Kind::CanaryRollout,
            key: look.key.clone(),
            verb: Verb::Patch(patch),
        },
        done: None,
    })
}

/// The revision whose copy is to be there.
fn wanted_copy(desired: &Desired) -> Option<&str> {
    match &desired.copy {
        Copies::One { revision, .. } => Some(revision),
        Copies::None => None,
    }
}

#[cfg(test)]
mod tests;
