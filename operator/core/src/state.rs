//! Where a rollout is: all that survives a restart. The shell keeps it in `status.machine` of the CanaryRollout.

mod run;

use serde::{Deserialize, Serialize};

use crate::plan::Percent;
use crate::request::Request;
use crate::time::{Span, Time};

pub use run::{Cause, Failure, OnHold, Run};

/// A pod template, by its hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Template {
    /// Of the whole template.
    pub revision: String,
    /// Of the template without its annotations.
    pub content: String,
}

/// What the machine knows of one CanaryRollout.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The uid of the Deployment that all of this is about: another one of the same name is another story.
    pub deployment: String,
    pub phase: Phase,
    /// What serves everyone, or everyone but the canary's share. While [`Phase::Unsettled`]: what did last.
    pub stable: Template,
    /// The template that the Deployment asked for last, and the Deployment's generation then. A hash that differs
    /// while the generation is the same is no change of the user's (a new default of the API, a new operator).
    pub target: Template,
    pub generation: i64,
    /// The Deployment was paused by us and has to be resumed once it may roll.
    pub gated: bool,
    /// The newest run: the present one, or the last one.
    pub run: Option<Run>,
    /// The number of the newest run ever, over Deployments too: revocations name it, so it only rises.
    pub last_run: u64,
    /// How the newest run failed; `None` when it has not.
    pub failure: Option<Failure>,
    /// Rolled-back revisions, oldest first, at most [`Revoked::KEPT`].
    pub revoked: Vec<Revoked>,
    /// The request of a person that was heeded last, until it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heeded: Option<Request>,
}

impl State {
    /// The first sight of a Deployment: what serves is to be found out.
    pub fn unsettled(deployment: String, template: Template, generation: i64, now: Time) -> State {
        State {
            deployment,
            phase: Phase::Unsettled {
                why: Unsettled::Rolling,
                since: now,
            },
            stable: template.clone(),
            target: template,
            generation,
            gated: false,
            run: None,
            last_run: 0,
            failure: None,
            revoked: Vec::new(),
            heeded: None,
        }
    }

