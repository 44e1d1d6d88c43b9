//! Every reason of an Event and of a condition: one table, so that tools can rely on a closed set, and a page can be made of it
//! (`docs/reference/events.md`). A phase and a cause are reasons too, and have tables of their own
//! ([`aviary_crds::status::Phase`], [`rollout_core::Cause`]).

use std::fmt;

use aviary_crds::condition::{
    ANALYSIS, EXCLUSIVE, MESHED, OUTSIDE_CALLERS, PROMOTED, READY, ROLLED_BACK,
};

/// Where a reason is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// In an Event of the type `Normal` of a CanaryRollout.
    Normal,
    /// In an Event of the type `Warning` of a CanaryRollout.
    Warning,
    /// In an Event of a namespace.
    OfNamespace(Tone),
    /// As the reason of this condition. That of `Ready` is that of `Reconciling` and `Stalled`, too.
    Condition(&'static str),
}

/// The type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    Normal,
    Warning,
}

impl Tone {
    /// As the API has it.
    pub const fn name(self) -> &'static str {
        match self {
            Tone::Normal => "Normal",
            Tone::Warning => "Warning",
        }
    }
}

macro_rules! reasons {
    ($($name:ident [$($seen:expr),+] $meaning:literal;)+) => {
        /// Why, in one word: CamelCase, for tools.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $meaning] $name,)+ }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// As Events and conditions have it.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)+ }
            }

            /// For the reference: what it means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => $meaning,)+ }
            }

            pub const fn seen(self) -> &'static [Seen] {
                match self { $(Reason::$name => &[$($seen),+],)+ }
            }
        }
    };
}

use Seen::{Condition, Normal, OfNamespace, Warning};

/// Of `Ready`, `Reconciling` and `Stalled`, which have one reason.
const STANDING: Seen = Condition(READY);

