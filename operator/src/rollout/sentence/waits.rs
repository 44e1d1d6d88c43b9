//! What a release waits for, and who can say that it goes on, and how.

use rollout_core::plan::Plan;
use rollout_core::state::{Phase, State};
use rollout_core::{Waiting, desired, overspends};

use super::exposure::exposure;
use super::{clock, seconds};
use crate::rollout::facts::Facts;
use crate::rollout::hooks::Waits;
use crate::rollout::request;

/// For a release that waits: the whole sentence but for who has not acknowledged, and who holds it.
pub(super) fn waits(facts: &Facts<'_>, state: &State, plan: &Plan, waiting: Waiting) -> String {
    let weight = desired(state).weight();
    let canary = state
        .run
        .as_ref()
        .map_or("", |run| run.canary.revision.as_str());
    let judged = facts.verdicts.judged();
    let command = request::promote(&facts.look.key, state).unwrap_or_default();
    match waiting {
        Waiting::Pause { until: None } => format!(
            "passed, and pauses: revision {canary} keeps weight {weight} until a person lets it go on ({command}), or takes the pause out of spec.steps"
        ),
        Waiting::Pause { until: Some(until) } => format!(
            "passed, and pauses: revision {canary} keeps weight {weight} until {}, then {}; sooner: {command}",
            clock(until),
            next(plan, state)
        ),
        Waiting::Failure => format!(
            "the checks failed ({judged}), and spec.onFailure is Pause: revision {canary} keeps weight {weight}. Put the stable template back to end it, or have it judged anew: {command}"
        ),
        Waiting::Stable => format!(
            "the stable revision {} fails the checks too ({}), so revision {canary} keeps weight {weight}: it goes on when stable passes them again. If it is the fix, let it go on: {command}",
            state.stable.revision,
            facts.verdicts.stable()
        ),
        Waiting::Exposure => {
            let exposed = facts.exposed();
            let held = overspends(state, exposed)
                .map(|over| exposure(state, over, exposed, facts.spending))
                .unwrap_or_default();
            format!("{held}. A person can take it on: {command}")
        }
        Waiting::Evidence => format!(
            "revision {canary} keeps weight {weight}: the soak and the hold for evidence are over, and the evidence allows nothing ({judged}{}). It goes on when a window passes, or when a person takes it on ({command}); put the stable template back to end it",
            doubt(facts)
        ),
    }
}

/// What the guard holds against the canary.
fn doubt(facts: &Facts<'_>) -> String {
    let guarded = facts.guarded.filter(|guarded| guarded.doubts());
    guarded.map_or_else(String::new, |guarded| {
        format!("; the guard has doubts: {}", guarded.words())
    })
}

/// For a release that waits for nothing but the word of a hook.
pub(super) fn hook(waits: &Waits) -> String {
    let Waits {
        hook,
        what,
        tries,
        why,
        ..
    } = waits;
    let asked = match waits.again {
        Some(again) => format!("asked again at {}", clock(again)),
        None => "being asked".to_owned(),
    };
    let said = match (tries, waits.is_gate) {
        (0, _) => String::new(),
        (_, true) => format!(": it does not agree yet ({why})"),
        (1, false) => format!(": tried once ({why})"),
        (_, false) => format!(": tried {tries} times ({why})"),
    };
    let way_out = if waits.failed {
        "; to go on without it, take it out of spec.hooks"
    } else {
        ""
    };
    format!("waiting for hook {hook} before {what}{said}, {asked}{way_out}")
}

/// What comes after the present step.
pub(super) fn next(plan: &Plan, state: &State) -> String {
    let at = match state.phase {
        Phase::Soaking { step, .. } => step,
        Phase::Scaling { step, .. } | Phase::Shifting { step, .. } => {
            return format!("weight {}", plan.step(step).weight);
        }
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => return "nothing".to_owned(),
    };
    if plan.is_last(at) {
        "it is promoted".to_owned()
    } else {
        format!("weight {}", plan.step(at + 1).weight)
    }
}

/// What becomes of a step that has soaked and was not judged, and when.
pub(super) fn held(facts: &Facts<'_>, plan: &Plan, state: &State) -> String {
    let Phase::Soaking { step, since } = state.phase else {
        return String::new();
    };
    let left = since + plan.step(step).soak + plan.hold - facts.look.now;
    let judged = facts.verdicts.judged();
    let then = match plan.then {
        rollout_core::Then::Advance => format!(
            "{} if at least {} requests were judged, else it waits",
            next(plan, state),
            rollout_core::advance::ENOUGH_TO_ADVANCE
        ),
        rollout_core::Then::Pause => "it waits for a person".to_owned(),
    };
    format!(
        "the soak is over, but evidence is missing ({judged}): it is waited for, {} more; then {then} (spec.analysis.noEvidence)",
        seconds(left)
    )
}
