//! What a verb asks of a release, by what its status shows: pure. What makes no sense is refused before it is asked.

use aviary_crds::CanaryRollout;
use aviary_crds::condition::RECONCILING;
use aviary_crds::request::{InvalidRequest, REQUEST_ANNOTATION, Request, Verb};
use aviary_crds::status::{CanaryRolloutStatus, Phase};
use kube::ResourceExt;

use crate::standing::{condition, has_failed};
use crate::template::Template;

/// Why `Reconciling` is true of a release that a person can let on.
const WAITS: [&str; 5] = [
    "Paused",
    "FailurePaused",
    "StableFailing",
    "ErrorBudget",
    "Inconclusive",
];

/// Why nothing is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("nothing is being released: {0}")]
    NothingRuns(String),
    #[error("revision {0} is on its way back already")]
    GoesBack(String),
    #[error(
        "revision {0} has passed every step, and Deployment {1} rolls to it: abort takes it back"
    )]
    Promotes(String, String),
    #[error("the release waits for nobody: {0}; promote --now skips what is left of its steps")]
    WaitsForNobody(String),
    #[error("{0} has paused the release: resume it first")]
    OnHold(String),
    #[error("nobody has paused the release")]
    NotOnHold,
    #[error("nothing has failed that Deployment {0} still asks for: there is nothing to try again")]
    NothingFailed(String),
    #[error("revision {shown} is not the one that is being released: that is {runs}")]
    OtherRevision { shown: String, runs: String },
    #[error(
        "{0} was asked for, and is not answered yet; to take it back: kubectl -n {1} annotate canaryrollout {2} {REQUEST_ANNOTATION}-"
    )]
    Unanswered(String, String, String),
    #[error("what the status says makes no request: {0}")]
    Invalid(#[from] InvalidRequest),
}

/// The request of `verb` to what `rollout` shows. `template`: what the Deployment asks for. `shown`: the revision that a person
/// speaks of, if they name one.
pub fn ask(
    verb: Verb,
    rollout: &CanaryRollout,
    template: Option<&Template>,
    shown: Option<&str>,
) -> Result<Request, Refusal> {
    let default = CanaryRolloutStatus::default();
    let status = rollout.status.as_ref().unwrap_or(&default);
    let request = request(verb, rollout, status, template)?;
    if let Some(shown) = shown.filter(|shown| *shown != request.revision) {
        return Err(Refusal::OtherRevision {
            shown: shown.to_owned(),
            runs: request.revision,
        });
    }
    let asked = rollout.annotations().get(REQUEST_ANNOTATION);
    // Nothing stands in the way of an abort.
    let asked = asked.filter(|_| verb != Verb::Abort);
    match asked.filter(|asked| **asked != request.to_string()) {
        Some(asked) => Err(Refusal::Unanswered(
            asked.clone(),
            rollout.namespace().unwrap_or_default(),
            rollout.name_any(),
        )),
        None => Ok(request),
    }
}

fn request(
    verb: Verb,
    rollout: &CanaryRollout,
    status: &CanaryRolloutStatus,
    template: Option<&Template>,
) -> Result<Request, Refusal> {
    let target = &rollout.spec.target_ref.name;
    let message = status.message.clone().unwrap_or_default();
    match verb {
        Verb::Promote => {
            let revision = free(status, target)?;
            let weight = status.weight.as_ref().map_or(0, |it| it.desired);
            let reason = condition(status, RECONCILING).map_or("", |it| it.reason.as_str());
            if !WAITS.contains(&reason) {
                return Err(Refusal::WaitsForNobody(message));
            }
            Ok(Request::try_new(verb, revision, u8::try_from(weight).ok())?)
        }
        Verb::PromoteNow | Verb::Pause => Ok(Request::try_new(verb, free(status, target)?, None)?),
        Verb::Resume => {
            let revision = running(status, target)?;
            if status.paused_by.is_none() {
                return Err(Refusal::NotOnHold);
            }
            Ok(Request::try_new(verb, revision, None)?)
        }
        Verb::Abort => {
            let revision = match running(status, target) {
                Err(Refusal::Promotes(..)) => canary(status),
                other => other?,
            };
            Ok(Request::try_new(verb, revision, None)?)
        }
        Verb::Retry => {
            let failed = status.failure.as_ref().filter(|failure| {
                let same = template.is_none_or(|template| has_failed(failure, template));
                same && matches!(status.phase, Some(Phase::Failed | Phase::RollingBack))
            });
            let failed = failed.ok_or_else(|| Refusal::NothingFailed(target.clone()))?;
            Ok(Request::try_new(verb, &failed.revision, None)?)
        }
        Verb::Undo | Verb::Restart => {
            let stable = status.stable.as_ref().map_or("", |it| it.revision.as_str());
            Ok(Request::try_new(verb, stable, None)?)
        }
    }
}

