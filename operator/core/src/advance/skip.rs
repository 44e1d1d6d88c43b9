//! A person skips the rest of the steps and of their judgement: the whole capacity first, then 100 %, then the promotion.
//!
//! Not skipped: pods that are Ready, acknowledgements, hooks, whoever holds the run, and every way down, the guard's alarm
//! included.

use super::fate::asked;
use crate::desired::desired;
use crate::event::Event;
use crate::observation::Observation;
use crate::request::Verb;
use crate::state::{Phase, State};

/// Nothing is raised by it: what is sent is where the straight way begins. Says whether it was asked for.
pub(super) fn skip(next: &mut State, seen: &Observation, earned: &mut Vec<Event>) -> bool {
    // While the lease is lapsed, nobody knows what the proxies use.
    let request = asked(next, seen, Verb::PromoteNow).filter(|_| !seen.lapsed);
    let weight = desired(next).weight();
    let (Some(request), Some(run)) = (request, next.run.as_mut()) else {
        return false;
    };
    let (place, phase) = match next.phase {
        Phase::Scaling { step, .. } => {
            let place = step.checked_sub(1);
            let since = seen.now;
            let step = usize::from(place.is_some());
            (place, Phase::Scaling { step, since })
        }
        Phase::Shifting { step, since } => (Some(step), Phase::Shifting { step: 0, since }),
        Phase::Soaking { step, since } => (Some(step), Phase::Soaking { step: 0, since }),
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => return false,
    };
    let by = request.by.clone();
    if run.failed_since.is_some() {
        // The guard begins anew too, or it would say the same again.
        earned.push(Event::JudgedAnew {
            weight,
            by: by.clone(),
        });
    }
    run.forget();
    run.plan = run.plan.straight(place);
    run.skips = Some(by.clone());
    if let Phase::Scaling { .. } = phase {
        // Other pods than those that were waited for so far.
        run.base_replicas = seen.original.replicas;
        run.unready_since = Some(seen.now);
    }
    next.phase = phase;
    next.heeded = Some(request.clone());
    earned.push(Event::JudgementSkipped { weight, by });
    true
}
