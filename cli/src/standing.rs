//! How the release of a template stands: pure, over what the CanaryRollout says and the Deployment asks for.
//!
//! A status speaks of the template that the operator saw last, which need not be the one that somebody has just applied. So
//! nothing counts as an end but what names the template's own revision.

use aviary_crds::CanaryRollout;
use aviary_crds::condition::{RECONCILING, STALLED};
use aviary_crds::status::{CanaryRolloutStatus, CauseStatus, FailureStatus, Phase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::template::Template;

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The operator has not said anything about this template yet.
    Unseen,
    /// Nothing is said about this template, and what is said forbids that it is released. It can be of a moment ago: it
    /// counts once it lasts.
    Blocked { why: String },
    /// It is being released, or on its way back.
    Runs,
    /// It is being released, and does not go on before a person acts.
    Waits { why: String },
    /// It serves everyone.
    Serves,
    /// It was rolled back, or is not released: it does not serve, and nobody tries it again.
    Failed { why: String },
}

/// Stalled for these reasons says something about an earlier template.
const OF_ANOTHER: [&str; 2] = ["Failed", "FoundPaused"];

/// How the release of `template` stands.
pub fn standing(rollout: &CanaryRollout, template: &Template) -> Standing {
    let default = CanaryRolloutStatus::default();
    let status = rollout.status.as_ref().unwrap_or(&default);
    let stable = status.stable.as_ref().map(|it| it.revision.as_str());
    if status.phase == Some(Phase::Stable) && stable == Some(&template.revision) {
        return Standing::Serves;
    }
    let failure = status.failure.as_ref();
    if let Some(failure) = failure.filter(|it| has_failed(it, template)) {
        match status.phase {
            Some(Phase::Failed) => {
                return Standing::Failed {
                    why: why_failed(failure, status),
                };
            }
            // It does not serve any more, whatever keeps its pods.
            Some(Phase::RollingBack) if stalled(rollout, status).is_some() => {
                return Standing::Failed {
                    why: why_failed(failure, status),
                };
            }
            Some(
                Phase::Stable
                | Phase::Starting
                | Phase::Scaling
                | Phase::Shifting
                | Phase::Soaking
                | Phase::Paused
                | Phase::Promoting
                | Phase::Returning
                | Phase::RollingBack
                | Phase::Unsettled,
            )
            | None => {}
        }
    }
    let is_about_it = is_about(status, &template.revision);
    let held = rollout.spec.suspend.then(|| {
        "spec.suspend is true: nothing is raised, and no release begins, until it is false"
            .to_owned()
    });
    let stalled = stalled(rollout, status)
        .filter(|it| is_about_it || !OF_ANOTHER.contains(&it.reason.as_str()));
    let stalled = stalled.map(|it| format!("{}: {}", it.reason, it.message));
    match (is_about_it, stalled.or(held)) {
        (true, why) => match why.or_else(|| paused(status)) {
            Some(why) => Standing::Waits { why },
            None => Standing::Runs,
        },
        (false, Some(why)) => Standing::Blocked { why },
        (false, None) => Standing::Unseen,
    }
}

/// Whether this revision is released now, taken back, or about to serve everyone again.
fn is_about(status: &CanaryRolloutStatus, revision: &str) -> bool {
    let canary = status.canary.as_ref().map(|it| it.revision.as_str());
    let stable = status.stable.as_ref().map(|it| it.revision.as_str());
    match status.phase {
        Some(
            Phase::Starting
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Soaking
            | Phase::Paused
            | Phase::Promoting,
        ) => canary == Some(revision),
        Some(Phase::RollingBack | Phase::Returning) => {
            canary == Some(revision) || stable == Some(revision)
        }
        Some(Phase::Stable | Phase::Failed | Phase::Unsettled) | None => false,
    }
}

/// The operator's own rule: what failed is not tried again until more of it changes than its annotations; what was taken
/// back before anything was wrong with it has not failed.
pub fn has_failed(failure: &FailureStatus, template: &Template) -> bool {
    let same = failure.revision == template.revision
        || (!failure.content.is_empty() && failure.content == template.content);
    same && failure.cause != CauseStatus::TemplateReverted
}

