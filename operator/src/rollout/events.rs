//! What happened, in words: one reason for each kind of thing, and a note for people. They become Events and log lines.

use aviary_crds::status::DecisionRecord;
use rollout_core::plan::{Pause, Plan};
use rollout_core::state::State;
use rollout_core::{By, Cause, Event, Unsettled};

use crate::reason::{Reason, Tone};
use crate::text::cut;

/// The API refuses notes above 1024 bytes.
const NOTE: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub tone: Tone,
    pub reason: Reason,
    pub text: String,
    /// What was decided, for the log.
    pub decision: Option<Box<DecisionRecord>>,
}

impl Note {
    pub fn normal(reason: Reason, text: String) -> Note {
        Note {
            tone: Tone::Normal,
            reason,
            text: cut(text, NOTE),
            decision: None,
        }
    }

    pub fn warning(reason: Reason, text: String) -> Note {
        Note {
            tone: Tone::Warning,
            reason,
            text: cut(text, NOTE),
            decision: None,
        }
    }
}

/// What the notes about a run speak of.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The plan in force.
    pub plan: &'a Plan,
    /// The Deployment's name.
    pub target: &'a str,
    /// The revision of the run.
    pub canary: &'a str,
    /// The newest judgement's reason, for those events that it explains.
    pub detail: &'a str,
    /// The same of the stable revision.
    pub stable: &'a str,
    /// Who skipped the judgement of the run.
    pub skips: Option<&'a By>,
}

