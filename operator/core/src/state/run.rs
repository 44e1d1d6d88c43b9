//! One run: the release of one revision, and how it can end.

use serde::{Deserialize, Serialize};

use super::Template;
use crate::plan::{Percent, Plan};
use crate::request::By;
use crate::time::Time;

/// One release of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub canary: Template,
    /// Higher than that of every run before: revocations name it.
    pub number: u64,
    /// The plan in force: that of the spec when the run began, and, after an edit, the edited one around the step that
    /// was begun.
    pub plan: Plan,
    /// The plan of the spec that was taken in last.
    pub asked: Plan,
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
    /// Since when the canary has had fewer Ready pods than it needs; for a step's pods, since the step was begun.
    pub unready_since: Option<Time>,
    /// Since when a person, a freeze or a lost lease has held the run: deadlines do not count that time.
    pub held_since: Option<Time>,
    /// While the pods of the next step come up: those that the weight needs that is sent meanwhile, and since when there
    /// have been fewer.
    #[serde(default = "unlimited")]
    pub sent_needs: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_since: Option<Time>,
    /// Since when the present step has passed and waits for its pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<Time>,
    /// Since when more windows have failed than are tolerated, while the plan says to pause then. No window ends it, only a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_since: Option<Time>,
    /// The stable revision failed the checks too, in the newest window that can tell.
    #[serde(default)]
    pub stable_fails: bool,
    /// The weight at which a person let the run go on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Percent>,
    /// A person has paused the run: nothing is raised until one resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_hold: Option<OnHold>,
    /// Who skipped what was left of the steps and of their judgement: the plan goes straight from the weight that it had then to
    /// 100 %, and windows are not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skips: Option<By>,
    /// Who aborted the promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<By>,
}

impl Run {
    /// What was judged so far counts no more.
    pub(crate) fn forget(&mut self) {
        self.failed_in_a_row = 0;
        self.failed_since = None;
        self.paused_since = None;
        self.requests = 0;
        self.passed = false;
        self.stable_fails = false;
    }
}

/// A person's pause.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OnHold {
    pub since: Time,
    pub by: By,
}

/// Of a state that does not say: whatever the weight needs.
fn unlimited() -> u32 {
    u32::MAX
}

/// Why a weight went to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// More failed windows in a row than the failure limit.
    AnalysisFailed,
    /// The guard: the canary is worse than stable in the same seconds.
    WorseThanStable,
    /// The canary's pods took longer than the progress deadline.
    ProgressDeadlineExceeded,
    /// The canary's pods were taken away or stopped being Ready for longer than the progress deadline.
    CanaryLost,
    /// A canary pod has no sidecar: what it does cannot be seen.
    NotMeshed,
    /// A person aborted it.
    Aborted,
    /// A hook did not agree to a raise or to the promotion, and is one that rolls back then.
    HookRefused,
    /// A proxy has seen this run revoked: an operator before this one rolled it back.
    Revoked,
    /// The Deployment's template is the stable one again.
    TemplateReverted,
    /// The CanaryRollout is being deleted.
    Deleted,
    /// A person has taken over, by the annotation `aviary.dev/break-glass`.
    BreakGlass,
    /// No run: the Deployment was found paused on a template that does not serve.
    FoundPaused,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Cause::AnalysisFailed => "AnalysisFailed",
            Cause::WorseThanStable => "WorseThanStable",
            Cause::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Cause::CanaryLost => "CanaryLost",
            Cause::NotMeshed => "NotMeshed",
            Cause::Aborted => "Aborted",
            Cause::HookRefused => "HookRefused",
            Cause::Revoked => "Revoked",
            Cause::TemplateReverted => "TemplateReverted",
            Cause::Deleted => "Deleted",
            Cause::BreakGlass => "BreakGlass",
            Cause::FoundPaused => "FoundPaused",
        }
    }

    pub const ALL: [Cause; 12] = [
        Cause::AnalysisFailed,
        Cause::WorseThanStable,
        Cause::ProgressDeadlineExceeded,
        Cause::CanaryLost,
        Cause::NotMeshed,
        Cause::Aborted,
        Cause::HookRefused,
        Cause::Revoked,
        Cause::TemplateReverted,
        Cause::Deleted,
        Cause::BreakGlass,
        Cause::FoundPaused,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    pub template: Template,
    pub run: u64,
    pub cause: Cause,
    pub at: Time,
    /// Who aborted it; of no other cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}