fn why_failed(failure: &FailureStatus, status: &CanaryRolloutStatus) -> String {
    let said = if failure.message.is_empty() {
        String::new()
    } else {
        format!(" ({})", failure.message)
    };
    let cause = failure.cause;
    let message = status.message.as_deref().unwrap_or_default();
    // Whoever prints this says so already.
    let known = format!("revision {} was rolled back: ", failure.revision);
    let message = message.strip_prefix(&known).unwrap_or(message);
    if message.is_empty() {
        format!("{cause:?}{said}")
    } else {
        format!("{cause:?}: {message}")
    }
}

/// The condition, if it speaks of the present spec.
fn stalled<'a>(rollout: &CanaryRollout, status: &'a CanaryRolloutStatus) -> Option<&'a Condition> {
    let generation = rollout.metadata.generation;
    let stalled = condition(status, STALLED)?;
    let is_true = stalled.status == "True";
    (is_true && stalled.observed_generation == generation).then_some(stalled)
}

/// A pause that ends when a person says so, and not by itself: that of a step, or a person's own.
fn paused(status: &CanaryRolloutStatus) -> Option<String> {
    let reason = condition(status, RECONCILING).map(|it| it.reason.as_str());
    let is_paused = status.phase == Some(Phase::Paused);
    let step = status.step.as_ref();
    let ends = step.and_then(|step| step.pause_ends_at.as_ref());
    let message = status.message.as_deref().unwrap_or_default();
    let why = format!("{}: {message}", reason.unwrap_or("Paused"));
    let by_person = status.paused_by.is_some();
    (by_person || (is_paused && ends.is_none())).then_some(why)
}