/// The note for a step of the machine.
pub fn note(event: &Event, about: About<'_>) -> Note {
    let About {
        plan,
        target,
        canary,
        detail,
        ..
    } = about;
    let count = plan.steps().len();
    match event {
        Event::Adopted { revision } => Note::normal(
            Reason::Adopted,
            format!(
                "revision {revision} of Deployment {target} serves everyone: it is the stable one"
            ),
        ),
        Event::FoundPaused { revision } => Note::warning(
            Reason::FoundPaused,
            format!(
                "Deployment {target} was found paused on revision {revision}, which does not serve; it is not released until the template changes"
            ),
        ),
        Event::Unsettled { why } => {
            Note::warning(Reason::Unsettled, because_unsettled(*why, target))
        }
        Event::Recreated => Note::warning(
            Reason::Recreated,
            format!(
                "Deployment {target} is another one than before: what was known of the old one is void, and every weight is 0"
            ),
        ),
        Event::RunStarted { revision } => Note::normal(
            Reason::ReleaseStarted,
            format!(
                "releasing revision {revision} of Deployment {target}: {}",
                weights(plan)
            ),
        ),
        Event::Superseded { revision } => Note::normal(
            Reason::Superseded,
            format!("revision {revision} was superseded by a newer template; its weight is 0"),
        ),
        Event::PlanChanged { plan, step } => Note::normal(
            Reason::PlanChanged,
            format!(
                "the spec was edited: step {}/{} of {} is in force; nothing is raised before it is earned",
                step + 1,
                plan.steps().len(),
                weights(plan)
            ),
        ),
        Event::LeaseLapsed { revision, from } => Note::warning(
            Reason::LeaseLapsed,
            format!(
                "no operator renewed weight {from} of revision {revision} for as long as proxies wait: they went back to stable, and the release begins again at its first step"
            ),
        ),
        Event::WeightRaised { step, weight } => Note::normal(
            Reason::WeightRaised,
            format!(
                "step {}/{count}: weight {weight} of revision {canary} sent to the proxies",
                step + 1
            ),
        ),
        Event::WeightAcknowledged { step, weight } => Note::normal(
            Reason::SoakStarted,
            format!(
                "step {}/{count}: every proxy uses weight {weight} of revision {canary}; soaking for {}s",
                step + 1,
                plan.step(*step).soak.0 / 1000
            ),
        ),
        Event::WindowFailed {
            in_a_row,
            tolerated,
        } => Note::warning(
            Reason::CheckFailed,
            format!("{in_a_row} failed window(s) in a row, {tolerated} tolerated: {detail}"),
        ),
        Event::AdvancedWithoutEvidence { step } => Note::warning(
            Reason::AdvancedWithoutEvidence,
            format!(
                "step {}/{count} could not be judged within noEvidence.hold: {detail}",
                step + 1
            ),
        ),
        Event::Paused { step } => {
            let pause = plan.step(*step).pause;
            let until = match pause {
                Some(Pause::For(length)) => format!("for {}s", length.0 / 1000),
                Some(Pause::Promote) | None => "until a person lets it go on".to_owned(),
            };
            Note::normal(
                Reason::Paused,
                format!(
                    "step {}/{count} passed: revision {canary} keeps its weight {until}",
                    step + 1
                ),
            )
        }
        Event::PausedByFailure { weight } => Note::warning(
            Reason::FailurePaused,
            format!(
                "the checks failed ({detail}), and spec.onFailure is Pause: revision {canary} keeps weight {weight} until a person puts the stable template back, or lets it be judged anew"
            ),
        ),
        Event::StableFails => Note::warning(
            Reason::StableFailing,
            format!(
                "the stable revision fails the checks too ({}): nothing is raised until it passes them, or a person says so",
                about.stable
            ),
        ),
        Event::StableRecovered => Note::normal(
            Reason::StableRecovered,
            "the stable revision passes the checks again".to_owned(),
        ),
        Event::LetOn { weight, by } => Note::normal(
            Reason::LetOn,
            format!("{by} let revision {canary} go on from weight {weight}"),
        ),
        Event::JudgedAnew { weight, by } => Note::normal(
            Reason::JudgedAnew,
            format!(
                "{by} wants revision {canary} to be judged anew at weight {weight}: the windows that failed are forgotten"
            ),
        ),
        Event::JudgementSkipped { weight, by } => Note::warning(
            Reason::JudgementSkipped,
            format!(
                "{by} skips the rest of the steps and their judgement: revision {canary} goes from weight {weight} to 100% as soon as all of its pods are Ready, and is promoted"
            ),
        ),
        Event::Held { weight, by } => Note::normal(
            Reason::PausedByPerson,
            format!(
                "{by} paused the release: revision {canary} keeps weight {weight} until somebody resumes it"
            ),
        ),
        Event::Resumed { by } => Note::normal(
            Reason::Resumed,
            format!("{by} ended the pause of the release of revision {canary}"),
        ),
        Event::Retried { revision, by } => Note::normal(
            Reason::Retried,
            format!("{by} wants revision {revision} to be tried again, from its first step"),
        ),
        Event::PromotionAborted { revision, by } => Note::warning(
            Reason::PromotionAborted,
            format!(
                "{by} aborted the promotion of revision {canary}: the pods of the stable revision {revision} take over as far as they are Ready"
            ),
        ),
        Event::LetGo { revision } => Note::warning(
            Reason::LetGo,
            format!(
                "the CanaryRollout was deleted, and spec.deletionPolicy is Promote: Deployment {target} rolls to revision {revision} by itself"
            ),
        ),
        Event::PromotionStarted { revision } => Note::normal(
            Reason::Promoting,
            format!(
                "{}: Deployment {target} rolls to revision {revision} while the canary carries the traffic",
                earned_by(about.skips)
            ),
        ),
        Event::Promoted { revision } => Note::normal(
            Reason::Promoted,
            format!("revision {revision} is stable and serves everyone"),
        ),
        Event::Returning { revision } => Note::normal(
            Reason::Returning,
            format!(
                "Deployment {target} asks for the stable revision {revision} again: its pods take over as far as they are Ready"
            ),
        ),
        Event::Ungated { revision } => Note::warning(
            Reason::Ungated,
            format!(
                "Deployment {target} rolled to revision {revision} without a release: the gate was switched off"
            ),
        ),
        Event::RolledBack {
            revision,
            cause,
            from,
        } => Note::warning(
            Reason::RolledBack,
            format!(
                "revision {revision} went from weight {from} to 0%: {}",
                because(*cause, detail)
            ),
        ),
        Event::RollbackComplete { revision } => Note::normal(
            Reason::RollbackComplete,
            format!("no proxy uses revision {revision} any more, and its copy is gone"),
        ),
        Event::Recovered { revision } => Note::normal(
            Reason::Recovered,
            format!("Deployment {target} asks for the stable revision {revision} again"),
        ),
    }
}

fn weights(plan: &Plan) -> String {
    let weights: Vec<String> = plan
        .steps()
        .iter()
        .map(|step| step.weight.to_string())
        .collect();
    weights.join(" -> ")
}

/// Why a revision is promoted.
pub fn earned_by(skips: Option<&By>) -> String {
    skips.map_or_else(
        || "every step passed".to_owned(),
        |by| format!("{by} skipped the judgement"),
    )
}

/// A request that answers nothing. `why` says so, and what can be done instead.
pub fn ignored(asked: &str, by: &By, why: &str) -> Note {
    Note::warning(
        Reason::RequestIgnored,
        format!(
            "{}={} of {by} was not heeded and is removed: {why}",
            aviary_crds::REQUEST_ANNOTATION,
            cut(asked.to_owned(), 120)
        ),
    )
}

