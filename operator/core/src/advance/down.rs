//! The ways to weight 0, in order. None of them asks for anything.

use super::fate::asked;
use super::{edited, judged_run, may_raise, rest, roll_back, supersede};
use crate::desired::{Copies, desired};
use crate::event::Event;
use crate::judge::Verdict;
use crate::observation::{Hooks, Observation};
use crate::plan::{OnFailure, Percent, Plan};
use crate::request::{Request, Verb};
use crate::state::{Cause, OnHold, Phase, Run, State};
use crate::time::Time;

/// Everything of a running release that counts at once.
pub(super) fn down(plan: &Plan, held: &mut State, seen: &Observation, happened: &mut Vec<Event>) {
    let Some(run) = held.run.clone() else {
        // Cannot come out of this machine.
        held.phase = Phase::Failed;
        return;
    };
    if rest::ungated_run(held, seen, happened) {
        return;
    }
    if !seen.deleted && !seen.break_glass && held.target != held.stable && held.target != run.canary
    {
        supersede(plan, held, seen, happened);
        return;
    }
    let first = matches!(held.phase, Phase::Scaling { step: 0, .. });
    let aborts = asked(held, seen, Verb::Abort);
    // Before anything else is looked at: what it holds stops deadlines, too.
    let pauses = asked(held, seen, Verb::Pause);
    hold(held, pauses, seen.now);
    let cause = if seen.break_glass {
        Some(Cause::BreakGlass)
    } else if seen.deleted {
        Some(Cause::Deleted)
    } else if aborts.is_some() {
        Some(Cause::Aborted)
    } else if seen.revoked.is_some_and(|number| number >= run.number) {
        Some(Cause::Revoked)
    } else if held.target == held.stable {
        Some(Cause::TemplateReverted)
    } else if seen.copy.without_sidecar {
        Some(Cause::NotMeshed)
    } else if !first && !seen.copy.exists {
        Some(Cause::CanaryLost)
    } else if seen.hooks == Hooks::Refuse {
        Some(Cause::HookRefused)
    } else {
        None
    };
    // A person who does not want to pause on a failure any more.
    let undone = run.failed_since.is_some() && plan.on_failure == OnFailure::Rollback;
    let cause = cause
        .or_else(|| alarmed(plan, held, seen, happened))
        .or(undone.then_some(Cause::AnalysisFailed))
        .or_else(|| judge_window(plan, held, seen, happened))
        .or_else(|| unready_for_long(held, seen))
        .or_else(|| lost_for_long(held, seen));
    match cause {
        Some(Cause::Aborted) => {
            held.heeded = aborts.cloned();
            let by = aborts.map(|request| request.by.clone());
            roll_back(held, seen.now, (Cause::Aborted, by), happened);
        }
        Some(cause) => roll_back(held, seen.now, (cause, None), happened),
        None => {
            if let Some(request) = pauses {
                held.heeded = Some(request.clone());
                happened.push(Event::Held {
                    weight: desired(held).weight(),
                    by: request.by.clone(),
                });
            }
            if seen.lapsed {
                begin_again(held, seen, happened);
            }
            edited::take_in(plan, held, seen, happened);
            miss(held, seen);
        }
    }
}

/// A person pauses the run: nothing of it is raised from now on.
fn hold(held: &mut State, pauses: Option<&Request>, now: Time) {
    if let (Some(request), Some(run)) = (pauses, &mut held.run) {
        run.on_hold = Some(OnHold {
            since: now,
            by: request.by.clone(),
        });
    }
}

/// Pods that are needed only now are missed from now on: nothing else may happen before their deadline.
fn miss(held: &mut State, seen: &Observation) {
    if let (Copies::One { replicas, .. }, Some(run)) = (desired(held).copy, &mut held.run)
        && seen.copy.ready < replicas
    {
        run.unready_since.get_or_insert(seen.now);
    }
}

/// Counts a window once; the answer is the cause when it is one failure too many.
fn judge_window(
    plan: &Plan,
    held: &mut State,
    seen: &Observation,
    happened: &mut Vec<Event>,
) -> Option<Cause> {
    let window = seen.window?;
    judged_run(held)?;
    let weight = desired(held).weight();
    let soak_began = soaking_since(held.phase);
    let run = held.run.as_mut()?;
    // A window that ends in the future was measured on a clock that has been set back since. `judged_until` cannot
    // follow it there, so it would be counted at every look.
    if window.end <= run.judged_until || window.end > seen.now {
        return None;
    }
    run.judged_until = window.end;
    if run.skips.is_some() {
        // A person has taken the judgement upon themselves. What the guard sees still counts.
        return None;
    }
    let of_this_soak = soak_began.is_some_and(|since| window.start >= since);
    if of_this_soak {
        run.requests = run.requests.saturating_add(window.requests);
    }
    if let Some(fails) = window.stable_fails
        && fails != run.stable_fails
    {
        run.stable_fails = fails;
        happened.push(if fails {
            Event::StableFails
        } else {
            Event::StableRecovered
        });
    }
    match window.verdict {
        Verdict::Pass => {
            run.failed_in_a_row = 0;
            run.passed |= of_this_soak;
            None
        }
        Verdict::Fail => {
            run.passed = false;
            let cause = fail(run, happened)?;
            if rolls_back(plan, run) {
                return Some(cause);
            }
            run.failed_since = Some(seen.now);
            happened.push(Event::PausedByFailure { weight });
            None
        }
        Verdict::NoEvidence => None,
    }
}

