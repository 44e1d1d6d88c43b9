//! One step of the machine. Total: every state with every observation has an answer, and no arm is a wildcard.
//!
//! The ways down come first and ask for nothing. The ways up come last, and each asks for everything: pods Ready,
//! the last weight acknowledged by every live proxy, a pass of a window of this very soak, nobody holding.

use crate::desired::desired;
use crate::judge::Verdict;
use crate::observation::{Observation, Window};
use crate::plan::{Percent, Plan, Then};
use crate::state::{Cause, Failure, Phase, Revoked, Run, State};
use crate::time::{Span, Time};

/// Judged requests without which nothing advances for lack of evidence.
pub const ENOUGH_TO_ADVANCE: u64 = 15;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    pub next: State,
    /// What happened, for people.
    pub events: Vec<Event>,
    /// When to look again, if nothing else happens before.
    pub wake: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    RunStarted {
        revision: String,
    },
    /// A newer template took the place of a canary, whose weight went to 0.
    Superseded {
        revision: String,
    },
    WeightRaised {
        step: usize,
        weight: Percent,
    },
    /// Every live proxy uses the weight: the soak begins.
    WeightAcknowledged {
        step: usize,
        weight: Percent,
    },
    WindowFailed {
        in_a_row: u32,
        tolerated: u32,
    },
    AdvancedWithoutEvidence {
        step: usize,
    },
    PromotionStarted {
        revision: String,
    },
    Promoted {
        revision: String,
    },
    /// The Deployment runs a template that no run released: somebody switched the gate off.
    Ungated {
        revision: String,
    },
    RolledBack {
        revision: String,
        cause: Cause,
        from: Percent,
    },
    RollbackComplete {
        revision: String,
    },
    /// The Deployment asks for the stable template again: the failure is history.
    Recovered {
        revision: String,
    },
}

pub fn advance(plan: &Plan, state: &State, seen: &Observation) -> Transition {
    let mut next = state.clone();
    let mut events = Vec::new();
    note_template(&mut next, seen);
    match next.phase {
        Phase::Stable => stable(&mut next, seen, &mut events),
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
            if !down(plan, &mut next, seen, &mut events) {
                up(plan, &mut next, seen, &mut events);
            }
        }
        Phase::Promoting { .. } => promoting(&mut next, seen, &mut events),
        Phase::RollingBack { .. } => rolling_back(&mut next, seen, &mut events),
        Phase::Failed => failed(&mut next, seen, &mut events),
    }
    let wake = wake(plan, &next);
    Transition { next, events, wake }
}

/// The window that is due for judgement: `(start, end)`.
pub fn window_due(plan: &Plan, state: &State, now: Time) -> Option<(Time, Time)> {
    let run = judged_run(plan, state)?;
    (now >= run.judged_until + plan.interval).then(|| (now + Span(-plan.interval.0), now))
}

/// The run whose canary gets traffic that can be judged.
fn judged_run<'a>(plan: &Plan, state: &'a State) -> Option<&'a Run> {
    match state.phase {
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
            let share = desired(plan, state).share?;
            if share.weight > Percent::ZERO {
                state.run.as_ref()
            } else {
                None
            }
        }
        Phase::Stable | Phase::Promoting { .. } | Phase::RollingBack { .. } | Phase::Failed => None,
    }
}

/// A template counts as changed by the user only together with the Deployment's generation.
fn note_template(next: &mut State, seen: &Observation) {
    if seen.generation != next.generation {
        next.generation = seen.generation;
        next.target = seen.template.clone();
    } else if next.phase == Phase::Stable && next.target == next.stable {
        next.target = seen.template.clone();
        next.stable = seen.template.clone();
    }
}

fn stable(next: &mut State, seen: &Observation, events: &mut Vec<Event>) {
    if next.target == next.stable {
        if !seen.original.paused {
            next.gated = false;
        }
    } else {
        next.gated = true;
        if seen.may_raise && !seen.deleted {
            start_run(next, seen, events);
        }
    }
}

