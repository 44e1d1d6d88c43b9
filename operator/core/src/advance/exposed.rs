//! Whether what is ahead fits into what is left of the release's error budget.

use super::ahead::Ahead;
use crate::exposure::Exposed;
use crate::state::{Phase, State};
use crate::time::Span;

/// A raise, or the promotion, that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overspend {
    pub ahead: Ahead,
    /// What it could spend: weight x defect x soak of the step. A promotion spends nothing by itself.
    pub could: Span,
    /// What is left; below 0, more was spent than the release may.
    pub left: Span,
}

/// What is ahead, if it could spend more than is left. `None`: it fits, nothing is ahead, or the plan has no budget.
pub fn overspends(state: &State, exposed: Exposed) -> Option<Overspend> {
    let run = state.running()?;
    let budget = run.plan.exposure?;
    let ahead = match state.phase {
        Phase::Scaling { step, .. } => Ahead::Step(step),
        Phase::Soaking { step, .. } if run.plan.is_last(step) => Ahead::Promotion,
        Phase::Soaking { step, .. } => Ahead::Step(step + 1),
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Shifting { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => return None,
    };
    let could = match ahead {
        Ahead::Step(step) => run.plan.step(step).cost(exposed.defect),
        Ahead::Promotion => Span(0),
    };
    let left = budget.of_release() - exposed.spent;
    (could > left).then_some(Overspend { ahead, could, left })
}

/// The same, unless a person has let the run go on from the weight that it has: what raises waits for no second word.
pub(super) fn held(state: &State, exposed: Exposed) -> bool {
    let Some(run) = state.running() else {
        return false;
    };
    let answered = |step| run.answered == Some(run.plan.weight_before(step));
    let is_answered = matches!(state.phase, Phase::Scaling { step, .. } if answered(step));
    !is_answered && overspends(state, exposed).is_some()
}