pub fn condition<'a>(status: &'a CanaryRolloutStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|it| it.type_ == type_)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn template(revision: &str) -> Template {
        Template {
            revision: revision.to_owned(),
            content: format!("{revision}-content"),
        }
    }

    fn rollout(status: Value) -> CanaryRollout {
        let mut rollout: CanaryRollout = serde_json::from_value(json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "payment", "namespace": "shop", "generation": 3},
            "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
            "status": status,
        }))
        .unwrap();
        rollout.metadata.generation = Some(3);
        rollout
    }

    fn stalled(reason: &str, generation: i64) -> Value {
        json!([{
            "type": "Stalled", "status": "True", "reason": reason, "message": "mend it",
            "lastTransitionTime": "2026-03-04T10:00:00Z", "observedGeneration": generation,
        }])
    }

    fn of(status: Value) -> Standing {
        standing(&rollout(status), &template("new"))
    }

    #[test]
    fn the_end_of_an_earlier_release_is_not_the_end_of_this_one() {
        for status in [
            json!({}),
            json!({"phase": "Stable", "stable": {"revision": "old"}}),
            json!({"phase": "Failed", "stable": {"revision": "old"}, "failure": {"revision": "bad", "cause": "AnalysisFailed"},
                   "conditions": stalled("Failed", 3)}),
            json!({"phase": "Soaking", "stable": {"revision": "old"}, "canary": {"revision": "before", "run": 1}}),
            json!({"phase": "Unsettled"}),
        ] {
            assert_eq!(of(status.clone()), Standing::Unseen, "{status}");
        }
    }

    #[test]
    fn a_release_runs_until_it_serves_or_has_failed() {
        for phase in [
            "Starting",
            "Scaling",
            "Shifting",
            "Soaking",
            "Promoting",
            "RollingBack",
        ] {
            let status = json!({"phase": phase, "stable": {"revision": "old"}, "canary": {"revision": "new", "run": 1}});
            assert_eq!(of(status), Standing::Runs, "{phase}");
        }
        for phase in ["RollingBack", "Returning"] {
            let status = json!({"phase": phase, "stable": {"revision": "new"}, "canary": {"revision": "bad", "run": 1}});
            assert_eq!(
                of(status),
                Standing::Runs,
                "the template was put back: {phase}"
            );
        }
        let status = json!({"phase": "Stable", "stable": {"revision": "new"}});
        assert_eq!(of(status), Standing::Serves);
        let status = json!({"phase": "Failed", "stable": {"revision": "old"}, "canary": {"revision": "new", "run": 1},
            "failure": {"revision": "new", "cause": "WorseThanStable", "message": "9 of 40"}});
        let why = "WorseThanStable (9 of 40)".to_owned();
        assert_eq!(of(status.clone()), Standing::Failed { why });
        let mut status = status;
        status["message"] = json!("revision new was rolled back: it is worse; revision old serves");
        let why = "WorseThanStable: it is worse; revision old serves".to_owned();
        assert_eq!(of(status), Standing::Failed { why });
    }

    #[test]
    fn what_differs_from_a_failed_template_in_annotations_is_not_tried_again() {
        let failed = |cause: &str| {
            of(
                json!({"phase": "Failed", "stable": {"revision": "old"}, "failure":
                {"revision": "bad", "content": "new-content", "cause": cause}}),
            )
        };
        let why = "AnalysisFailed".to_owned();
        assert_eq!(failed("AnalysisFailed"), Standing::Failed { why });
        assert_eq!(failed("TemplateReverted"), Standing::Unseen);
    }

    #[test]
    fn a_rollback_that_is_stuck_has_failed_and_waits_for_nobody() {
        let status = json!({"phase": "RollingBack", "stable": {"revision": "old"}, "canary": {"revision": "new", "run": 1},
            "failure": {"revision": "new", "cause": "CanaryLost"}, "conditions": stalled("RollingBack", 3)});
        let why = "CanaryLost".to_owned();
        assert_eq!(of(status), Standing::Failed { why });
    }

    #[test]
    fn a_person_is_waited_for_where_nothing_goes_on_by_itself() {
        let running = |more: Value| {
            let mut status = json!({"phase": "Soaking", "stable": {"revision": "old"}, "canary": {"revision": "new", "run": 1}});
            status
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            of(status)
        };
        let waits = |why: &str| Standing::Waits {
            why: why.to_owned(),
        };
        assert_eq!(
            running(json!({"conditions": stalled("Inconclusive", 3)})),
            waits("Inconclusive: mend it")
        );
        assert_eq!(
            running(json!({"conditions": stalled("Inconclusive", 2)})),
            Standing::Runs,
            "that was before the spec was mended"
        );
        let step = json!({"index": 0, "position": "1/2", "weight": 50});
        assert_eq!(
            running(json!({"phase": "Paused", "step": step, "message": "passed, and pauses"})),
            waits("Paused: passed, and pauses")
        );
        let held = json!({"user": "jane", "since": "2026-03-04T10:00:00.000000Z"});
        assert_eq!(
            running(json!({"message": "Paused by jane", "pausedBy": held})),
            waits("Paused: Paused by jane"),
            "a person holds it while it soaks"
        );
        let mut ends = step;
        ends["pauseEndsAt"] = json!("2026-03-04T10:00:00.000000Z");
        assert_eq!(
            running(json!({"phase": "Paused", "step": ends})),
            Standing::Runs
        );
    }

    #[test]
    fn what_forbids_a_release_that_nothing_is_said_of_may_be_of_a_moment_ago() {
        let stable = json!({"phase": "Stable", "stable": {"revision": "old"}});
        let mut invalid = stable.clone();
        invalid["conditions"] = stalled("InvalidSpec", 3);
        let why = "InvalidSpec: mend it".to_owned();
        assert_eq!(of(invalid), Standing::Blocked { why });
        let mut suspended = rollout(stable);
        suspended.spec.suspend = true;
        assert!(matches!(
            standing(&suspended, &template("new")),
            Standing::Blocked { .. }
        ));
        assert_eq!(standing(&suspended, &template("old")), Standing::Serves);
    }
}
