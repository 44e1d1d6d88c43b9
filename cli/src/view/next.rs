//! What happens next, and when.

use aviary_crds::CanaryRollout;
use aviary_crds::spec;
use aviary_crds::status::{CanaryRolloutStatus, Phase, StepStatus};
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::time;

/// What happens next.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    pub what: String,
    /// Not before then; absent when nobody can know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// A person has to act.
    pub needs_person: bool,
}

/// The steps of the spec, if they are the ones that the release is at: a release goes on with the plan that it began with.
pub(super) fn steps_in_force<'a>(rollout: &'a CanaryRollout, of: &StepStatus) -> &'a [spec::Step] {
    let steps = &rollout.spec.steps;
    let count = of.position.split('/').nth(1);
    let same_count = count.is_some_and(|count| count.parse() == Ok(steps.len()));
    let here = usize::try_from(of.index).ok().and_then(|at| steps.get(at));
    if same_count && here.is_some_and(|step| step.weight == of.weight) {
        steps
    } else {
        &[]
    }
}

pub(super) fn next(rollout: &CanaryRollout, status: &CanaryRolloutStatus) -> Next {
    let target = &rollout.spec.target_ref.name;
    let by_itself = |what: String, at: Option<Timestamp>| Next {
        what,
        at,
        needs_person: false,
    };
    let by_person = |what: String| Next {
        what,
        at: None,
        needs_person: true,
    };
    let step = status.step.as_ref();
    let of = step.map(|step| (step, steps_in_force(rollout, step)));
    let weight = step.map_or(0, |step| step.weight);
    match status.phase {
        None => by_itself("the operator looks at it".to_owned(), None),
        Some(Phase::Stable) => by_itself(
            format!("a new template of Deployment {target} starts a release"),
            None,
        ),
        Some(Phase::Starting | Phase::Scaling) => {
            let canary = status.canary.as_ref();
            let pods = canary.and_then(|it| it.needed).unwrap_or(0);
            by_itself(
                format!("weight {weight}% when {pods} of its pods are Ready"),
                None,
            )
        }
        Some(Phase::Shifting) => by_itself(
            format!("the soak at {weight}% begins when every proxy has acknowledged it"),
            None,
        ),
        Some(Phase::Soaking) => {
            let at = step.and_then(|step| time(step.soak_ends_at.as_ref()));
            by_itself(format!("{}, if it passes", after_soak(of)), at)
        }
        Some(Phase::Paused) => match step.and_then(|step| time(step.pause_ends_at.as_ref())) {
            Some(at) => by_itself(after_pause(of), Some(at)),
            None => by_person(format!("{}, when a person lets it go on", after_pause(of))),
        },
        Some(Phase::Promoting) => by_itself(
            format!("it is the stable revision when Deployment {target} has rolled"),
            None,
        ),
        Some(Phase::Returning) => by_itself(
            "the stable pods take over again as they become Ready".to_owned(),
            None,
        ),
        Some(Phase::RollingBack) => by_itself(
            "its pods go when no proxy uses them any more".to_owned(),
            None,
        ),
        Some(Phase::Failed) => by_person(format!(
            "nothing by itself: apply a fixed template of Deployment {target}, or the stable one, or try this one again: kubectl aviary retry {} -n {}",
            rollout.name_any(),
            rollout.namespace().unwrap_or_default()
        )),
        Some(Phase::Unsettled) => by_itself(
            "what serves is found out; until then nothing is released".to_owned(),
            None,
        ),
    }
}

/// What follows the step once it has passed: its pause, and then the next step.
fn after_soak(of: Option<(&StepStatus, &[spec::Step])>) -> String {
    let next = after_pause(of);
    let here = of.and_then(|(step, steps)| steps.get(usize::try_from(step.index).ok()?));
    match here.and_then(|step| step.pause.as_ref()) {
        Some(spec::Pause { duration: None }) => {
            format!("a pause until a person lets it go on, then {next}")
        }
        Some(spec::Pause {
            duration: Some(length),
        }) => format!("a pause of {length}, then {next}"),
        None => next,
    }
}

/// What follows the step and its pause.
fn after_pause(of: Option<(&StepStatus, &[spec::Step])>) -> String {
    let next = |(step, steps): (&StepStatus, &[spec::Step])| {
        let index = usize::try_from(step.index).ok()?;
        Some(match steps.get(index + 1) {
            Some(next) => format!("weight {}%", next.weight),
            None if index + 1 == steps.len() => "the promotion".to_owned(),
            None => return None,
        })
    };
    of.and_then(next)
        .unwrap_or_else(|| "the next step".to_owned())
}
