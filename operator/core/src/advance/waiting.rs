//! What a run waits for that time alone does not bring: a person, or evidence.

use super::exposed;
use crate::exposure::Exposed;
use crate::plan::{Pause, Then};
use crate::state::{Phase, Run, State};
use crate::time::{Span, Time};

/// Judged requests without which nothing advances for lack of evidence.
pub const ENOUGH_TO_ADVANCE: u64 = 15;

/// Why a run does not go on, although nobody holds it. A person may say that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// More windows failed than are tolerated, and the plan says to pause then.
    Failure,
    /// The stable revision fails the same checks.
    Stable,
    /// What is ahead could spend more than is left of the release's error budget ([`super::overspends`]).
    Exposure,
    /// The step has passed, and its pause lasts: until then, or until a person says so.
    Pause { until: Option<Time> },
    /// The soak, if there is one, and the hold for evidence are over, and nothing allows the next step: the newest
    /// evidence is a failed window that nothing has refuted, or there is too little of it.
    Evidence,
}

/// `doubt`: what the guard has seen speaks against the canary.
pub fn waiting(state: &State, doubt: bool, exposed: Exposed, now: Time) -> Option<Waiting> {
    let run = state.running()?;
    if run.failed_since.is_some() {
        return Some(Waiting::Failure);
    }
    if run.skips.is_some() {
        return None;
    }
    let failed = run.failed_in_a_row > 0;
    match state.phase {
        Phase::Soaking { step, since } => {
            let soaked_for = now - since;
            let over = soaked_for >= run.plan.step(step).soak + run.plan.hold;
            match soaked(run, step, doubt, soaked_for) {
                Soaked::TooShort => None,
                Soaked::Unjudged | Soaked::Passed | Soaked::WithoutEvidence if run.stable_fails => {
                    Some(Waiting::Stable)
                }
                Soaked::Unjudged => over.then_some(Waiting::Evidence),
                Soaked::Passed | Soaked::WithoutEvidence if failed => {
                    over.then_some(Waiting::Evidence)
                }
                Soaked::Passed | Soaked::WithoutEvidence if exposed::held(state, exposed) => {
                    Some(Waiting::Exposure)
                }
                Soaked::Passed | Soaked::WithoutEvidence => paused(run, step, now),
            }
        }
        // Only what raises waits for stable, and not for a second word of the person who let it go on from this weight.
        Phase::Scaling { step, .. }
            if run.stable_fails && run.answered != Some(run.plan.weight_before(step)) =>
        {
            Some(Waiting::Stable)
        }
        Phase::Scaling { .. } if !failed && exposed::held(state, exposed) => {
            Some(Waiting::Exposure)
        }
        // Between two soaks only the failed window holds the run, however many pods are Ready.
        Phase::Scaling { since, .. } | Phase::Shifting { since, .. } => {
            (failed && now - since >= run.plan.hold).then_some(Waiting::Evidence)
        }
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => None,
    }
}

/// Whether the pause of a step that has passed has begun and lasts.
fn paused(run: &Run, step: usize, now: Time) -> Option<Waiting> {
    let since = run.paused_since?;
    let until = match run.plan.step(step).pause? {
        Pause::Promote => None,
        Pause::For(length) => Some(since + length),
    };
    until
        .is_none_or(|until| now < until)
        .then_some(Waiting::Pause { until })
}

pub(super) enum Soaked {
    TooShort,
    /// Long enough, and without the evidence that the plan asks for.
    Unjudged,
    Passed,
    WithoutEvidence,
}

pub(super) fn soaked(run: &Run, step: usize, doubt: bool, soaked_for: Span) -> Soaked {
    if run.skips.is_some() {
        return Soaked::Passed;
    }
    let step = run.plan.step(step);
    if soaked_for < step.soak {
        return Soaked::TooShort;
    }
    if run.passed && run.requests >= step.min_requests {
        return Soaked::Passed;
    }
    let held_long_enough = soaked_for >= step.soak + run.plan.hold;
    match run.plan.then {
        Then::Advance if held_long_enough && run.requests >= ENOUGH_TO_ADVANCE && !doubt => {
            Soaked::WithoutEvidence
        }
        Then::Advance | Then::Pause => Soaked::Unjudged,
    }
}
