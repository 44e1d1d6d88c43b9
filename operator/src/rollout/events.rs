//! What happened, as Kubernetes Events: one reason for each kind of thing, and a note for people.

use kube::runtime::events::{Event as KubeEvent, EventType};
use rollout_core::plan::Plan;
use rollout_core::{Cause, Event};

/// The event for a step of the machine. `canary` is the revision of the run, and `detail` the newest
/// judgement's reason, for those that it explains.
pub fn event(event: &Event, plan: &Plan, target: &str, canary: &str, detail: &str) -> KubeEvent {
    let steps = plan.steps();
    let (kind, reason, note) = match event {
        Event::RunStarted { revision } => {
            let weights: Vec<String> = steps.iter().map(|step| step.weight.to_string()).collect();
            (
                EventType::Normal,
                "ReleaseStarted",
                format!(
                    "releasing revision {revision} of Deployment {target}: {}",
                    weights.join(" -> ")
                ),
            )
        }
        Event::Superseded { revision } => (
            EventType::Normal,
            "Superseded",
            format!("revision {revision} was superseded by a newer template; its weight is 0"),
        ),
        Event::WeightRaised { step, weight } => (
            EventType::Normal,
            "WeightRaised",
            format!(
                "step {}/{}: weight {weight} of revision {canary} sent to the proxies",
                step + 1,
                steps.len()
            ),
        ),
        Event::WeightAcknowledged { step, weight } => {
            let soak = plan.step(*step).soak.0 / 1000;
            (
                EventType::Normal,
                "SoakStarted",
                format!(
                    "step {}/{}: every proxy uses weight {weight} of revision {canary}; soaking for {soak}s",
                    step + 1,
                    steps.len()
                ),
            )
        }
        Event::WindowFailed {
            in_a_row,
            tolerated,
        } => (
            EventType::Warning,
            "CheckFailed",
            format!("{in_a_row} failed window(s) in a row, {tolerated} tolerated: {detail}"),
        ),
        Event::AdvancedWithoutEvidence { step } => (
            EventType::Warning,
            "AdvancedWithoutEvidence",
            format!(
                "step {}/{} could not be judged within noEvidence.hold: {detail}",
                step + 1,
                steps.len()
            ),
        ),
        Event::PromotionStarted { revision } => (
            EventType::Normal,
            "Promoting",
            format!(
                "every step passed: Deployment {target} rolls to revision {revision} while the canary carries the traffic"
            ),
        ),
        Event::Promoted { revision } => (
            EventType::Normal,
            "Promoted",
            format!("revision {revision} is stable and serves everyone"),
        ),
        Event::Ungated { revision } => (
            EventType::Warning,
            "Ungated",
            format!(
                "Deployment {target} rolled to revision {revision} without a release: the gate was switched off"
            ),
        ),
        Event::RolledBack {
            revision,
            cause,
            from,
        } => (
            EventType::Warning,
            "RolledBack",
            format!(
                "revision {revision} went from weight {from} to 0%: {}",
                because(*cause, detail)
            ),
        ),
        Event::RollbackComplete { revision } => (
            EventType::Normal,
            "RollbackComplete",
            format!("no proxy uses revision {revision} any more, and its pods are gone"),
        ),
        Event::Recovered { revision } => (
            EventType::Normal,
            "Recovered",
            format!("Deployment {target} asks for the stable revision {revision} again"),
        ),
    };
    of(kind, reason, note)
}

/// The recorder counts events of one reason and action as repetitions of the first, whatever their notes say; so the action says
/// what the note says.
pub fn of(kind: EventType, reason: &str, note: String) -> KubeEvent {
    let mut action = note.clone();
    let end = (0..=120.min(action.len()))
        .rev()
        .find(|&end| action.is_char_boundary(end))
        .unwrap_or(0);
    action.truncate(end);
    KubeEvent {
        type_: kind,
        reason: reason.to_owned(),
        note: Some(cut(note)),
        action,
        secondary: None,
    }
}

/// A sentence for a cause.
pub fn because(cause: Cause, detail: &str) -> String {
    match cause {
        Cause::AnalysisFailed => format!("the checks failed ({detail})"),
        Cause::ProgressDeadlineExceeded => "the canary's pods or the proxies' acknowledgements took longer than spec.progressDeadline".to_owned(),
        Cause::CanaryLost => "the canary's pods were lost".to_owned(),
        Cause::NotMeshed => "a pod of the canary has no sidecar: label the namespace aviary.dev/inject=enabled, and leave the pods' label aviary.dev/inject alone".to_owned(),
        Cause::Revoked => "a proxy has seen this release rolled back before".to_owned(),
        Cause::TemplateReverted => "the Deployment's template is the stable one again".to_owned(),
        Cause::Deleted => "the CanaryRollout was deleted".to_owned(),
    }
}

/// The API refuses notes above 1024 bytes.
pub fn cut(mut note: String) -> String {
    if note.len() > 1000 {
        let mut end = 1000;
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note.push_str("...");
    }
    note
}
