//! What becomes of a person's request in a state. It is heeded once: the state remembers it until it is gone, so that nothing
//! happens twice while it cannot be taken away.

use super::waiting;
use crate::desired::desired;
use crate::exposure::Exposed;
use crate::observation::Observation;
use crate::request::{Request, Verb};
use crate::state::{Phase, Run, State};
use crate::time::Time;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was heeded, and has no more to say.
    Heeded,
    /// It is heeded, at once or as soon as what it needs is there.
    Awaited,
    Refused(Refusal),
}

/// Why a request says nothing to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is not clear which revision serves.
    Unsettled,
    /// Nothing is being released.
    NothingRuns,
    /// Another revision is being released.
    OtherRevision,
    /// The revision has another weight.
    OtherWeight,
    /// The release waits for nobody.
    NotWaiting,
    /// A person has paused the release.
    OnHold,
    /// Nobody has paused it.
    NotOnHold,
    /// The judgement is skipped already.
    AlreadySkipped,
    /// Every step is over, and the Deployment rolls.
    Promoting,
    /// The release is on its way back already.
    GoingBack,
    /// The release was rolled back already.
    RolledBack,
    /// The revision has not failed, or nobody asks for it any more.
    NotFailed,
    /// Nobody can do that yet.
    Unsupported,
}

impl Refusal {
    pub const ALL: [Refusal; 13] = [
        Refusal::Unsettled,
        Refusal::NothingRuns,
        Refusal::OtherRevision,
        Refusal::OtherWeight,
        Refusal::NotWaiting,
        Refusal::OnHold,
        Refusal::NotOnHold,
        Refusal::AlreadySkipped,
        Refusal::Promoting,
        Refusal::GoingBack,
        Refusal::RolledBack,
        Refusal::NotFailed,
        Refusal::Unsupported,
    ];
}

/// What becomes of `request` in this state. What waits only if the guard doubts, or while nothing is ruled out, may yet be
/// let on. `exposed`: what the run has spent of its error budget.
pub fn fate(state: &State, request: &Request, exposed: Exposed, now: Time) -> Fate {
    if state.heeded.as_ref() == Some(request) {
        return Fate::Heeded;
    }
    if let Phase::Unsettled { .. } = state.phase {
        return Fate::Refused(Refusal::Unsettled);
    }
    let refused = match request.verb {
        Verb::Promote => promote(state, request, exposed, now),
        Verb::PromoteNow => promote_now(state, request),
        Verb::Abort => abort(state, request),
        Verb::Retry => retry(state, request),
        Verb::Pause => match of_run(state, request) {
            Ok(run) => run.on_hold.is_some().then_some(Refusal::OnHold),
            Err(refusal) => Some(refusal),
        },
        Verb::Resume => match of_run(state, request) {
            Ok(run) => run.on_hold.is_none().then_some(Refusal::NotOnHold),
            Err(refusal) => Some(refusal),
        },
        Verb::Undo | Verb::Restart => Some(Refusal::Unsupported),
    };
    refused.map_or(Fate::Awaited, Fate::Refused)
}

/// The request that is seen, if it is this one and is to be heeded.
pub(super) fn asked<'a>(state: &State, seen: &'a Observation, verb: Verb) -> Option<&'a Request> {
    let request = seen.request.as_ref()?;
    let is_asked =
        request.verb == verb && fate(state, request, seen.exposed, seen.now) == Fate::Awaited;
    is_asked.then_some(request)
}

/// The running release, if it is of that revision.
fn of_run<'a>(state: &'a State, request: &Request) -> Result<&'a Run, Refusal> {
    let Some(run) = state.running() else {
        return Err(match state.phase {
            Phase::Promoting { .. } => Refusal::Promoting,
            Phase::Returning { .. } | Phase::RollingBack { .. } => Refusal::GoingBack,
            Phase::Failed => Refusal::RolledBack,
            Phase::Unsettled { .. }
            | Phase::Stable
            | Phase::Scaling { .. }
            | Phase::Shifting { .. }
            | Phase::Soaking { .. } => Refusal::NothingRuns,
        });
    };
    if run.canary.revision == request.revision {
        Ok(run)
    } else {
        Err(Refusal::OtherRevision)
    }
}

fn promote(state: &State, request: &Request, exposed: Exposed, now: Time) -> Option<Refusal> {
    let waits = |exposed| waiting(state, true, exposed, now).is_some();
    let run = match of_run(state, request) {
        Ok(run) => run,
        Err(refusal) => return Some(refusal),
    };
    if run.on_hold.is_some() {
        Some(Refusal::OnHold)
    } else if request.weight != Some(desired(state).weight()) {
        Some(Refusal::OtherWeight)
    } else if !waits(exposed) && !waits(Exposed::default()) {
        Some(Refusal::NotWaiting)
    } else {
        None
    }
}

fn promote_now(state: &State, request: &Request) -> Option<Refusal> {
    match of_run(state, request) {
        Ok(run) if run.on_hold.is_some() => Some(Refusal::OnHold),
        Ok(run) => run.skips.is_some().then_some(Refusal::AlreadySkipped),
        Err(refusal) => Some(refusal),
    }
}

/// A promotion is left too.
fn abort(state: &State, request: &Request) -> Option<Refusal> {
    match (state.phase, &state.run) {
        (Phase::Promoting { .. }, Some(run)) => {
            (run.canary.revision != request.revision).then_some(Refusal::OtherRevision)
        }
        (
            Phase::Unsettled { .. }
            | Phase::Stable
            | Phase::Scaling { .. }
            | Phase::Shifting { .. }
            | Phase::Soaking { .. }
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::RollingBack { .. }
            | Phase::Failed,
            _,
        ) => of_run(state, request).err(),
    }
}

/// What failed, and is still asked for. One that is on its way back is tried again when it is there.
fn retry(state: &State, request: &Request) -> Option<Refusal> {
    let failed = matches!(state.phase, Phase::Failed | Phase::RollingBack { .. });
    let is_target = state.target.revision == request.revision;
    // Shown is what failed; only its annotations may have changed since.
    let is_failure = state.failure.as_ref().is_some_and(|failure| {
        failure.template.revision == request.revision
            && failure.template.content == state.target.content
    });
    let is_asked_for = state.target != state.stable && (is_target || is_failure);
    (!failed || !is_asked_for).then_some(Refusal::NotFailed)
}
