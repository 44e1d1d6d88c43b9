//! The gate: a changed template of an adopted Deployment is stored paused, and the CanaryRollout releases it.
//!
//! The decision is pure ([`decide`]); what it has to know of the CanaryRollout comes through [`Rollouts`]. The operator's
//! own writes, canary copies, and Deployments with the annotation `aviary.dev/break-glass` never come here: the match
//! conditions of the webhook leave them out, so that a person can act while the operator is down.

mod change;
mod decision;
mod fate;
mod live;
mod words;

use aviary_crds::CanaryRollout;
use aviary_crds::status::{CauseStatus, Phase};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use json_patch::{Patch, PatchOperation};
use serde_json::{Value, json};

use super::Admission;
use super::review::{Answer, Review, add, remove};
use crate::rollout::views::Guarded;
pub use change::Change;
pub use decision::{Decision, Edit, decide};
pub use live::{Look, LookError, Watched};

/// What the gate knows of a CanaryRollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutFacts {
    pub name: String,
    /// The Deployment that it releases.
    pub target: String,
    /// The weights of its steps, in percent.
    pub weights: Vec<i32>,
    /// The revision that serves everyone; none before the Deployment has been looked at for the first time.
    pub stable: Option<String>,
    /// The revision that is being released, or was last.
    pub canary: Option<String>,
    /// What the last release that failed was of.
    pub failed: Option<Failed>,
    pub phase: Option<Phase>,
    pub suspended: bool,
    /// Deleted, and about to be gone.
    pub deleting: bool,
    /// This version of the operator cannot read it: nothing but its name is known.
    pub illegible: bool,
}

/// A template that was rolled back: it is not tried again until more of it changes than its annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub revision: String,
    /// The hash without annotations; none in a status that does not say.
    pub content: Option<String>,
}

/// Where CanaryRollouts are looked up: a cache, since every change of a Deployment waits for the answer.
pub trait Rollouts: Send + Sync {
    fn get(&self, namespace: &str, name: &str) -> Option<RolloutFacts>;

    /// The same of the API server itself, which knows what a cache has not heard yet.
    fn look<'a>(&'a self, namespace: &'a str, name: &'a str) -> Look<'a>;

    /// False while "there is none" may only mean that the cache is still empty.
    fn synced(&self) -> bool {
        true
    }
}

impl From<&CanaryRollout> for RolloutFacts {
    fn from(rollout: &CanaryRollout) -> Self {
        let status = rollout.status.as_ref();
        let revision = |text: &String| (!text.is_empty()).then(|| text.clone());
        let failed = |of: &String, content: &String| {
            Some(Failed {
                revision: revision(of)?,
                content: revision(content),
            })
        };
        let failure = status.and_then(|s| s.failure.as_ref());
        let canary = status.and_then(|s| s.canary.as_ref());
        // A status that does not say what failed still names the release that has.
        let failed = match failure {
            // What was taken back before anything was wrong with it may come again.
            Some(failure) if failure.cause == CauseStatus::TemplateReverted => None,
            Some(failure) => failed(&failure.revision, &failure.content),
            None => canary.and_then(|canary| failed(&canary.revision, &canary.content)),
        };
        RolloutFacts {
            name: rollout.metadata.name.clone().unwrap_or_default(),
            target: rollout.spec.target_ref.name.clone(),
            weights: rollout.spec.steps.iter().map(|step| step.weight).collect(),
            stable: status
                .and_then(|s| s.stable.as_ref())
                .and_then(|s| revision(&s.revision)),
            canary: canary.and_then(|c| revision(&c.revision)),
            failed: failed.filter(|_| ended_badly(status.and_then(|s| s.phase))),
            phase: status.and_then(|s| s.phase),
            suspended: rollout.spec.suspend,
            deleting: rollout.metadata.deletion_timestamp.is_some(),
            illegible: false,
        }
    }
}