reasons! {
    // --- what happens to a release
    Adopted [Normal] "the Deployment is under Aviary's care, and what serves is the stable revision";
    ReleaseStarted [Normal] "a new template was found, and its release begins";
    WeightRaised [Normal] "a step's weight was sent to the proxies";
    SoakStarted [Normal] "every proxy uses the weight; the step's soak begins";
    CheckFailed [Warning] "a window failed; `failureLimit` in a row are tolerated";
    AdvancedWithoutEvidence [Warning] "a step could not be judged within `noEvidence.hold`, and `noEvidence.then` is Advance";
    HeldBack [Warning] "sidecars' fuses give requests of the canary's share to stable; nothing is raised while they do";
    HeldByErrorBudget [Warning] "the next step could spend more of the error budget than the release may, or it has spent more already";
    StableFailing [Warning, STANDING] "the stable revision fails the checks too: nothing is raised";
    StableRecovered [Normal] "the stable revision passes the checks again";
    Paused [Normal, STANDING] "the step has passed and its pause lasts; or, as a condition, a person has paused the release";
    FailurePaused [Warning, STANDING] "the checks or the guard found the canary bad, and `onFailure` is Pause: the weight stays";
    Promoting [Normal] "every step has passed: the Deployment rolls to the new template";
    Promoted [Normal, Condition(PROMOTED)] "the new revision is stable and serves everyone";
    RolledBack [Warning] "the weight went to 0; the note says from which weight and why";
    RollbackComplete [Normal] "no proxy uses the revision any more, and its copy is gone";
    Returning [Normal] "a promotion was left: the stable revision's pods take over again";
    Recovered [Normal] "the Deployment asks for the stable revision again";
    Superseded [Normal] "a newer template took the place of a release; its weight is 0";
    PlanChanged [Normal] "the spec was edited during a release; the note says which step is in force";
    LeaseLapsed [Warning] "no operator renewed the weight for as long as proxies wait: the release begins again at its first step";
    LetGo [Warning, STANDING] "the CanaryRollout was deleted, and `deletionPolicy` is Promote: the Deployment rolls by itself";
    DeploymentLeftPaused [Warning] "the CanaryRollout was deleted while the Deployment asks for a revision that was not released: it stays paused";

    // --- what a person asked
    LetOn [Normal] "promote: what waited goes on";
    JudgedAnew [Normal] "promote after failed windows: they are forgotten, and the step is judged again";
    JudgementSkipped [Warning] "promote-now: no more steps, no more checks";
    PausedByPerson [Normal] "pause: the weight stays until somebody resumes";
    Resumed [Normal] "resume: the pause is over";
    Retried [Normal] "retry: what failed is tried again from its first step";
    PromotionAborted [Warning] "abort during a promotion: the stable pods take over as far as they are Ready";
    RequestIgnored [Warning] "a request made no sense where the release is; the note says why, and what can be done instead";

    // --- what does not go as it should
    FoundPaused [Warning, STANDING] "the Deployment was paused on a template that does not serve when it was first seen";
    Unsettled [Warning] "nobody can tell which revision serves";
    Recreated [Warning] "the Deployment was deleted and made again: what was known of the old one is void";
    Ungated [Warning] "the Deployment rolled to a new template without a release: something went around the gate";
    GateBypassed [Warning] "somebody resumed the Deployment while its template is not released; it was paused again";
    StableRestored [Warning] "the stable revision's ReplicaSet was gone, and was made again from the kept template";
    CallsFromOutside [Warning, Condition(OUTSIDE_CALLERS)] "callers without a sidecar come to pods that do not split them";
    PodsWithoutSidecar [Warning, Condition(MESHED)] "pods of the namespace should have a sidecar and have none";
    OldSidecars [Warning, Condition(MESHED)] "pods have the sidecar of an older operator that lacks what releases count on";

    // --- hooks
    HookWaiting [Normal, STANDING] "a hook is being asked, or a Gate does not agree yet";
    HookAgreed [Normal] "a hook agrees to what comes next";
    HookFailed [Warning, STANDING] "a hook did not agree in all its tries, or could not be told how the release ended";

    // --- what is in the way of a release
    Rolling [STANDING] "the Deployment rolls by itself: what it runs then is the stable revision";
    HalfRolled [STANDING] "the Deployment is paused with pods of several revisions";
    NothingServes [STANDING] "the Deployment is paused and has no pods";
    BreakGlass [STANDING] "the annotation `aviary.dev/break-glass` is on the Deployment";
    Clearing [STANDING] "pods of a release that ended are on their way out";
    Leaving [STANDING] "the CanaryRollout was deleted during a promotion, which goes on by itself";
    Inconclusive [STANDING] "soak and `noEvidence.hold` are over, and the evidence allows nothing";
    ErrorBudget [STANDING] "the error budget holds the release";
    InvalidSpec [Warning, STANDING] "the spec makes no sense together; the message says which field";
    Refused [Warning, STANDING] "what the spec names cannot be released so; the message says why";
    NotFound [Warning, STANDING] "what the spec names does not exist";
    TargetTaken [Warning, STANDING] "another CanaryRollout releases the Deployment";
    TargetNotFound [Warning, STANDING] "there is no such Deployment";
    ReplicaFailure [Warning, STANDING] "pods cannot be made, often a quota";
    Illegible [Warning, STANDING] "a newer version's field that this operator does not know";
    Unreadable [Warning, STANDING] "`status.machine` makes no sense to this version; everything is held";

    // --- requests that the API server does not do; each is tried again
    CopyNotMade [Warning, STANDING] "the canary's Deployment cannot be created";
    CopyNotScaled [Warning, STANDING] "the canary's Deployment cannot be scaled";
    CopyNotDeleted [Warning, STANDING] "the canary's Deployment cannot be deleted";
    GateNotClosed [Warning, STANDING] "the Deployment cannot be paused";
    GateNotOpened [Warning, STANDING] "the Deployment cannot be resumed";
    ReplicaSetNotScaled [Warning, STANDING] "a ReplicaSet of the Deployment cannot be scaled";
    ReplicaSetNotDeleted [Warning, STANDING] "a ReplicaSet of the Deployment cannot be deleted";
    StableNotRestored [Warning, STANDING] "the stable revision's ReplicaSet cannot be made again";
    TemplateNotKept [Warning, STANDING] "the stable template cannot be read, or kept as a ControllerRevision";
    TemplateNotForgotten [Warning, STANDING] "a kept template cannot be deleted";
    FinalizerNotWritten [Warning, STANDING] "the CanaryRollout's finalizer cannot be changed";
    ReleasedNotWritten [Warning, STANDING] "the condition `aviary.dev/Released` of the Deployment cannot be written";
    RequestNotRemoved [Warning, STANDING] "the annotation `aviary.dev/request` cannot be removed";
    LabelNotRemoved [Warning, STANDING] "the label `aviary.dev/rollout` cannot be taken off a Deployment";
    StatusNotWritten [Warning, STANDING] "the status cannot be written: nothing is raised, and a bad canary still goes to 0";
    NotRead [Warning, STANDING] "the CanaryRollout cannot be read: nothing is raised until it can";
    EventNotWritten [STANDING] "Events cannot be written";

    // --- other conditions
    Passed [Condition(ANALYSIS)] "the newest window passed";
    Failed [Condition(ANALYSIS)] "the newest window failed";
    NoEvidence [Condition(ANALYSIS)] "the newest window could not be judged";
    NotJudgedYet [Condition(ANALYSIS)] "no window was judged yet";
    NotPromoted [Condition(PROMOTED)] "the last release was not promoted, or runs still";
    NothingReleasedYet [Condition(PROMOTED)] "there was no release yet";
    NotRolledBack [Condition(ROLLED_BACK)] "the last release was not rolled back";
    NoRelease [Condition(OUTSIDE_CALLERS)] "nothing is being released";
    NotMeasured [Condition(OUTSIDE_CALLERS)] "Prometheus has no answer";
    NoneSeen [Condition(OUTSIDE_CALLERS)] "there were no such requests";
    Meshed [Condition(MESHED)] "every pod that should have a sidecar has one";
    Exclusive [Condition(EXCLUSIVE)] "the Services select the Deployment's pods and no others";
    NotExclusive [Condition(EXCLUSIVE)] "pods of something else are behind the Services: they serve in the stable arm";

    // --- a namespace that asks to refuse plaintext
    StrictWaits [OfNamespace(Tone::Warning)] "`aviary.dev/mtls: strict` is asked for and not in force yet; the note names who is in the way";
    PlaintextRefused [OfNamespace(Tone::Normal)] "`strict` is in force";
    PlaintextAccepted [OfNamespace(Tone::Normal)] "`strict` was taken back";
    UnknownMode [OfNamespace(Tone::Warning)] "the label `aviary.dev/mtls` has a value that means nothing";
}

impl Reason {
    /// Whether Events of a CanaryRollout with this reason are of this type.
    pub fn is_told(self, tone: Tone) -> bool {
        self.seen().contains(&match tone {
            Tone::Normal => Seen::Normal,
            Tone::Warning => Seen::Warning,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// For tests, which read better with the word itself.
impl PartialEq<&str> for Reason {
    fn eq(&self, name: &&str) -> bool {
        self.name() == *name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_is_a_word_of_its_own_and_means_something() {
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            // The API takes no other reasons of conditions.
            assert!(reason.name().chars().all(char::is_alphanumeric), "{reason}");
            assert!(!reason.meaning().is_empty() && !reason.meaning().ends_with('.'));
        }
    }
}
