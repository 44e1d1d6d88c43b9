//! One step of the machine. Total: every state with every observation has an answer, and no arm is a wildcard.
//!
//! The answer has two halves. [`Transition::held`] is true at once, whatever can be written: evidence that was counted,
//! deadlines, and every way down. [`Transition::next`] is that and what was earned: it counts only once it is persisted.
//! The ways down come first and ask for nothing. The ways up come last, and each asks for everything: pods Ready, the
//! last weight acknowledged by every live proxy, a pass of a window of this very soak, room in the error budget if there is
//! one, nobody holding.

mod ahead;
mod down;
mod edited;
mod exposed;
mod fate;
mod promotion;
mod rest;
mod skip;
mod up;
mod waiting;

use crate::desired::desired;
use crate::event::Event;
use crate::observation::Observation;
use crate::plan::{Percent, Plan};
use crate::request::By;
use crate::state::{Cause, Failure, Phase, Revoked, Run, State, Unsettled};
use crate::time::{Span, Time};

pub use ahead::{Ahead, ahead};
pub use exposed::{Overspend, overspends};
pub use fate::{Fate, Refusal, fate};
pub use waiting::{ENOUGH_TO_ADVANCE, Waiting, waiting};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// True at once: never a higher weight than before.
    pub held: State,
    /// What happened on the way there.
    pub happened: Vec<Event>,
    /// What counts once it is persisted.
    pub next: State,
    /// What happens then.
    pub earned: Vec<Event>,
    /// When to look again, if nothing else happens before. Never in the past.
    pub wake: Option<Time>,
}

/// `plan` is that of the present spec; a run goes on with its own.
pub fn advance(plan: &Plan, state: &State, seen: &Observation) -> Transition {
    let mut held = state.clone();
    let mut happened = Vec::new();
    held.not_after(seen.now);
    if seen.deployment != held.deployment {
        recreated(&mut held, seen, &mut happened);
    }
    note_template(&mut held, seen);
    if seen.request.is_none() {
        held.heeded = None;
    }
    match held.phase {
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
            down::down(plan, &mut held, seen, &mut happened);
        }
        Phase::Promoting { .. } | Phase::Returning { .. } => {
            promotion::left(plan, &mut held, seen, &mut happened);
        }
        Phase::Stable | Phase::Failed => rest::stand_back(&mut held, seen, &mut happened),
        Phase::Unsettled { .. } => rest::unsettled(&mut held, seen),
        Phase::RollingBack { .. } => rest::rolling_back(&mut held, seen, &mut happened),
    }
    if matches!(held.phase, Phase::Unsettled { .. }) {
        // Nothing is released, so a new hash begins nothing; and an old one would never be what serves.
        held.target = seen.template.clone();
    }
    let mut next = held.clone();
    let mut earned = Vec::new();
    match next.phase {
        Phase::Unsettled { .. } => rest::settle(&mut next, seen, &mut earned),
        Phase::Stable => rest::stable(plan, &mut next, seen, &mut earned),
        Phase::Failed => rest::failed(plan, &mut next, seen, &mut earned),
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
            up::up(&mut next, seen, &mut earned);
        }
        Phase::Promoting { .. } => promotion::finished(plan, &mut next, seen, &mut earned),
        Phase::Returning { .. } => {}
        Phase::RollingBack { .. } => rest::rolled_back(plan, &mut next, seen, &mut earned),
    }
    let wake = wake(plan, &next, seen);
    Transition {
        held,
        happened,
        next,
        earned,
        wake,
    }
}

/// The window that is due for judgement: `(start, end)`.
pub fn window_due(state: &State, now: Time) -> Option<(Time, Time)> {
    let run = judged_run(state)?;
    let interval = run.plan.interval;
    (now >= run.judged_until + interval).then(|| (now + Span(-interval.0), now))
}

/// The run whose canary gets traffic that can be judged.
fn judged_run(state: &State) -> Option<&Run> {
    let run = state.running()?;
    (desired(state).weight() > Percent::ZERO).then_some(run)
}

/// A Deployment of the same name and another uid: whatever runs there now is another story.
fn recreated(held: &mut State, seen: &Observation, happened: &mut Vec<Event>) {
    let mut fresh = State::unsettled(
        seen.deployment.clone(),
        seen.template.clone(),
        seen.generation,
        seen.now,
    );
    // Whatever share the canary has, a promotion's included: a proxy that hears nothing keeps that one without a lease.
    if let Some(run) = held.run.clone()
        && desired(held).canary().is_some()
    {
        revoke(held, &run);
    }
    fresh.revoked = std::mem::take(&mut held.revoked);
    fresh.last_run = held.last_run;
    *held = fresh;
    happened.push(Event::Recreated);
}

/// A template counts as changed by the user only together with the Deployment's generation.
fn note_template(held: &mut State, seen: &Observation) {
    if seen.generation != held.generation {
        held.generation = seen.generation;
        held.target = seen.template.clone();
    } else if held.phase == Phase::Stable && held.target == held.stable {
        held.target = seen.template.clone();
        held.stable = seen.template.clone();
    }
}