    /// The run that has, or is about to get, a share of the requests that is judged.
    pub fn running(&self) -> Option<&Run> {
        match self.phase {
            Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
                self.run.as_ref()
            }
            Phase::Unsettled { .. }
            | Phase::Stable
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::RollingBack { .. }
            | Phase::Failed => None,
        }
    }

    /// The same state on a clock that reads `by` more: what the clock did is not time that passed.
    #[must_use]
    pub fn shifted(mut self, by: Span) -> State {
        self.times(|time| *time = *time + by);
        self
    }

    /// The same state, where the soak that both are in, and its pause, did not begin earlier than in `seen`: a clock that is
    /// behind takes nothing off them.
    #[must_use]
    pub fn not_begun_before(mut self, seen: &State) -> State {
        let (
            Phase::Soaking { step, since },
            Phase::Soaking {
                step: of,
                since: at,
            },
        ) = (&mut self.phase, seen.phase)
        else {
            return self;
        };
        let (Some(run), Some(other)) = (&mut self.run, &seen.run) else {
            return self;
        };
        if *step == of && run.number == other.number {
            *since = (*since).max(at);
            run.judged_until = run.judged_until.max(other.judged_until);
            run.paused_since = run
                .paused_since
                .map(|at| Some(at).max(other.paused_since).unwrap_or(at));
        }
        self
    }

    /// Whether the two are the same but for windows that passed or said nothing: whoever begins with the older one judges them
    /// again, and has no more of a reason to raise. Also of the same state.
    pub fn differs_by_judged_windows(&self, newer: &State) -> bool {
        let (Some(run), Some(other)) = (&self.run, &newer.run) else {
            return self == newer;
        };
        let mut same = newer.clone();
        if let Some(of) = &mut same.run {
            of.judged_until = run.judged_until;
            of.requests = run.requests;
            of.passed = run.passed;
        }
        (!run.passed || other.passed) && *self == same
    }

    /// No moment later than `now`: a clock that was set back must not hold anything up.
    pub(crate) fn not_after(&mut self, now: Time) {
        self.times(|time| *time = (*time).min(now));
    }

    /// Every moment that something is counted from.
    fn times(&mut self, mut each: impl FnMut(&mut Time)) {
        match &mut self.phase {
            Phase::Unsettled { since, .. }
            | Phase::Scaling { since, .. }
            | Phase::Shifting { since, .. }
            | Phase::Soaking { since, .. }
            | Phase::Promoting { since }
            | Phase::Returning { since, .. }
            | Phase::RollingBack { since, .. } => each(since),
            Phase::Stable | Phase::Failed => {}
        }
        if let Some(run) = &mut self.run {
            each(&mut run.judged_until);
            for since in [
                &mut run.unready_since,
                &mut run.lost_since,
                &mut run.held_since,
                &mut run.paused_since,
                &mut run.failed_since,
            ] {
                since.iter_mut().for_each(&mut each);
            }
            if let Some(hold) = &mut run.on_hold {
                each(&mut hold.since);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "name", rename_all_fields = "camelCase")]
pub enum Phase {
    /// It is not clear which revision serves: nothing is split, nothing is paused, nothing is released.
    Unsettled { why: Unsettled, since: Time },
    /// The stable revision serves everyone.
    Stable,
    /// The canary's pods for `step` are coming up; the weight is still that of the step before (0 before the first).
    Scaling { step: usize, since: Time },
    /// The step's weight was sent, and not every live proxy has acknowledged it.
    Shifting { step: usize, since: Time },
    /// Every live proxy uses the step's weight; windows are judged.
    Soaking { step: usize, since: Time },
    /// The Deployment rolls to the new template; the canary's revision carries all traffic. When the Deployment asks for a
    /// third template meanwhile, the promotion is finished in its ReplicaSets.
    Promoting { since: Time },
    /// A promotion was left for the stable template: its pods come back and take over as far as they are Ready.
    Returning { covered: Percent, since: Time },
    /// The weight is 0; the copy goes once every proxy has acknowledged it. The cause is that of the run's failure, unless
    /// a person took over meanwhile.
    RollingBack { cause: Cause, since: Time },
    /// The run failed; the Deployment still asks for the failed template and stays paused.
    Failed,
}

impl Phase {
    /// The step that a running release is at.
    pub fn step(self) -> Option<usize> {
        match self {
            Phase::Scaling { step, .. }
            | Phase::Shifting { step, .. }
            | Phase::Soaking { step, .. } => Some(step),
            Phase::Unsettled { .. }
            | Phase::Stable
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::RollingBack { .. }
            | Phase::Failed => None,
        }
    }
}

/// Why it is not clear which revision serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unsettled {
    /// The Deployment rolls by itself.
    Rolling,
    /// It is paused with pods of several revisions.
    HalfRolled,
    /// It is paused and has no pods.
    NothingServes,
    /// A person has taken over, by the annotation `aviary.dev/break-glass`.
    BreakGlass,
    /// One revision serves; the pods of a release that ended here have to be gone before anything is called stable.
    Clearing,
    /// The CanaryRollout was deleted while the Deployment rolled to a version that had passed every step.
    Leaving,
    /// The CanaryRollout was deleted, and what it released is to be promoted: the Deployment rolls to it by itself.
    LetGo,
}

impl Unsettled {
    pub const ALL: [Unsettled; 7] = [
        Unsettled::Rolling,
        Unsettled::HalfRolled,
        Unsettled::NothingServes,
        Unsettled::BreakGlass,
        Unsettled::Clearing,
        Unsettled::Leaving,
        Unsettled::LetGo,
    ];
}

/// No proxy raises `revision` again for a run that is not newer than `run`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revoked {
    pub revision: String,
    pub run: u64,
}

impl Revoked {
    pub const KEPT: usize = 8;
}

#[cfg(test)]
mod tests;
