//! What the shell saw: one value, so that a decision can be repeated.

use crate::exposure::Exposed;
use crate::judge::Verdict;
use crate::plan::Percent;
use crate::request::Request;
use crate::state::{Template, Unsettled};
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub now: Time,
    /// The Deployment's uid, its present template and its generation.
    pub deployment: String,
    pub template: Template,
    pub generation: i64,
    pub original: Original,
    pub copy: CopySeen,
    pub traffic: Traffic,
    /// A window of the canary that ended and was judged now.
    pub window: Option<Window>,
    /// The guard of this run says that the canary is worse than stable.
    pub alarm: bool,
    /// What the guard has seen of this run speaks against the canary more than for it: too little for an alarm, and too much to
    /// advance without other evidence.
    pub doubt: bool,
    /// What this run has spent of its error budget, and what is not ruled out.
    pub exposed: Exposed,
    /// The highest run of the canary's revision that a proxy reports as revoked.
    pub revoked: Option<u64>,
    /// Nobody renewed the weight lease for as long as it lasts: proxies may have gone back to stable. Nothing is raised
    /// until that is over, and at weight 0 there is nothing to renew.
    pub lapsed: bool,
    /// The CanaryRollout is being deleted.
    pub deleted: bool,
    /// A person has taken over.
    pub break_glass: bool,
    /// What a person asks.
    pub request: Option<Request>,
    /// Nothing forbids a raise: not suspended, not frozen, the lease held, the spec valid.
    pub may_raise: bool,
    pub hooks: Hooks,
}

/// What those who are asked from outside say to the next raise, or to the promotion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hooks {
    /// Nobody has to be asked, or everybody who was asked agrees.
    #[default]
    Agree,
    /// Somebody has not agreed yet: nothing is raised and nothing promoted. Whatever lowers, judges or ends goes on.
    Hold,
    /// Somebody refuses, and that ends the run.
    Refuse,
}

/// The user's Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    pub replicas: u32,
    pub paused: bool,
    /// Every pod is of its present template, and available.
    pub rolled_out: bool,
    pub serving: Serving,
    /// Its Ready pods of the stable revision.
    pub stable_ready: u32,
    /// Its pods, Ready or not, of the canary's revision.
    pub canary_pods: u32,
    /// All its pods are of the canary's revision, as many as it asks for, and Ready.
    pub canary_complete: bool,
}

/// What the Deployment's active ReplicaSets say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// One revision serves.
    One(Template),
    /// Nobody can tell yet.
    Unclear(Unsettled),
}

/// The canary copy of the present run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySeen {
    pub exists: bool,
    pub ready: u32,
    /// A pod of it runs without a sidecar.
    pub without_sidecar: bool,
}

/// What the proxies were sent for this rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The canary's run and its effective weight; `None` when all goes to stable.
    pub sent: Option<(u64, Percent)>,
    /// Every live proxy has acknowledged exactly that.
    pub acknowledged: bool,
}

/// A judged window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: Time,
    pub end: Time,
    pub verdict: Verdict,
    pub requests: u64,
    /// Whether the stable revision fails the same checks; `None`: nobody can tell.
    pub stable_fails: Option<bool>,
}