fn failed(next: &mut State, seen: &Observation, events: &mut Vec<Event>) {
    if next.target == next.stable {
        next.phase = Phase::Stable;
        events.push(Event::Recovered {
            revision: next.stable.revision.clone(),
        });
        return;
    }
    // A failed template is not tried again because an annotation changed: Reloader and `rollout restart` do that.
    let other = next
        .failure
        .as_ref()
        .is_none_or(|failure| failure.template.content != next.target.content);
    if other && seen.may_raise && !seen.deleted {
        start_run(next, seen, events);
    }
}

fn start_run(next: &mut State, seen: &Observation, events: &mut Vec<Event>) {
    let last = next.run.as_ref().map_or(0, |run| run.number);
    // Seconds since the epoch keep numbers rising even over a CanaryRollout that was deleted and made anew.
    let number = u64::try_from(seen.now.0 / 1000).unwrap_or(0).max(last + 1);
    next.run = Some(Run {
        canary: next.target.clone(),
        number,
        started_at: seen.now,
        base_replicas: seen.original.replicas,
        judged_until: seen.now,
        failed_in_a_row: 0,
        requests: 0,
        passed: false,
        unready_since: None,
        held_since: None,
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

/// The ways to weight 0, in order. True when one was taken.
fn down(plan: &Plan, next: &mut State, seen: &Observation, events: &mut Vec<Event>) -> bool {
    let Some(run) = next.run.clone() else {
        // Cannot come out of this machine; a status that was edited by hand can hold it.
        next.phase = Phase::Failed;
        return true;
    };
    let first_scaling = matches!(next.phase, Phase::Scaling { step: 0, .. });
    let cause = if seen.deleted {
        Some(Cause::Deleted)
    } else if seen.revoked.is_some_and(|number| number >= run.number) {
        Some(Cause::Revoked)
    } else if next.target == next.stable {
        Some(Cause::TemplateReverted)
    } else if next.target != run.canary {
        events.push(Event::Superseded {
            revision: run.canary.revision.clone(),
        });
        revoke(next, &run);
        start_run(next, seen, events);
        return true;
    } else if seen.copy.without_sidecar {
        Some(Cause::NotMeshed)
    } else if !first_scaling && !seen.copy.exists {
        Some(Cause::CanaryLost)
    } else {
        None
    };
    let cause = cause
        .or_else(|| judge_window(plan, next, seen.window, events))
        .or_else(|| lost_for_long(plan, next, seen))
        .or_else(|| past_deadline(plan, next, seen));
    match cause {
        Some(cause) => {
            roll_back(plan, next, seen.now, cause, events);
            true
        }
        None => false,
    }
}

fn roll_back(plan: &Plan, next: &mut State, now: Time, cause: Cause, events: &mut Vec<Event>) {
    let from = desired(plan, next)
        .share
        .map_or(Percent::ZERO, |share| share.weight);
    if let Some(run) = next.run.clone() {
        revoke(next, &run);
        events.push(Event::RolledBack {
            revision: run.canary.revision.clone(),
            cause,
            from,
        });
        next.failure = Some(Failure {
            template: run.canary,
            run: run.number,
            cause,
            at: now,
        });
    }
    next.phase = Phase::RollingBack { cause, since: now };
}

fn revoke(next: &mut State, run: &Run) {
    next.revoked
        .retain(|revoked| revoked.revision != run.canary.revision);
    next.revoked.push(Revoked {
        revision: run.canary.revision.clone(),
        run: run.number,
    });
    let surplus = next.revoked.len().saturating_sub(Revoked::KEPT);
    next.revoked.drain(..surplus);
}

/// Counts a window once; the answer is the cause when it is one failure too many.
fn judge_window(
    plan: &Plan,
    next: &mut State,
    window: Option<Window>,
    events: &mut Vec<Event>,
) -> Option<Cause> {
    let window = window?;
    judged_run(plan, next)?;
    let soak_began = match next.phase {
        Phase::Soaking { since, .. } => Some(since),
        Phase::Stable
        | Phase::Scaling { .. }
        | Phase::Shifting { .. }
        | Phase::Promoting { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => None,
    };
    let run = next.run.as_mut()?;
    if window.end <= run.judged_until {
        return None;
    }
    run.judged_until = window.end;
    let of_this_soak = soak_began.is_some_and(|since| window.start >= since);
    if of_this_soak {
        run.requests = run.requests.saturating_add(window.requests);
    }
    match window.verdict {
        Verdict::Pass => {
            run.failed_in_a_row = 0;
            run.passed |= of_this_soak;
            None
        }
        Verdict::Fail => {
            run.failed_in_a_row = run.failed_in_a_row.saturating_add(1);
            run.passed = false;
            events.push(Event::WindowFailed {
                in_a_row: run.failed_in_a_row,
                tolerated: plan.failure_limit,
            });
            (run.failed_in_a_row > plan.failure_limit).then_some(Cause::AnalysisFailed)
        }
        Verdict::NoEvidence => None,
    }
}

/// Fewer Ready pods than the weight needs lower the effective weight at once; for as long as the deadline, they end the run.
fn lost_for_long(plan: &Plan, next: &mut State, seen: &Observation) -> Option<Cause> {
    let weight = desired(plan, next).share?.weight;
    let run = next.run.as_mut()?;
    if weight == Percent::ZERO || seen.copy.ready >= plan.replicas(run.base_replicas, weight) {
        run.unready_since = None;
        return None;
    }
    let since = *run.unready_since.get_or_insert(seen.now);
    (seen.now - since >= plan.progress_deadline).then_some(Cause::CanaryLost)
}

/// The deadline of pods and acknowledgements. Time in which somebody holds the run does not count.
fn past_deadline(plan: &Plan, next: &mut State, seen: &Observation) -> Option<Cause> {
    let run = next.run.as_mut()?;
    if !seen.may_raise {
        run.held_since.get_or_insert(seen.now);
        return None;
    }
    let held = run
        .held_since
        .take()
        .map_or(Span(0), |since| seen.now - since);
    match &mut next.phase {
        Phase::Scaling { since, .. } | Phase::Shifting { since, .. } => {
            *since = *since + held;
            (seen.now - *since >= plan.progress_deadline).then_some(Cause::ProgressDeadlineExceeded)
        }
        Phase::Stable
        | Phase::Soaking { .. }
        | Phase::Promoting { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => None,
    }
}

fn up(plan: &Plan, next: &mut State, seen: &Observation, events: &mut Vec<Event>) {
    let weight = desired(plan, next)
        .share
        .map_or(Percent::ZERO, |share| share.weight);
    let Some(run) = next.run.as_mut() else { return };
    let acknowledged = seen.traffic.acknowledged && seen.traffic.sent == Some((run.number, weight));
    if !seen.may_raise || !acknowledged || run.failed_in_a_row > 0 {
        return;
    }
    match next.phase {
        Phase::Scaling { step, .. } => {
            let weight = plan.step(step).weight;
            if seen.copy.ready >= plan.replicas(run.base_replicas, weight) {
                if step == 0 {
                    run.judged_until = seen.now;
                }
                next.phase = Phase::Shifting {
                    step,
                    since: seen.now,
                };
                events.push(Event::WeightRaised { step, weight });
            }
        }
        Phase::Shifting { step, .. } => {
            run.judged_until = seen.now;
            run.requests = 0;
            run.passed = false;
            next.phase = Phase::Soaking {
                step,
                since: seen.now,
            };
            events.push(Event::WeightAcknowledged { step, weight });
        }
        Phase::Soaking { step, since } => match soaked(plan, run, step, seen.now - since) {
            Soaked::No => {}
            Soaked::Passed => next_step(plan, next, seen, step, events),
            Soaked::WithoutEvidence => {
                events.push(Event::AdvancedWithoutEvidence { step });
                next_step(plan, next, seen, step, events);
            }
        },
        Phase::Stable | Phase::Promoting { .. } | Phase::RollingBack { .. } | Phase::Failed => {}
    }
}

enum Soaked {
    No,
    Passed,
    WithoutEvidence,
}

fn soaked(plan: &Plan, run: &Run, step: usize, soaked_for: Span) -> Soaked {
    let step = plan.step(step);
    if soaked_for < step.soak {
        return Soaked::No;
    }
    if run.passed && run.requests >= step.min_requests {
        return Soaked::Passed;
    }
    let held_long_enough = soaked_for >= Span(step.soak.0.saturating_add(plan.hold.0));
    match plan.then {
        Then::Advance if held_long_enough && run.requests >= ENOUGH_TO_ADVANCE => {
            Soaked::WithoutEvidence
        }
        Then::Advance | Then::Pause => Soaked::No,
    }
}

fn next_step(
    plan: &Plan,
    next: &mut State,
    seen: &Observation,
    step: usize,
    events: &mut Vec<Event>,
) {
    let Some(run) = next.run.as_mut() else { return };
    if plan.is_last(step) {
        next.phase = Phase::Promoting { since: seen.now };
        events.push(Event::PromotionStarted {
            revision: run.canary.revision.clone(),
        });
    } else {
        run.base_replicas = seen.original.replicas;
        next.phase = Phase::Scaling {
            step: step + 1,
            since: seen.now,
        };
    }
}

/// The old pods are going away, so traffic stays on the healthy canary until the Deployment has rolled, whatever to.
fn promoting(next: &mut State, seen: &Observation, events: &mut Vec<Event>) {
    if !seen.original.rolled_out {
        return;
    }
    let Some(run) = next.run.clone() else {
        next.phase = Phase::Failed;
        return;
    };
    if next.target == run.canary {
        next.stable = run.canary;
        next.gated = false;
        next.phase = Phase::Stable;
        events.push(Event::Promoted {
            revision: next.stable.revision.clone(),
        });
    } else if next.target == next.stable {
        revoke(next, &run);
        let cause = Cause::TemplateReverted;
        events.push(Event::RolledBack {
            revision: run.canary.revision.clone(),
            cause,
            from: Percent::ALL,
        });
        next.failure = Some(Failure {
            template: run.canary,
            run: run.number,
            cause,
            at: seen.now,
        });
        next.phase = Phase::RollingBack {
            cause,
            since: seen.now,
        };
    } else {
        // Every pod runs a template that nobody released: saying so is all that is left to do.
        next.stable = next.target.clone();
        next.gated = false;
        next.phase = Phase::Stable;
        events.push(Event::Ungated {
            revision: next.stable.revision.clone(),
        });
    }
}

fn rolling_back(next: &mut State, seen: &Observation, events: &mut Vec<Event>) {
    if seen.copy.exists || seen.traffic.sent.is_some() {
        return;
    }
    if let Some(run) = &next.run {
        events.push(Event::RollbackComplete {
            revision: run.canary.revision.clone(),
        });
    }
    next.phase = if next.target == next.stable {
        Phase::Stable
    } else {
        Phase::Failed
    };
}

fn wake(plan: &Plan, next: &State) -> Option<Time> {
    let window = judged_run(plan, next).map(|run| run.judged_until + plan.interval);
    let lost = next
        .run
        .as_ref()
        .and_then(|run| run.unready_since)
        .map(|since| since + plan.progress_deadline);
    let phase = match next.phase {
        Phase::Scaling { since, .. } | Phase::Shifting { since, .. } => {
            Some(since + plan.progress_deadline)
        }
        Phase::Soaking { step, since } => Some(since + plan.step(step).soak),
        Phase::Promoting { since } => Some(since + plan.progress_deadline),
        Phase::Stable | Phase::RollingBack { .. } | Phase::Failed => None,
    };
    let running = judged_run(plan, next).is_some();
    [window, lost.filter(|_| running), phase]
        .into_iter()
        .flatten()
        .min()
}
