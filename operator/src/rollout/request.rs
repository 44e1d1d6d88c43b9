//! What a person says to a release that waits: the annotation `aviary.dev/promote` on its CanaryRollout.
//!
//! Its value binds it to one revision at one weight. So it is heeded once: in the next step, and in another release, it is
//! another one. GitOps does not take it back, since it is in nobody's manifest; the operator does, once it is heeded or
//! can never be.

use aviary_crds::{CanaryRollout, PROMOTE_ANNOTATION};
use kube::ResourceExt;
use rollout_core::desired;
use rollout_core::plan::Percent;
use rollout_core::state::State;

use crate::key::Key;

/// A person asks this run to go on from the weight that it has.
pub(super) fn asks(rollout: &CanaryRollout, state: &State) -> bool {
    let asked = asked(rollout);
    asked.is_some() && asked == value_for(state).as_deref()
}

/// How a person says that what waits goes on.
pub(super) fn command(key: &Key, state: &State) -> Option<String> {
    let value = value_for(state)?;
    let Key { namespace, name } = key;
    Some(format!(
        "kubectl -n {namespace} annotate canaryrollout {name} {PROMOTE_ANNOTATION}={value}"
    ))
}

pub(super) fn asked(rollout: &CanaryRollout) -> Option<&str> {
    rollout
        .annotations()
        .get(PROMOTE_ANNOTATION)
        .map(String::as_str)
}

/// The value that a request to the present run has.
pub(super) fn value_for(state: &State) -> Option<String> {
    let run = state.running()?;
    Some(value(&run.canary.revision, desired(state).weight()))
}

pub(super) fn value(revision: &str, weight: Percent) -> String {
    format!("{revision}@{}", weight.get())
}
