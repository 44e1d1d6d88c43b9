//! `spec.paused` of the user's Deployment.

use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::state::{Phase, State};
use rollout_core::{Desired, Gate};
use serde_json::json;

use super::Effect;
use crate::key::Key;
use crate::reason::Reason;
use crate::rollout::deployment;
use crate::rollout::events::Note;
use crate::rollout::write::{Kind, Verb, Write};

/// Pausing is safe whatever has changed meanwhile.
pub(super) fn closed(desired: &Desired, original: &DynamicObject, state: &State) -> Option<Effect> {
    if desired.gate != Gate::Closed || deployment::paused(original) {
        return None;
    }
    let name = original.name_any();
    Some(Effect {
        reason: Reason::GateNotClosed,
        failing: format!("Deployment {name} cannot be paused"),
        write: write(
            original,
            json!({"metadata": {"uid": original.uid()}, "spec": {"paused": true}}),
        ),
        done: (!was_opened(state)).then(|| {
            Note::warning(
                Reason::GateBypassed,
                format!(
                    "Deployment {name} was not paused while revision {} is not released; it is paused again",
                    state.target.revision
                ),
            )
        }),
    })
}

/// By us, for a promotion that a person has aborted since.
fn was_opened(state: &State) -> bool {
    let returns = matches!(state.phase, Phase::Returning { .. });
    let aborted = state.run.as_ref().is_some_and(|run| run.aborted.is_some());
    returns && aborted
}

/// What was looked at may roll, and nothing newer.
pub(super) fn open(desired: &Desired, original: &DynamicObject) -> Option<Effect> {
    if desired.gate != Gate::Open || !deployment::paused(original) {
        return None;
    }
    let patch = json!({
        "metadata": {"uid": original.uid(), "resourceVersion": original.resource_version()},
        "spec": {"paused": null},
    });
    Some(Effect {
        reason: Reason::GateNotOpened,
        failing: format!("Deployment {} cannot be resumed", original.name_any()),
        write: write(original, patch),
        done: None,
    })
}

fn write(original: &DynamicObject, patch: serde_json::Value) -> Write {
    Write {
        kind: Kind::Deployment,
        key: Key::of(original),
        verb: Verb::Patch(patch),
    }
}
