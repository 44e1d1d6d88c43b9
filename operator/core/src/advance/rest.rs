//! The phases in which nothing is released: which revision serves, and what begins a run.

use super::fate::asked;
use super::{revoke, start_run, unsettle};
use crate::event::Event;
use crate::observation::{Observation, Serving};
use crate::plan::{Deletion, Plan};
use crate::request::Verb;
use crate::state::{Cause, Failure, Phase, State, Unsettled};
use crate::time::Time;

/// A person has taken over, or has rolled something past the gate.
pub(super) fn stand_back(held: &mut State, seen: &Observation, happened: &mut Vec<Event>) {
    if seen.break_glass {
        unsettle(held, Unsettled::BreakGlass, seen.now, happened);
    } else if ungated(held, seen, happened) {
        held.failure = None;
        held.phase = Phase::Stable;
    }
}

/// The Deployment runs a template that no run released, and nobody holds it back: that is what serves now. It is a fact
/// and not earned: while it cannot be written, nobody may begin to pause or to undo what has rolled.
pub(super) fn ungated(held: &mut State, seen: &Observation, happened: &mut Vec<Event>) -> bool {
    let original = &seen.original;
    let serves = original.serving == Serving::One(held.target.clone());
    if held.target == held.stable || original.paused || !original.rolled_out || !serves {
        return false;
    }
    held.stable = held.target.clone();
    held.gated = false;
    happened.push(Event::Ungated {
        revision: held.stable.revision.clone(),
    });
    true
}

/// The same while a copy may be there: it goes first, and its run with it.
pub(super) fn ungated_run(held: &mut State, seen: &Observation, happened: &mut Vec<Event>) -> bool {
    if seen.break_glass || !ungated(held, seen, happened) {
        return false;
    }
    if let Some(run) = held.run.clone() {
        revoke(held, &run);
    }
    held.phase = Phase::Unsettled {
        why: Unsettled::Rolling,
        since: seen.now,
    };
    unsettled(held, seen);
    true
}

/// A person has taken over before the rollback was done: its end is all that is left of it.
pub(super) fn rolling_back(held: &mut State, seen: &Observation, happened: &mut Vec<Event>) {
    if ungated_run(held, seen, happened) {
        return;
    }
    if let Phase::RollingBack { cause, .. } = &mut held.phase
        && seen.break_glass
    {
        *cause = Cause::BreakGlass;
    }
}

/// Why it is still not clear which revision serves.
pub(super) fn unsettled(held: &mut State, seen: &Observation) {
    let Phase::Unsettled { why, .. } = &mut held.phase else {
        return;
    };
    if seen.break_glass {
        *why = Unsettled::BreakGlass;
    } else if seen.deleted {
        if *why != Unsettled::LetGo {
            *why = Unsettled::Leaving;
        }
    } else {
        match seen.original.serving {
            Serving::Unclear(now) => *why = now,
            Serving::One(_) if seen.copy.exists => *why = Unsettled::Clearing,
            Serving::One(_) => *why = Unsettled::Rolling,
        }
    }
}

/// Stable is what serves, as soon as that is one revision.
pub(super) fn settle(next: &mut State, seen: &Observation, earned: &mut Vec<Event>) {
    let Serving::One(serving) = &seen.original.serving else {
        return;
    };
    // The copies of a run that ended here have to be gone, or their pods would be a part of a new one.
    if seen.break_glass || seen.deleted || seen.copy.exists {
        return;
    }
    next.stable = serving.clone();
    if next.target == next.stable {
        next.failure = None;
        next.phase = Phase::Stable;
        earned.push(Event::Adopted {
            revision: serving.revision.clone(),
        });
    } else if seen.original.paused {
        // Nobody knows whether this template was tried before: it waits for a person.
        next.gated = true;
        next.failure = Some(Failure {
            template: next.target.clone(),
            run: 0,
            cause: Cause::FoundPaused,
            at: seen.now,
            by: None,
        });
        next.phase = Phase::Failed;
        earned.push(Event::FoundPaused {
            revision: next.target.revision.clone(),
        });
    }
}

pub(super) fn stable(plan: &Plan, next: &mut State, seen: &Observation, earned: &mut Vec<Event>) {
    if next.target == next.stable {
        if !seen.original.paused {
            next.gated = false;
        }
    } else if seen.deleted && plan.deletion == Deletion::Promote {
        // Nothing of it was ever tried, and nobody will.
        let_go(next, seen.now, earned);
    } else {
        next.gated = true;
        if seen.may_raise && !seen.deleted {
            start_run(plan, next, seen, earned);
        }
    }
}

/// The CanaryRollout is deleted, and what it was asked to release rolls by itself.
pub(super) fn let_go(next: &mut State, now: Time, events: &mut Vec<Event>) {
    next.phase = Phase::Unsettled {
        why: Unsettled::LetGo,
        since: now,
    };
    events.push(Event::LetGo {
        revision: next.target.revision.clone(),
    });
}

pub(super) fn failed(plan: &Plan, next: &mut State, seen: &Observation, earned: &mut Vec<Event>) {
    if next.target == next.stable {
        next.phase = Phase::Stable;
        earned.push(Event::Recovered {
            revision: next.stable.revision.clone(),
        });
        return;
    }
    // A failed template is not tried again because an annotation changed: Reloader and `rollout restart` do that. One
    // that was taken back before anything was wrong with it did not fail.
    let may_start = next.failure.as_ref().is_none_or(|failure| {
        failure.template.content != next.target.content || failure.cause == Cause::TemplateReverted
    });
    let retried = asked(next, seen, Verb::Retry);
    if (may_start || retried.is_some()) && seen.may_raise && !seen.deleted {
        if let Some(request) = retried {
            next.heeded = Some(request.clone());
            earned.push(Event::Retried {
                revision: next.target.revision.clone(),
                by: request.by.clone(),
            });
        }
        start_run(plan, next, seen, earned);
    }
}

/// No proxy uses the canary any more, and its copy is gone.
pub(super) fn rolled_back(
    plan: &Plan,
    next: &mut State,
    seen: &Observation,
    earned: &mut Vec<Event>,
) {
    if seen.copy.exists || seen.traffic.sent.is_some() {
        return;
    }
    if let Some(run) = &next.run {
        earned.push(Event::RollbackComplete {
            revision: run.canary.revision.clone(),
        });
    }
    let taken_over = matches!(
        next.phase,
        Phase::RollingBack {
            cause: Cause::BreakGlass,
            ..
        }
    );
    if taken_over {
        // What the person did is to be found out, also when the glass is whole again.
        let why = if seen.break_glass {
            Unsettled::BreakGlass
        } else {
            Unsettled::Rolling
        };
        unsettle(next, why, seen.now, earned);
    } else if next.target == next.stable {
        next.phase = Phase::Stable;
    } else if seen.deleted && plan.deletion == Deletion::Promote && innocent(next) {
        next.failure = None;
        let_go(next, seen.now, earned);
    } else {
        next.phase = Phase::Failed;
    }
}

/// Nothing was wrong with the newest run but that its CanaryRollout was deleted, and it is what is asked for.
fn innocent(state: &State) -> bool {
    let deleted = matches!(
        state.phase,
        Phase::RollingBack {
            cause: Cause::Deleted,
            ..
        }
    );
    state.run.as_ref().is_some_and(|run| {
        let failed = run.failed_in_a_row > 0 || run.failed_since.is_some();
        deleted && !failed && run.canary == state.target
    })
}
