//! The way up: each step asks for everything.

use super::fate::asked;
use super::may_raise;
use super::skip::skip;
use super::waiting::{Soaked, soaked, waiting};
use crate::desired::{Copies, desired};
use crate::event::Event;
use crate::observation::{Hooks, Observation};
use crate::request::{Request, Verb};
use crate::state::{Phase, State};

pub(super) fn up(next: &mut State, seen: &Observation, earned: &mut Vec<Event>) {
    if resumed(next, seen, earned) || skip(next, seen, earned) {
        return;
    }
    let wanted = desired(next);
    let weight = wanted.weight();
    let waits = waiting(next, seen.doubt, seen.exposed, seen.now);
    // Who answers has seen what the run waits for, and nothing else is answered.
    let may_raise = may_raise(next, seen);
    let answer =
        asked(next, seen, Verb::Promote).filter(|_| waits.is_some() && may_raise && !seen.lapsed);
    let (Some(run), Copies::One { replicas, .. }) = (next.run.as_mut(), wanted.copy) else {
        return;
    };
    if let Some(request) = answer
        && (run.failed_since.is_some() || run.failed_in_a_row > 0)
    {
        judge_anew(next, seen, request, earned);
        return;
    }
    let acknowledged = seen.traffic.acknowledged && seen.traffic.sent == Some((run.number, weight));
    // What was sent tells of pods that were Ready then. Before the next step, and before the old pods go, they are now.
    let ready = seen.copy.ready >= replicas;
    let failed = run.failed_in_a_row > 0 || run.failed_since.is_some();
    // While the lease is lapsed, what is raised would fall at the next look.
    if !may_raise || seen.lapsed || !acknowledged || !ready || failed {
        return;
    }
    // Before a person's word is taken: it is not used up while somebody else is waited for.
    let asks = match next.phase {
        Phase::Scaling { .. } => true,
        Phase::Soaking { step, .. } => run.plan.is_last(step),
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Shifting { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => false,
    };
    if asks && seen.hooks != Hooks::Agree {
        return;
    }
    if let Some(request) = answer {
        run.answered = Some(weight);
        next.heeded = Some(request.clone());
        earned.push(Event::LetOn {
            weight,
            by: request.by.clone(),
        });
    }
    let goes_on = waits.is_none() || answer.is_some();
    match next.phase {
        Phase::Scaling { step, .. } if goes_on => {
            let weight = run.plan.step(step).weight;
            if step == 0 {
                run.judged_until = seen.now;
            }
            run.lost_since = None;
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
            run.stable_fails = false;
            next.phase = Phase::Soaking {
                step,
                since: seen.now,
            };
            earned.push(Event::WeightAcknowledged { step, weight });
        }
        Phase::Soaking { step, since } if goes_on => {
            let soaked = soaked(run, step, seen.doubt, seen.now - since);
            let unjudged = matches!(soaked, Soaked::Unjudged | Soaked::TooShort);
            if unjudged && answer.is_none() {
                return;
            }
            if run.plan.step(step).pause.is_some() && run.paused_since.is_none() && answer.is_none()
            {
                run.paused_since = Some(seen.now);
                earned.push(Event::Paused { step });
                return;
            }
            if matches!(soaked, Soaked::WithoutEvidence) {
                earned.push(Event::AdvancedWithoutEvidence { step });
            }
            next_step(next, seen, step, replicas, earned);
        }
        Phase::Scaling { .. } | Phase::Soaking { .. } => {}
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => {}
    }
}

/// A person ends a pause. What waited for that goes on at the next look.
fn resumed(next: &mut State, seen: &Observation, earned: &mut Vec<Event>) -> bool {
    let (Some(request), Some(run)) = (asked(next, seen, Verb::Resume), next.run.as_mut()) else {
        return false;
    };
    run.on_hold = None;
    next.heeded = Some(request.clone());
    earned.push(Event::Resumed {
        by: request.by.clone(),
    });
    true
}

/// A person takes the failed windows so far upon themselves, and not those to come: the step earns its end anew.
fn judge_anew(next: &mut State, seen: &Observation, request: &Request, earned: &mut Vec<Event>) {
    let weight = desired(next).weight();
    let Some(run) = next.run.as_mut() else { return };
    run.forget();
    run.answered = Some(weight);
    next.heeded = Some(request.clone());
    if let Phase::Soaking { since, .. } = &mut next.phase {
        *since = seen.now;
    }
    let by = request.by.clone();
    earned.push(Event::JudgedAnew { weight, by });
}

fn next_step(
    next: &mut State,
    seen: &Observation,
    step: usize,
    needed: u32,
    earned: &mut Vec<Event>,
) {
    let Some(run) = next.run.as_mut() else { return };
    run.unready_since = None;
    run.paused_since = None;
    if run.plan.is_last(step) {
        next.phase = Phase::Promoting { since: seen.now };
        earned.push(Event::PromotionStarted {
            revision: run.canary.revision.clone(),
        });
    } else {
        run.base_replicas = seen.original.replicas;
        run.sent_needs = needed;
        // The next look may find that they are there.
        run.unready_since = Some(seen.now);
        next.phase = Phase::Scaling {
            step: step + 1,
            since: seen.now,
        };
    }
}
