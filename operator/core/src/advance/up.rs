//! The way up: each step asks for everything.

use crate::desired::{Copies, desired};
use crate::event::Event;
use crate::observation::Observation;
use crate::plan::Then;
use crate::state::{Phase, Run, State};
use crate::time::{Span, Time};

/// Judged requests without which nothing advances for lack of evidence.
pub const ENOUGH_TO_ADVANCE: u64 = 15;

pub(super) fn up(next: &mut State, seen: &Observation, earned: &mut Vec<Event>) {
    let wanted = desired(next);
    let weight = wanted.weight();
    let (Some(run), Copies::One { replicas, .. }) = (next.run.as_mut(), wanted.copy) else {
        return;
    };
    let acknowledged = seen.traffic.acknowledged && seen.traffic.sent == Some((run.number, weight));
    // What was sent tells of pods that were Ready then. Before the next step, and before the old pods go, they are now.
    let ready = seen.copy.ready >= replicas;
    // While the lease is lapsed, what is raised would fall at the next look.
    if !seen.may_raise || seen.lapsed || !acknowledged || !ready || run.failed_in_a_row > 0 {
        return;
    }
    match next.phase {
        Phase::Scaling { step, .. } => {
            let weight = run.plan.step(step).weight;
            if step == 0 {
                run.judged_until = seen.now;
            }
            next.phase = Phase::Shifting {
                step,
                since: seen.now,
            };
            earned.push(Event::WeightRaised { step, weight });
        }
        Phase::Shifting { step, .. } => {
            run.judged_until = seen.now;
            run.requests = 0;
            run.passed = false;
            next.phase = Phase::Soaking {
                step,
                since: seen.now,
            };
            earned.push(Event::WeightAcknowledged { step, weight });
        }
        Phase::Soaking { step, since } => match soaked(run, step, seen.now - since) {
            Soaked::No => {}
            Soaked::Passed => next_step(next, seen, step, earned),
            Soaked::WithoutEvidence => {
                earned.push(Event::AdvancedWithoutEvidence { step });
                next_step(next, seen, step, earned);
            }
        },
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => {}
    }
}

enum Soaked {
    No,
    Passed,
    WithoutEvidence,
}

fn soaked(run: &Run, step: usize, soaked_for: Span) -> Soaked {
    let step = run.plan.step(step);
    if soaked_for < step.soak {
        return Soaked::No;
    }
    if run.passed && run.requests >= step.min_requests {
        return Soaked::Passed;
    }
    let held_long_enough = soaked_for >= step.soak + run.plan.hold;
    match run.plan.then {
        Then::Advance if held_long_enough && run.requests >= ENOUGH_TO_ADVANCE => {
            Soaked::WithoutEvidence
        }
        Then::Advance | Then::Pause => Soaked::No,
    }
}

/// The soak, if there is one, and the hold for evidence are over, and nothing allows the next step: the newest evidence is
/// a failed window that nothing has refuted, or there is too little of it. A person, or traffic, has to say more.
pub fn inconclusive(state: &State, now: Time) -> bool {
    let Some(run) = &state.run else { return false };
    let failed = run.failed_in_a_row > 0;
    match state.phase {
        Phase::Soaking { step, since } => {
            let over = now - since >= run.plan.step(step).soak + run.plan.hold;
            match soaked(run, step, now - since) {
                Soaked::No => over,
                Soaked::Passed | Soaked::WithoutEvidence => over && failed,
            }
        }
        // Between two soaks only the failed window holds the run, however many pods are Ready.
        Phase::Scaling { since, .. } | Phase::Shifting { since, .. } => {
            failed && now - since >= run.plan.hold
        }
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => false,
    }
}

fn next_step(next: &mut State, seen: &Observation, step: usize, earned: &mut Vec<Event>) {
    let Some(run) = next.run.as_mut() else { return };
    run.unready_since = None;
    if run.plan.is_last(step) {
        next.phase = Phase::Promoting { since: seen.now };
        earned.push(Event::PromotionStarted {
            revision: run.canary.revision.clone(),
        });
    } else {
        run.base_replicas = seen.original.replicas;
        // The next look may find that they are there.
        run.unready_since = Some(seen.now);
        next.phase = Phase::Scaling {
            step: step + 1,
            since: seen.now,
        };
    }
}
