//! The condition `aviary.dev/Released` in the Deployment's status: how the release of its newest template stands, for whoever
//! looks at the Deployment alone. Behind the gate it is paused, and looks the same while it is released and when that has
//! failed.
//!
//! It says what the written status of the CanaryRollout says, no more: True is Ready, False is Stalled, and anything else is on
//! its way (Unknown). So it changes when a phase does, and not with every number.

use aviary_crds::CanaryRolloutStatus;
use aviary_crds::condition::{READY, RELEASED, ROLLED_BACK, STALLED};
use aviary_crds::status::Phase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::state::State;
use serde_json::{Value, json};

use super::Effect;
use crate::key::Key;
use crate::reason::Reason;
use crate::rollout::look::{Look, Target};
use crate::rollout::write::{Kind, Verb, Write};

/// What is said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    status: &'static str,
    /// CamelCase, for tools.
    reason: String,
    message: String,
}

/// The condition, when it does not say yet what the status says. `state`: what the status is about; `None` when that cannot be
/// read. Of a Deployment that has changed since, nothing is said before the status knows it.
pub(in crate::rollout) fn told(look: &Look, state: Option<&State>) -> Option<Effect> {
    let Target::Found {
        deployment,
        template,
    } = &look.target
    else {
        return None;
    };
    let generation = deployment.metadata.generation.unwrap_or(0);
    let is_about_it = |state: &State| {
        deployment.uid().as_deref() == Some(state.deployment.as_str())
            && state.generation == generation
    };
    if !state.is_none_or(is_about_it) {
        return None;
    }
    let status = look.rollout.status.as_ref()?;
    let said = said(status, &look.key.name, &template.revision, generation)?;
    let old = condition(deployment);
    let has = |field: &str, value: &str| old.is_some_and(|old| old[field] == value);
    if has("status", said.status) && has("reason", &said.reason) && has("message", &said.message) {
        return None;
    }
    let since = since(status);
    let phase = status.phase_since.as_ref().map(|since| since.0);
    let conditions = json!([{
        "type": RELEASED,
        "status": said.status,
        "reason": said.reason,
        "message": said.message,
        "lastTransitionTime": time(since),
        "lastUpdateTime": time(since.max(phase)),
    }]);
    Some(write(deployment, json!({"conditions": conditions})))
}

/// Takes the condition away again: nobody releases the Deployment any more.
pub(in crate::rollout) fn forgotten(deployment: &DynamicObject) -> Option<Effect> {
    condition(deployment)?;
    Some(write(deployment, json!({})))
}

fn condition(deployment: &DynamicObject) -> Option<&Value> {
    let conditions = deployment.data.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|each| each["type"] == RELEASED)
}

/// A server-side apply owns this one element of the list and nothing else in it, whoever writes the others.
fn write(deployment: &DynamicObject, status: Value) -> Effect {
    let name = deployment.name_any();
    let body = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": deployment.namespace(), "uid": deployment.uid()},
        "status": status,
    });
    Effect {
        reason: Reason::ReleasedNotWritten,
        failing: format!(
            "the condition {RELEASED} of Deployment {name} cannot be written, so GitOps does not see how its release stands"
        ),
        write: Write {
            kind: Kind::Deployment,
            key: Key::of(deployment),
            verb: Verb::ApplyStatus(body),
        },
        done: None,
    }
}

/// `None` before anything is known. A False names the generation that it is about: whoever has just applied another template,
/// and looks before the operator does, must not take it for the answer.
fn said(
    status: &CanaryRolloutStatus,
    rollout: &str,
    revision: &str,
    generation: i64,
) -> Option<Said> {
    let find = |type_: &str| status.conditions.iter().find(|each| each.type_ == type_);
    let is_true = |condition: &Condition| condition.status == "True";
    let ready = find(READY)?;
    let reason = ready.reason.clone();
    let said = |status, reason, message| {
        Some(Said {
            status,
            reason,
            message,
        })
    };
    if is_true(ready) {
        let message = format!("revision {revision} serves everyone");
        return said("True", "Released".to_owned(), message);
    }
    let failed = find(ROLLED_BACK).filter(|each| is_true(each));
    let stable = status.stable.as_ref().map(|stable| &stable.revision);
    if status.phase == Some(Phase::Failed)
        && reason == Phase::Failed.name()
        && let (Some(failed), Some(stable)) = (failed, stable)
    {
        let cause = &failed.reason;
        let message = format!(
            "generation {generation}: revision {revision} was rolled back ({cause}), and revision {stable} serves everyone; CanaryRollout {rollout} says why"
        );
        return said("False", "RolledBack".to_owned(), message);
    }
    if find(STALLED).is_some_and(is_true) {
        let message = format!(
            "generation {generation}: revision {revision} is not released, and somebody has to act; CanaryRollout {rollout} says how"
        );
        return said("False", reason, message);
    }
    if reason == Phase::Stable.name() {
        let message = format!("revision {revision} waits to be released");
        return said("Unknown", "Waiting".to_owned(), message);
    }
    let weight = status.weight.as_ref().map_or(0, |weight| weight.desired);
    let step = status.step.as_ref();
    let step = step.map_or_else(String::new, |step| format!("step {}, ", step.position));
    let message =
        format!("{step}weight {weight}%; CanaryRollout {rollout} releases revision {revision}");
    said("Unknown", reason, message)
}

/// Since when it stands so. Of the status, and not the time of the write: who writes the same again changes nothing.
fn since(status: &CanaryRolloutStatus) -> Option<Timestamp> {
    let decide = |each: &&Condition| [READY, STALLED].contains(&each.type_.as_str());
    let decide = status.conditions.iter().filter(decide);
    decide.map(|each| each.last_transition_time.0).max()
}

/// In whole seconds, which is all that the API keeps.
fn time(at: Option<Timestamp>) -> String {
    let second = at.map_or(0, Timestamp::as_second);
    let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_string()
}

#[cfg(test)]
mod tests;