/// Whether what was released last is what failed.
fn ended_badly(phase: Option<Phase>) -> bool {
    match phase {
        Some(Phase::Returning | Phase::RollingBack | Phase::Failed) => true,
        None
        | Some(
            Phase::Stable
            | Phase::Starting
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Soaking
            | Phase::Paused
            | Phase::Promoting
            | Phase::Unsettled,
        ) => false,
    }
}

impl RolloutFacts {
    pub(crate) fn of(name: &str, rollout: &Guarded) -> RolloutFacts {
        match &rollout.0 {
            Ok(rollout) => RolloutFacts::from(&**rollout),
            Err(_) => RolloutFacts {
                name: name.to_owned(),
                illegible: true,
                ..RolloutFacts::default()
            },
        }
    }

    /// Whether this is what releases the Deployment, as far as anybody can tell.
    pub(crate) fn releases(&self, deployment: &str) -> bool {
        self.illegible || self.target == deployment
    }
}

pub(super) async fn handle(
    State(admission): State<Admission>,
    Json(review): Json<Review>,
) -> Response {
    if !admission.rollouts.synced() {
        // The API server refuses the change (failurePolicy: Fail) and says this; the next try will find us ready.
        let text =
            "the operator has just started and knows no CanaryRollouts yet: try again in a moment";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let request = review.request;
    let change = Change {
        namespace: &request.namespace,
        name: &request.name,
        old: &request.old_object,
        new: &request.object,
        manager: request.field_manager(),
    };
    let facts = match facts(admission.rollouts.as_ref(), &change).await {
        Ok(facts) => facts,
        Err(error) => {
            tracing::warn!(
                namespace = request.namespace,
                deployment = request.name,
                %error,
                "the gate cannot tell who releases a Deployment: its change is refused"
            );
            let text = format!("{error}: try again in a moment");
            return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        }
    };
    let decision = decide(&change, facts.as_ref());
    let edits = match &decision {
        Decision::Allow { .. } | Decision::Deny { .. } => [].as_slice(),
        Decision::Edit { edits, .. } => edits,
    };
    tracing::info!(
        namespace = request.namespace,
        deployment = request.name,
        user = request.user_info.username,
        manager = change.manager,
        ?edits,
        denied = matches!(decision, Decision::Deny { .. }),
        "gate"
    );
    let answer = answer(decision, &request.object);
    admission.metrics.count("gate", &answer);
    answer.into_response(&request)
}

/// The CanaryRollout that the label of a change names. A cache may be behind: before a Deployment loses its gate because there is no such CanaryRollout, or
/// because it releases another one, the API server is asked.
async fn facts(
    rollouts: &dyn Rollouts,
    change: &Change<'_>,
) -> Result<Option<RolloutFacts>, LookError> {
    let Some(name) = change.rollout() else {
        return Ok(None);
    };
    match rollouts.get(change.namespace, name) {
        Some(known) if known.releases(change.name) => Ok(Some(known)),
        Some(_) | None => rollouts.look(change.namespace, name).await,
    }
}

fn answer(decision: Decision, new: &Value) -> Answer {
    match decision {
        Decision::Allow { warnings } => Answer::Allow { warnings },
        Decision::Edit { edits, warnings } => {
            let operations = edits.iter().flat_map(|edit| operations(edit, new));
            Answer::Patch {
                patch: Patch(operations.collect()),
                warnings,
            }
        }
        Decision::Deny { message } => Answer::Deny { message },
    }
}

fn operations(edit: &Edit, new: &Value) -> Vec<PatchOperation> {
    let label = aviary_crds::ROLLOUT_LABEL;
    match edit {
        Edit::Pause => vec![add(["spec", "paused"], json!(true))],
        Edit::RestoreLabel(rollout) => {
            let mut operations = Vec::new();
            if !new["metadata"]["labels"].is_object() {
                operations.push(add(["metadata", "labels"], json!({})));
            }
            operations.push(add(["metadata", "labels", label], json!(rollout)));
            operations
        }
        Edit::DropLabel => vec![remove(["metadata", "labels", label])],
    }
}

#[cfg(test)]
mod tests;