fn start_run(plan: &Plan, next: &mut State, seen: &Observation, events: &mut Vec<Event>) {
    // Seconds since the epoch keep numbers rising even over a CanaryRollout that was deleted and made anew.
    let number = u64::try_from(seen.now.0 / 1000)
        .unwrap_or(0)
        .max(next.last_run + 1);
    next.last_run = number;
    next.run = Some(Run {
        canary: next.target.clone(),
        number,
        plan: plan.clone(),
        asked: plan.clone(),
        started_at: seen.now,
        base_replicas: seen.original.replicas,
        judged_until: seen.now,
        failed_in_a_row: 0,
        requests: 0,
        passed: false,
        unready_since: Some(seen.now),
        held_since: None,
        sent_needs: 0,
        lost_since: None,
        paused_since: None,
        failed_since: None,
        stable_fails: false,
        answered: None,
        on_hold: None,
        skips: None,
        aborted: None,
    });
    next.failure = None;
    next.gated = true;
    next.phase = Phase::Scaling {
        step: 0,
        since: seen.now,
    };
    events.push(Event::RunStarted {
        revision: next.target.revision.clone(),
    });
}

/// A newer template: the canary's weight goes to 0, and the new one starts there, in the same step.
fn supersede(plan: &Plan, held: &mut State, seen: &Observation, happened: &mut Vec<Event>) {
    if let Some(run) = held.run.clone() {
        happened.push(Event::Superseded {
            revision: run.canary.revision.clone(),
        });
        revoke(held, &run);
    }
    start_run(plan, held, seen, happened);
}

/// `by`: who aborted it, if anybody did.
fn roll_back(
    held: &mut State,
    now: Time,
    (cause, by): (Cause, Option<By>),
    happened: &mut Vec<Event>,
) {
    let from = desired(held).weight();
    if let Some(run) = held.run.clone() {
        revoke(held, &run);
        happened.push(Event::RolledBack {
            revision: run.canary.revision.clone(),
            cause,
            from,
        });
        held.failure = Some(Failure {
            template: run.canary,
            run: run.number,
            cause,
            at: now,
            by,
        });
    }
    held.phase = Phase::RollingBack { cause, since: now };
}

fn revoke(held: &mut State, run: &Run) {
    held.revoked
        .retain(|revoked| revoked.revision != run.canary.revision);
    held.revoked.push(Revoked {
        revision: run.canary.revision.clone(),
        run: run.number,
    });
    let surplus = held.revoked.len().saturating_sub(Revoked::KEPT);
    held.revoked.drain(..surplus);
}

/// Nothing forbids a raise of the running release.
fn may_raise(state: &State, seen: &Observation) -> bool {
    let on_hold = state.running().is_some_and(|run| run.on_hold.is_some());
    seen.may_raise && !on_hold
}

fn unsettle(held: &mut State, why: Unsettled, now: Time, events: &mut Vec<Event>) {
    held.phase = Phase::Unsettled { why, since: now };
    events.push(Event::Unsettled { why });
}

fn wake(plan: &Plan, next: &State, seen: &Observation) -> Option<Time> {
    let run = next.run.as_ref();
    let deadline = run.map(|run| run.plan.progress_deadline);
    let failed = run.filter(|run| run.failed_in_a_row > 0);
    let window = judged_run(next).map(|run| run.judged_until + run.plan.interval);
    let missing = |since: Option<Time>| {
        let run = next.running()?;
        Some(since? + run.plan.progress_deadline)
    };
    let mut times = vec![
        window,
        missing(run.and_then(|run| run.unready_since)),
        missing(run.and_then(|run| run.lost_since)),
    ];
    match next.phase {
        Phase::Soaking { step, since } => {
            if let Some(run) = run {
                let soak = run.plan.step(step).soak;
                times.push(Some(since + soak));
                times.push(Some(since + soak + run.plan.hold));
                let waits = waiting(next, seen.doubt, seen.exposed, seen.now);
                if let Some(Waiting::Pause { until }) = waits {
                    times.push(until);
                }
            }
        }
        // What takes longer is said to be stalled.
        Phase::Promoting { since }
        | Phase::Returning { since, .. }
        | Phase::RollingBack { since, .. } => {
            times.push(deadline.map(|deadline| since + deadline));
        }
        Phase::Unsettled { since, .. } => times.push(Some(since + plan.progress_deadline)),
        Phase::Shifting { since, .. } => {
            times.push(deadline.map(|deadline| since + deadline));
            times.push(failed.map(|run| since + run.plan.hold));
        }
        Phase::Scaling { since, .. } => times.push(failed.map(|run| since + run.plan.hold)),
        Phase::Stable | Phase::Failed => {}
    }
    // What is past already has been looked at: waking for it again would be a busy loop.
    times
        .into_iter()
        .flatten()
        .filter(|at| *at > seen.now)
        .min()
}