/// The guard's alarm needs no second one: its bound holds over the whole release.
fn alarmed(
    plan: &Plan,
    held: &mut State,
    seen: &Observation,
    happened: &mut Vec<Event>,
) -> Option<Cause> {
    if !seen.alarm {
        return None;
    }
    judged_run(held)?;
    let weight = desired(held).weight();
    let run = held.run.as_mut()?;
    if run.failed_since.is_some() {
        // It has failed already, and waits for a person.
        return None;
    }
    run.passed = false;
    if rolls_back(plan, run) {
        return Some(Cause::WorseThanStable);
    }
    run.failed_since = Some(seen.now);
    happened.push(Event::PausedByFailure { weight });
    None
}

/// Whichever of the two plans says so: the one in force, or that of the spec.
fn rolls_back(plan: &Plan, run: &Run) -> bool {
    [run.plan.on_failure, plan.on_failure].contains(&OnFailure::Rollback)
}

/// One more failed window. What a paused failure adds to it says nothing new.
fn fail(run: &mut Run, happened: &mut Vec<Event>) -> Option<Cause> {
    let tolerated = run.plan.failure_limit;
    if run.failed_since.is_some() {
        let most = tolerated.saturating_add(1);
        run.failed_in_a_row = run.failed_in_a_row.saturating_add(1).min(most);
        return None;
    }
    run.failed_in_a_row = run.failed_in_a_row.saturating_add(1);
    happened.push(Event::WindowFailed {
        in_a_row: run.failed_in_a_row,
        tolerated,
    });
    (run.failed_in_a_row > tolerated).then_some(Cause::AnalysisFailed)
}

fn soaking_since(phase: Phase) -> Option<Time> {
    match phase {
        Phase::Soaking { since, .. } => Some(since),
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Scaling { .. }
        | Phase::Shifting { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => None,
    }
}

/// Fewer Ready pods than are needed lower the effective weight at once (the shell); for as long as the deadline, they end
/// the run. While pods come up, time in which somebody holds the run does not count. An acknowledgement that is missing
/// never ends a run.
fn unready_for_long(held: &mut State, seen: &Observation) -> Option<Cause> {
    let Copies::One { replicas, .. } = desired(held).copy else {
        return None;
    };
    let scaling = matches!(held.phase, Phase::Scaling { .. });
    let may_raise = may_raise(held, seen);
    let run = held.run.as_mut()?;
    if may_raise {
        let was_held = run.held_since.take().map(|since| seen.now - since);
        if let (true, Some(was_held), Some(since)) = (scaling, was_held, &mut run.unready_since) {
            // Pods that went while the run was held have lost no time at all, and gain none.
            *since = (*since + was_held).min(seen.now);
        }
    } else {
        run.held_since.get_or_insert(seen.now);
    }
    if seen.copy.ready >= replicas {
        run.unready_since = None;
        return None;
    }
    let since = *run.unready_since.get_or_insert(seen.now);
    let late = seen.now - since >= run.plan.progress_deadline;
    match (late, scaling, run.held_since) {
        (false, _, _) | (true, true, Some(_)) => None,
        (true, true, None) => Some(Cause::ProgressDeadlineExceeded),
        (true, false, _) => Some(Cause::CanaryLost),
    }
}

/// While the pods of the next step come up, those of the weight that is sent are needed all the same, and whoever holds the
/// run does not stop their deadline.
fn lost_for_long(held: &mut State, seen: &Observation) -> Option<Cause> {
    let weight = desired(held).weight();
    let Phase::Scaling { .. } = held.phase else {
        held.run.as_mut()?.lost_since = None;
        return None;
    };
    let run = held.run.as_mut()?;
    // A Deployment that has grown since needs more of them for the next step, and none for this weight.
    let needed = run
        .plan
        .replicas(run.base_replicas, weight)
        .min(run.sent_needs);
    if weight == Percent::ZERO || seen.copy.ready >= needed {
        run.lost_since = None;
        return None;
    }
    let since = *run.lost_since.get_or_insert(seen.now);
    (seen.now - since >= run.plan.progress_deadline).then_some(Cause::CanaryLost)
}

/// The proxies went back to stable while nobody renewed the weight: it is earned again from the first step.
fn begin_again(held: &mut State, seen: &Observation, happened: &mut Vec<Event>) {
    let from = desired(held).weight();
    let Some(run) = held.run.as_mut().filter(|_| from > Percent::ZERO) else {
        return;
    };
    happened.push(Event::LeaseLapsed {
        revision: run.canary.revision.clone(),
        from,
    });
    run.judged_until = seen.now;
    run.failed_in_a_row = 0;
    run.requests = 0;
    run.passed = false;
    run.unready_since = None;
    run.lost_since = None;
    run.paused_since = None;
    // Nothing is judged at weight 0, so nobody would ever say that stable has recovered.
    run.stable_fails = false;
    run.sent_needs = 0;
    held.phase = Phase::Scaling {
        step: 0,
        since: seen.now,
    };
}
