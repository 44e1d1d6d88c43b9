//! A plan that is edited while a run is under way: it may lower or hold at once, and raises only from the next earned
//! step on.

use crate::event::Event;
use crate::observation::Observation;
use crate::plan::{Plan, Step};
use crate::state::{Phase, State};

/// Takes the spec's plan in, if it is another one than the run knows.
pub(super) fn take_in(
    plan: &Plan,
    held: &mut State,
    seen: &Observation,
    happened: &mut Vec<Event>,
) {
    let phase = held.phase;
    let Some(run) = held.run.as_mut().filter(|run| run.asked != *plan) else {
        return;
    };
    run.asked = plan.clone();
    if run.skips.is_some() {
        // Its steps are not the spec's any more, so nothing of the spec's is in their place.
        run.plan = run.plan.limited_by(plan);
        if let Some(step) = phase.step() {
            happened.push(Event::PlanChanged {
                plan: run.plan.clone(),
                step,
            });
        }
        return;
    }
    // The place in the plan whose weight is sent now.
    let (place, scaling) = match phase {
        Phase::Scaling { step, .. } => (step.checked_sub(1), true),
        Phase::Shifting { step, .. } | Phase::Soaking { step, .. } => (Some(step), false),
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => return,
    };
    let Some(place) = place else {
        run.plan = plan.clone();
        happened.push(Event::PlanChanged {
            plan: plan.clone(),
            step: 0,
        });
        return;
    };
    let before = *run.plan.step(place);
    let mut current = lowered(before, plan.steps().get(place));
    // A pause holds nothing that was sent, and taking it away raises nothing that is not earned.
    if let Some(same) = plan
        .steps()
        .iter()
        .find(|step| step.weight == current.weight)
    {
        current.pause = same.pause;
    }
    if current.pause != before.pause {
        run.paused_since = None;
    }
    let (merged, place) = plan.around(current);
    run.plan = merged.clone();
    let step = if scaling { place + 1 } else { place };
    held.phase = match phase {
        Phase::Scaling { since, .. } => Phase::Scaling { step, since },
        Phase::Shifting { since, .. } => Phase::Shifting { step, since },
        Phase::Soaking { .. } if current.weight < before.weight => {
            run.requests = 0;
            run.passed = false;
            run.paused_since = None;
            Phase::Shifting {
                step,
                since: seen.now,
            }
        }
        Phase::Soaking { since, .. } => Phase::Soaking { step, since },
        other @ (Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed) => other,
    };
    happened.push(Event::PlanChanged { plan: merged, step });
}

/// The step that is begun, with the weight that an edit gave to its place if that is lower. Its soak is the one it began
/// with.
fn lowered(current: Step, edited: Option<&Step>) -> Step {
    let weight = edited.map_or(current.weight, |edited| edited.weight.min(current.weight));
    Step { weight, ..current }
}
