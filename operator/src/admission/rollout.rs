//! Checks a CanaryRollout against the objects that it names.
//!
//! What one CanaryRollout can say about itself is a CEL rule in its CRD; here is what takes a look at something else.
//! The controller makes the same checks ([`validate`]) before every release, since the other objects change without
//! asking: so the webhook may be away (`failurePolicy: Ignore`), and deletions are never sent to it.
//!
//! An object that does not exist yet is no reason to refuse: `kubectl apply` of a file with the Deployment, the Service
//! and the CanaryRollout has to work in any order. And on an update, only what the update makes worse is refused: a
//! Service that somebody has broken must not keep a release from being suspended.

mod checks;
mod facts;
mod hooks;
pub mod query;

use std::fmt;
use std::time::Duration;

use aviary_crds::CanaryRollout;
use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::Admission;
use super::review::{Answer, Request, Review};
pub use checks::validate;
pub use facts::{Cluster, Facts, Lookup, LookupError, PrometheusPolicy, Rival, Target};

/// The API server waits five seconds for us; a warning after three is better than its silence.
const LOOKUP: Duration = Duration::from_secs(3);

/// One thing that is wrong: where, what, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the field, such as `spec.service.name`.
    pub field: String,
    pub message: String,
    pub severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; releases go on.
    Note,
    /// Something is not there yet: releases wait for it.
    Wait,
    /// Cannot work: not admitted, and the controller starts no release.
    Refuse,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

pub(super) async fn handle(
    State(admission): State<Admission>,
    Json(review): Json<Review>,
) -> Response {
    let request = review.request;
    let answer = answer(&request, admission.lookup.as_ref()).await;
    tracing::debug!(
        namespace = request.namespace,
        canaryrollout = request.name,
        answer = answer.kind(),
        "validation"
    );
    admission.metrics.count("validate", &answer);
    answer.into_response(&request)
}

async fn answer(request: &Request, lookup: &dyn Lookup) -> Answer {
    let rollout = match serde_json::from_value::<CanaryRollout>(request.object.clone()) {
        Ok(rollout) => rollout,
        Err(error) => {
            let message = format!("CanaryRollout {}: {error}", request.name);
            return Answer::Deny { message };
        }
    };
    // Absent on CREATE, and allowed to be of a form that this version no longer reads.
    let old = serde_json::from_value::<CanaryRollout>(request.old_object.clone()).ok();
    let looked_up = tokio::time::timeout(LOOKUP, lookup.facts(&rollout)).await;
    let facts = match looked_up.unwrap_or(Err(LookupError::Timeout)) {
        Ok(facts) => facts,
        Err(error) => {
            tracing::warn!(%error, "objects of a CanaryRollout cannot be looked up");
            let warning = format!(
                "not checked against the Deployment and the Service ({error}); the operator checks again and says so in the status"
            );
            return Answer::Allow {
                warnings: vec![warning],
            };
        }
    };
    let problems = validate_all(&rollout, &facts);
    let before = match old {
        Some(old) if old.spec.target_ref == rollout.spec.target_ref => validate_all(&old, &facts),
        Some(_) | None => Vec::new(),
    };
    let is_refused =
        |problem: &Problem| problem.severity == Severity::Refuse && !before.contains(problem);
    let refused: Vec<String> = problems
        .iter()
        .filter(|p| is_refused(p))
        .map(Problem::to_string)
        .collect();
    if refused.is_empty() {
        Answer::Allow {
            warnings: problems.iter().map(Problem::to_string).collect(),
        }
    } else {
        Answer::Deny {
            message: refused.join("; "),
        }
    }
}

/// With what the controller does not check before a release: a hook that cannot be called fails when it is called.
fn validate_all(rollout: &CanaryRollout, facts: &Facts) -> Vec<Problem> {
    let mut problems = validate(rollout, facts);
    problems.extend(hooks::check(rollout, &facts.hooks));
    problems
}

#[cfg(test)]
mod tests;
