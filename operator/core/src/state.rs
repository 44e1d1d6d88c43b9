//! Where a rollout is: all that survives a restart. The shell keeps it in the status of the CanaryRollout.

use crate::time::Time;

/// A pod template, by its hashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    /// Of the whole template.
    pub revision: String,
    /// Of the template without its annotations.
    pub content: String,
}

/// What the machine knows of one CanaryRollout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub phase: Phase,
    /// What serves everyone, or everyone but the canary's share.
    pub stable: Template,
    /// The template that the Deployment asked for last, and the Deployment's generation then. A hash that differs
    /// while the generation is the same is no change of the user's (a new default of the API, a new operator).
    pub target: Template,
    pub generation: i64,
    /// The Deployment was paused by us and has to be resumed once it may roll.
    pub gated: bool,
    /// The newest run: the present one, or the last one.
    pub run: Option<Run>,
    /// How the newest run failed; `None` when it has not.
    pub failure: Option<Failure>,
    /// Rolled-back revisions, oldest first, at most [`Revoked::KEPT`].
    pub revoked: Vec<Revoked>,
}

impl State {
    /// The first sight of a Deployment: whatever it runs is stable.
    pub fn adopt(template: Template, generation: i64) -> State {
        State {
            phase: Phase::Stable,
            stable: template.clone(),
            target: template,
            generation,
            gated: false,
            run: None,
            failure: None,
            revoked: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The stable revision serves everyone.
    Stable,
    /// The canary's pods for `step` are coming up; the weight is still that of the step before (0 before the first).
    Scaling { step: usize, since: Time },
    /// The step's weight was sent, and not every live proxy has acknowledged it.
    Shifting { step: usize, since: Time },
    /// Every live proxy uses the step's weight; windows are judged.
    Soaking { step: usize, since: Time },
    /// The Deployment rolls to the new template; the canary's revision carries all traffic.
    Promoting { since: Time },
    /// The weight is 0; the copy goes once every proxy has acknowledged it.
    RollingBack { cause: Cause, since: Time },
    /// The run failed; the Deployment still asks for the failed template and stays paused.
    Failed,
}

/// One release of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    pub canary: Template,
    /// Higher than that of every run before: revocations name it.
    pub number: u64,
    pub started_at: Time,
    /// The Deployment's replicas when the present step began: growth of an autoscaler within a step changes nothing.
    pub base_replicas: u32,
    /// Up to when windows have been judged: a window is judged once.
    pub judged_until: Time,
    pub failed_in_a_row: u32,
    /// Judged requests of the canary in the present step.
    pub requests: u64,
    /// A whole window of the present step's soak passed, and none has failed since.
    pub passed: bool,
    /// Since when the canary has had fewer Ready pods than its weight needs.
    pub unready_since: Option<Time>,
    /// Since when a person, a freeze or a lost lease has held the run: deadlines do not count that time.
    pub held_since: Option<Time>,
}

/// Why a weight went to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// More failed windows in a row than the failure limit.
    AnalysisFailed,
    /// Pods or acknowledgements took longer than the progress deadline.
    ProgressDeadlineExceeded,
    /// The canary's pods were taken away or stopped being Ready for longer than the progress deadline.
    CanaryLost,
    /// A canary pod has no sidecar: what it does cannot be seen.
    NotMeshed,
    /// A proxy has seen this run revoked: an operator before this one rolled it back.
    Revoked,
    /// The Deployment's template is the stable one again.
    TemplateReverted,
    /// The CanaryRollout is being deleted.
    Deleted,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Cause::AnalysisFailed => "AnalysisFailed",
            Cause::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Cause::CanaryLost => "CanaryLost",
            Cause::NotMeshed => "NotMeshed",
            Cause::Revoked => "Revoked",
            Cause::TemplateReverted => "TemplateReverted",
            Cause::Deleted => "Deleted",
        }
    }

    pub const ALL: [Cause; 7] = [
        Cause::AnalysisFailed,
        Cause::ProgressDeadlineExceeded,
        Cause::CanaryLost,
        Cause::NotMeshed,
        Cause::Revoked,
        Cause::TemplateReverted,
        Cause::Deleted,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    pub template: Template,
    pub run: u64,
    pub cause: Cause,
    pub at: Time,
}

/// No proxy raises `revision` again for a run that is not newer than `run`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revoked {
    pub revision: String,
    pub run: u64,
}

impl Revoked {
    pub const KEPT: usize = 8;
}