/// What is done instead of what no operator heeds: a template is its owner's to write, and pods are the Deployment's to replace.
pub fn instead(verb: Verb, name: &str) -> String {
    match verb {
        Verb::Undo => format!(
            "there is no undo, since the template is yours to write, or Git's: put the older one back (kubectl apply), and once kubectl aviary status {name} shows its revision, kubectl aviary promote {name} --now; a release that is under way is taken back by kubectl aviary abort {name}"
        ),
        Verb::Restart => "there is no restart: kubectl rollout restart deployment/NAME, with the name of the Deployment, releases the same version with new pods, step by step".to_owned(),
        Verb::Promote | Verb::PromoteNow | Verb::Abort | Verb::Retry | Verb::Pause | Verb::Resume => {
            format!("kubectl aviary {verb} {name}")
        }
    }
}

fn canary(status: &CanaryRolloutStatus) -> &str {
    status.canary.as_ref().map_or("", |it| it.revision.as_str())
}

/// The same, if nobody has paused it.
fn free<'a>(status: &'a CanaryRolloutStatus, target: &str) -> Result<&'a str, Refusal> {
    let revision = running(status, target)?;
    match &status.paused_by {
        Some(by) => Err(Refusal::OnHold(by.user.clone())),
        None => Ok(revision),
    }
}

