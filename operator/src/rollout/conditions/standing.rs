//! How a rollout stands by the rules of kstatus: Ready, Reconciling, Stalled, and why.

use aviary_crds::status::CanaryRolloutStatus;
use rollout_core::state::{Cause, Phase, Unsettled};
use rollout_core::time::{Span, Time};
use rollout_core::{Waiting, overspends};

use crate::reason::Reason;
use crate::rollout::facts::Facts;

/// What kstatus asks for.
pub(super) struct Standing {
    pub(super) ready: bool,
    pub(super) reconciling: bool,
    pub(super) stalled: bool,
    /// A [`Reason`], or the phase.
    pub(super) reason: &'static str,
}

impl Standing {
    pub(super) fn of(status: &CanaryRolloutStatus, facts: &Facts<'_>) -> Standing {
        let name = status.phase.map_or("Pending", |phase| phase.name());
        let standing = |ready, reconciling, stalled, reason| Standing {
            ready,
            reconciling,
            stalled,
            reason,
        };
        let now = facts.look.now;
        let late = |since: Time| {
            let plan = facts.plan_in_force();
            plan.is_some_and(|plan| now - since >= plan.progress_deadline)
        };
        let of_phase = match facts.state.map(|state| (state, state.phase)) {
            None => standing(false, false, false, name),
            Some((state, Phase::Stable)) if state.target == state.stable => {
                standing(true, false, false, name)
            }
            Some((state, Phase::Failed)) => {
                let found = state.failure.as_ref().map(|failure| failure.cause);
                let reason = match found {
                    Some(Cause::FoundPaused) => Reason::FoundPaused.name(),
                    Some(_) | None => name,
                };
                standing(false, false, true, reason)
            }
            Some((_, Phase::Unsettled { why, since })) => match why {
                Unsettled::Rolling => standing(false, true, late(since), Reason::Rolling.name()),
                Unsettled::HalfRolled => standing(false, false, true, Reason::HalfRolled.name()),
                Unsettled::NothingServes => {
                    standing(false, false, true, Reason::NothingServes.name())
                }
                Unsettled::BreakGlass => standing(false, false, true, Reason::BreakGlass.name()),
                Unsettled::Clearing => standing(false, true, late(since), Reason::Clearing.name()),
                Unsettled::Leaving => standing(false, true, late(since), Reason::Leaving.name()),
                Unsettled::LetGo => standing(false, true, late(since), Reason::LetGo.name()),
            },
            Some(_) if facts.hook.is_some() => {
                let failed = facts.hook.is_some_and(|hook| hook.failed);
                let reason = if failed {
                    Reason::HookFailed
                } else {
                    Reason::HookWaiting
                };
                standing(false, true, failed, reason.name())
            }
            Some((state, phase)) => match (facts.waiting(), phase) {
                // Somebody wants it so.
                (None, _) if state.running().is_some_and(|run| run.on_hold.is_some()) => {
                    standing(false, true, false, Reason::Paused.name())
                }
                (Some(Waiting::Pause { .. }), _) => {
                    standing(false, true, false, Reason::Paused.name())
                }
                (Some(Waiting::Failure), _) => {
                    standing(false, true, true, Reason::FailurePaused.name())
                }
                (Some(Waiting::Stable), _) => {
                    standing(false, true, true, Reason::StableFailing.name())
                }
                (Some(Waiting::Exposure), _) => {
                    let stalled = exposure_stalls(facts);
                    standing(false, true, stalled, Reason::ErrorBudget.name())
                }
                (Some(Waiting::Evidence), _) => {
                    standing(false, true, true, Reason::Inconclusive.name())
                }
                (
                    None,
                    Phase::Promoting { since }
                    | Phase::Shifting { since, .. }
                    | Phase::Returning { since, .. }
                    | Phase::RollingBack { since, .. },
                ) => standing(false, true, late(since), name),
                (
                    None,
                    Phase::Unsettled { .. }
                    | Phase::Stable
                    | Phase::Scaling { .. }
                    | Phase::Soaking { .. }
                    | Phase::Failed,
                ) => standing(false, true, false, name),
            },
        };
        match facts.problem {
            Some(problem) => Standing {
                ready: false,
                stalled: true,
                reason: problem.reason.name(),
                ..of_phase
            },
            None => of_phase,
        }
    }
}

/// More requests may rule out what could be spent, and never what was. Who waits for them as long as for any evidence has to be
/// helped.
fn exposure_stalls(facts: &Facts<'_>) -> bool {
    let Some(state) = facts.state else {
        return false;
    };
    let over = overspends(state, facts.exposed());
    let is_spent = over.is_some_and(|over| over.left < Span(0));
    let (Some(plan), now) = (facts.plan_in_force(), facts.look.now) else {
        return is_spent;
    };
    is_spent
        || match state.phase {
            Phase::Soaking { step, since } => now - since >= plan.step(step).soak + plan.hold,
            Phase::Scaling { since, .. } => now - since >= plan.hold,
            Phase::Unsettled { .. }
            | Phase::Stable
            | Phase::Shifting { .. }
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::RollingBack { .. }
            | Phase::Failed => false,
        }
}
