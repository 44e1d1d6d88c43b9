//! What happened, for people.

use crate::plan::{Percent, Plan};
use crate::request::By;
use crate::state::{Cause, Unsettled};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is clear now which revision serves.
    Adopted {
        revision: String,
    },
    /// The Deployment asks for a template that does not serve, and was paused when it was first seen.
    FoundPaused {
        revision: String,
    },
    /// It is not clear any more which revision serves.
    Unsettled {
        why: Unsettled,
    },
    /// The Deployment is another one than before: all that was known of the old one is void.
    Recreated,
    RunStarted {
        revision: String,
    },
    /// A newer template took the place of a canary, whose weight went to 0.
    Superseded {
        revision: String,
    },
    /// The spec's plan was edited while a run is under way: this one is in force.
    PlanChanged {
        plan: Plan,
        /// The step that the run is at in it.
        step: usize,
    },
    /// Nobody renewed the weight for as long as the lease lasts: the run begins again at its first step.
    LeaseLapsed {
        revision: String,
        from: Percent,
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
    /// The step has passed, and its pause begins.
    Paused {
        step: usize,
    },
    /// More windows failed than are tolerated, and the plan says to pause then: the weight stays.
    PausedByFailure {
        weight: Percent,
    },
    /// The stable revision fails the same checks: nothing is raised until it does not, or a person says so.
    StableFails,
    StableRecovered,
    /// A person let a run that waited go on to the next step.
    LetOn {
        weight: Percent,
        by: By,
    },
    /// A person wants a run that failed to be judged anew, from this weight on.
    JudgedAnew {
        weight: Percent,
        by: By,
    },
    /// A person skips the rest of the steps and of their judgement.
    JudgementSkipped {
        weight: Percent,
        by: By,
    },
    /// A person has paused the run.
    Held {
        weight: Percent,
        by: By,
    },
    /// A person has ended that pause.
    Resumed {
        by: By,
    },
    /// A person wants what failed to be tried again.
    Retried {
        revision: String,
        by: By,
    },
    PromotionStarted {
        revision: String,
    },
    Promoted {
        revision: String,
    },
    /// The Deployment asks for the stable template again while a promotion runs.
    Returning {
        revision: String,
    },
    /// A person aborted a promotion: its Deployment goes back to this stable revision.
    PromotionAborted {
        revision: String,
        by: By,
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
    /// The CanaryRollout is deleted, and the Deployment rolls to what it released.
    LetGo {
        revision: String,
    },
    /// The Deployment asks for the stable template again: the failure is history.
    Recovered {
        revision: String,
    },
}