/// The revision that climbs the steps.
fn running<'a>(status: &'a CanaryRolloutStatus, target: &str) -> Result<&'a str, Refusal> {
    let revision = canary(status);
    let message = || status.message.clone().unwrap_or_default();
    match status.phase {
        Some(
            Phase::Starting | Phase::Scaling | Phase::Shifting | Phase::Soaking | Phase::Paused,
        ) => Ok(revision),
        Some(Phase::Promoting) => Err(Refusal::Promotes(revision.to_owned(), target.to_owned())),
        Some(Phase::RollingBack | Phase::Returning) => Err(Refusal::GoesBack(revision.to_owned())),
        Some(Phase::Stable | Phase::Failed | Phase::Unsettled) | None => {
            Err(Refusal::NothingRuns(message()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rollout(phase: &str, more: Value) -> CanaryRollout {
        let mut status = json!({
            "phase": phase, "message": "as it is", "stable": {"revision": "old"}, "canary": {"revision": "new", "run": 1},
            "weight": {"desired": 50, "sent": 50, "acknowledged": 1, "proxies": 1},
        });
        let more = more.as_object().unwrap().clone();
        status.as_object_mut().unwrap().extend(more);
        serde_json::from_value(json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "payment", "namespace": "shop"},
            "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
            "status": status,
        }))
        .unwrap()
    }

    fn waits(reason: &str) -> Value {
        json!({"conditions": [{"type": "Reconciling", "status": "True", "reason": reason, "message": "",
            "lastTransitionTime": "2026-03-04T10:00:00Z"}]})
    }

    fn asked(verb: Verb, rollout: &CanaryRollout) -> Result<String, String> {
        let template = Template {
            revision: "new".to_owned(),
            content: "new-content".to_owned(),
        };
        let request = ask(verb, rollout, Some(&template), None);
        request
            .map(|it| it.to_string())
            .map_err(|it| it.to_string())
    }

    #[test]
    fn a_verb_that_others_have_says_what_to_do_instead() {
        let undo = instead(Verb::Undo, "payment");
        assert!(
            undo.contains("kubectl aviary promote payment --now"),
            "{undo}"
        );
        let restart = instead(Verb::Restart, "payment");
        assert!(restart.contains("kubectl rollout restart"), "{restart}");
    }

    #[test]
    fn a_request_names_the_revision_and_the_weight_that_are_shown() {
        for (verb, phase, value) in [
            (Verb::Promote, "Paused", "promote:new@50"),
            (Verb::PromoteNow, "Soaking", "promote-now:new"),
            (Verb::Abort, "Shifting", "abort:new"),
            (Verb::Abort, "Promoting", "abort:new"),
            (Verb::Pause, "Scaling", "pause:new"),
        ] {
            let rollout = rollout(phase, waits("Paused"));
            assert_eq!(
                asked(verb, &rollout).as_deref(),
                Ok(value),
                "{verb} in {phase}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_asked() {
        for (verb, phase, why) in [
            (Verb::Abort, "Stable", "nothing is being released: as it is"),
            (Verb::Abort, "Failed", "nothing is being released: as it is"),
            (
                Verb::Pause,
                "RollingBack",
                "revision new is on its way back already",
            ),
            (
                Verb::Pause,
                "Promoting",
                "revision new has passed every step, and Deployment payment rolls to it: abort takes it back",
            ),
            (
                Verb::Promote,
                "Soaking",
                "the release waits for nobody: as it is; promote --now skips what is left of its steps",
            ),
            (
                Verb::Retry,
                "Stable",
                "nothing has failed that Deployment payment still asks for: there is nothing to try again",
            ),
        ] {
            let rollout = rollout(phase, waits("Soaking"));
            assert_eq!(
                asked(verb, &rollout),
                Err(why.to_owned()),
                "{verb} in {phase}"
            );
        }
    }

    #[test]
    fn what_a_person_has_paused_is_resumed_before_anything_else() {
        let held = json!({"pausedBy": {"user": "jane", "since": "2026-03-04T10:00:00.000000Z"}});
        let held = rollout("Soaking", held);
        assert_eq!(asked(Verb::Resume, &held).as_deref(), Ok("resume:new"));
        assert_eq!(asked(Verb::Abort, &held).as_deref(), Ok("abort:new"));
        for verb in [Verb::Promote, Verb::PromoteNow, Verb::Pause] {
            let why = "jane has paused the release: resume it first".to_owned();
            assert_eq!(asked(verb, &held), Err(why), "{verb}");
        }
        let why = "nobody has paused the release".to_owned();
        assert_eq!(
            asked(Verb::Resume, &rollout("Soaking", json!({}))),
            Err(why)
        );
    }

    #[test]
    fn what_failed_is_tried_again_under_the_name_it_failed_by() {
        let failed =
            |failure: Value| asked(Verb::Retry, &rollout("Failed", json!({"failure": failure})));
        let same = json!({"revision": "new", "cause": "AnalysisFailed"});
        assert_eq!(failed(same).as_deref(), Ok("retry:new"));
        let annotated =
            json!({"revision": "before", "content": "new-content", "cause": "CanaryLost"});
        assert_eq!(failed(annotated).as_deref(), Ok("retry:before"));
        let another = json!({"revision": "other", "cause": "AnalysisFailed"});
        assert!(failed(another).is_err());
    }

    #[test]
    fn nobody_asks_for_what_another_has_not_been_answered_yet() {
        let mut rollout = rollout("Soaking", json!({}));
        let annotations = rollout.annotations_mut();
        annotations.insert(REQUEST_ANNOTATION.to_owned(), "pause:new".to_owned());
        assert_eq!(
            asked(Verb::Pause, &rollout).as_deref(),
            Ok("pause:new"),
            "the same"
        );
        assert_eq!(asked(Verb::Abort, &rollout).as_deref(), Ok("abort:new"));
        let why = asked(Verb::PromoteNow, &rollout).unwrap_err();
        assert!(
            why.ends_with("annotate canaryrollout payment aviary.dev/request-"),
            "{why}"
        );
    }

    #[test]
    fn a_revision_that_a_person_names_has_to_be_the_one_that_runs() {
        let rollout = rollout("Soaking", json!({}));
        let why = ask(Verb::Abort, &rollout, None, Some("older")).unwrap_err();
        let text = "revision older is not the one that is being released: that is new";
        assert_eq!(why.to_string(), text);
        assert!(ask(Verb::Abort, &rollout, None, Some("new")).is_ok());
    }
}
