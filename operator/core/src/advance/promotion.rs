//! A promotion: while the old pods are going away, traffic stays on the healthy canary. It can be left, and never by
//! sending requests to pods that are not there.

use super::fate::asked;
use super::{rest, revoke, roll_back, start_run, supersede, unsettle};
use crate::event::Event;
use crate::observation::Observation;
use crate::plan::{Deletion, Percent, Plan};
use crate::request::{By, Request, Verb};
use crate::state::{Cause, Phase, State, Template, Unsettled};

/// What takes a promotion, or the way back from one, to another phase at once.
pub(super) fn left(plan: &Plan, held: &mut State, seen: &Observation, happened: &mut Vec<Event>) {
    let Some(run) = held.run.clone() else {
        // Cannot come out of this machine.
        held.phase = Phase::Failed;
        return;
    };
    if seen.break_glass || seen.deleted {
        // Both revisions have passed every step or served before: until it is clear again which one serves, the
        // Deployment's pods serve together, whatever they are.
        let promoting = matches!(held.phase, Phase::Promoting { .. });
        revoke(held, &run);
        if seen.break_glass {
            unsettle(held, Unsettled::BreakGlass, seen.now, happened);
        } else if promoting && held.target == run.canary && plan.deletion == Deletion::Promote {
            // The gate may not have been opened yet.
            rest::let_go(held, seen.now, happened);
        } else {
            unsettle(held, Unsettled::Leaving, seen.now, happened);
        }
        return;
    }
    // The promoted template is meant to roll; on the way back, and for a third one, the gate is closed.
    let released = matches!(held.phase, Phase::Promoting { .. }) && held.target == run.canary;
    if !released && rest::ungated_run(held, seen, happened) {
        return;
    }
    let aborts = aborts(held, seen, &run.canary);
    match held.phase {
        Phase::Promoting { .. } if aborts.is_some() => {
            held.heeded = aborts.cloned();
            let by = aborts.map_or_else(By::default, |request| request.by.clone());
            if let Some(run) = &mut held.run {
                run.aborted = Some(by.clone());
            }
            happened.push(Event::PromotionAborted {
                revision: held.stable.revision.clone(),
                by,
            });
            go_back(held, seen, happened);
        }
        Phase::Promoting { .. } if held.target == held.stable => {
            happened.push(Event::Returning {
                revision: held.stable.revision.clone(),
            });
            go_back(held, seen, happened);
        }
        Phase::Promoting { .. } if held.target != run.canary && seen.original.canary_pods == 0 => {
            supersede(plan, held, seen, happened);
        }
        Phase::Returning { .. } => cover(held, seen, happened),
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Scaling { .. }
        | Phase::Shifting { .. }
        | Phase::Soaking { .. }
        | Phase::Promoting { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => {}
    }
}

/// A person aborts the promotion, and it is not over: nobody goes back from what serves everyone.
fn aborts<'a>(held: &State, seen: &'a Observation, canary: &Template) -> Option<&'a Request> {
    let over = if held.target == *canary {
        seen.original.rolled_out
    } else {
        seen.original.canary_complete
    };
    asked(held, seen, Verb::Abort).filter(|_| !over)
}

fn go_back(held: &mut State, seen: &Observation, happened: &mut Vec<Event>) {
    held.phase = Phase::Returning {
        covered: Percent::ZERO,
        since: seen.now,
    };
    cover(held, seen, happened);
}

/// As many requests go back to stable as its Ready pods can take; what it has taken it keeps.
fn cover(held: &mut State, seen: &Observation, happened: &mut Vec<Event>) {
    let Phase::Returning { covered, .. } = &mut held.phase else {
        return;
    };
    let share = Percent::covered(seen.original.stable_ready, seen.original.replicas).max(*covered);
    if share == Percent::ALL {
        let aborted = held.run.as_ref().and_then(|run| run.aborted.clone());
        let cause = match aborted {
            Some(by) => (Cause::Aborted, Some(by)),
            None => (Cause::TemplateReverted, None),
        };
        roll_back(held, seen.now, cause, happened);
    } else {
        *covered = share;
    }
}

/// The Deployment has rolled: to the promoted revision, or, if a third template came meanwhile, its ReplicaSets have.
pub(super) fn finished(plan: &Plan, next: &mut State, seen: &Observation, earned: &mut Vec<Event>) {
    let Some(run) = next.run.clone() else { return };
    let promoted = |next: &mut State, earned: &mut Vec<Event>| {
        next.stable = run.canary.clone();
        next.phase = Phase::Stable;
        earned.push(Event::Promoted {
            revision: run.canary.revision.clone(),
        });
    };
    if next.target == run.canary {
        if seen.original.rolled_out {
            promoted(next, earned);
            next.gated = false;
        }
    } else if seen.original.canary_complete {
        promoted(next, earned);
        next.gated = true;
        if seen.may_raise {
            start_run(plan, next, seen, earned);
        }
    }
}