/// Why the weight of the newest run of this state went to 0. `detail` is that of a judgement.
pub fn why(state: &State, cause: Cause, detail: &str) -> String {
    let by = state
        .failure
        .as_ref()
        .and_then(|failure| failure.by.as_ref());
    because(cause, by.map_or(detail, By::name))
}

/// A sentence for a cause.
pub fn because(cause: Cause, detail: &str) -> String {
    match cause {
        Cause::AnalysisFailed => format!("the checks failed ({detail})"),
        Cause::WorseThanStable => {
            format!("the canary is worse than the stable revision ({detail})")
        }
        Cause::ProgressDeadlineExceeded => {
            "the canary's pods took longer than spec.progressDeadline".to_owned()
        }
        Cause::CanaryLost => "the canary's pods were lost".to_owned(),
        Cause::NotMeshed => "a pod of the canary has no sidecar: label the namespace aviary.dev/inject=enabled, and leave the pods' label aviary.dev/inject alone".to_owned(),
        Cause::Aborted => format!("{detail} aborted it"),
        Cause::HookRefused => format!("a hook did not agree ({detail})"),
        Cause::Revoked => "a proxy has seen this release rolled back before".to_owned(),
        Cause::TemplateReverted => "the Deployment's template is the stable one again".to_owned(),
        Cause::Deleted => "the CanaryRollout was deleted".to_owned(),
        Cause::BreakGlass => "a person has taken over (annotation aviary.dev/break-glass)".to_owned(),
        Cause::FoundPaused => "the Deployment was found paused on it".to_owned(),
    }
}

/// What requests mean for a release that nobody has picked a revision for, and what to do about them.
pub fn from_outside(requests: u64) -> String {
    format!(
        "about {requests} requests a minute of callers outside the mesh are spread over stable and canary pods by the number of pods, not by weight, and no check sees them: the pods that they come to do not pick a revision for them, because their sidecars are older than this operator, or have not heard from it since the release began. Make those pods anew (kubectl rollout restart), or give the callers a sidecar (label their namespace {}=enabled)",
        aviary_crds::INJECT_LABEL
    )
}

/// What it means that proxies hold requests back.
pub fn withheld(requests: u64, canary: &str) -> String {
    format!(
        "sidecars give requests of revision {canary}'s share to stable ({requests} in one second), because far more of them fail there: nothing is raised while they do, and the guard decides by the few that they go on trying"
    )
}

/// Why nobody knows which revision serves, and what ends that.
pub fn because_unsettled(why: Unsettled, target: &str) -> String {
    match why {
        Unsettled::Rolling => format!(
            "Deployment {target} rolls by itself: when it is done, what it runs is the stable revision"
        ),
        Unsettled::HalfRolled => format!(
            "Deployment {target} is paused with pods of several revisions, so nobody can tell which one serves: resume it (kubectl rollout resume deployment/{target}), and when it has rolled, what it runs is the stable revision"
        ),
        Unsettled::NothingServes => format!(
            "Deployment {target} is paused and has no pods, so nobody can tell which revision serves: scale it up or resume it"
        ),
        Unsettled::BreakGlass => format!(
            "a person has taken over: Deployment {target} has the annotation aviary.dev/break-glass, so nothing is split, paused or released; when the annotation is removed, what serves then is the stable revision"
        ),
        Unsettled::Clearing => format!(
            "the pods of a release that ended are going away; then what Deployment {target} runs is the stable revision"
        ),
        Unsettled::Leaving => format!(
            "the CanaryRollout was deleted while Deployment {target} rolled to a version that had passed every step: the Deployment goes on by itself"
        ),
        Unsettled::LetGo => format!(
            "the CanaryRollout was deleted, and spec.deletionPolicy is Promote: Deployment {target} rolls to its template by itself"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_and_every_doubt_has_a_sentence_of_its_own() {
        let causes = Cause::ALL.map(|cause| because(cause, "why"));
        let doubts = Unsettled::ALL.map(|why| because_unsettled(why, "payment"));
        let all: std::collections::BTreeSet<&String> = causes.iter().chain(&doubts).collect();
        assert_eq!(all.len(), causes.len() + doubts.len());
    }

    #[test]
    fn a_note_is_never_longer_than_the_api_takes() {
        assert!(Note::warning(Reason::Ungated, "e".repeat(5000)).text.len() <= 1024);
    }
}
