//! What the shell saw: one value, so that a decision can be repeated.

use crate::judge::Verdict;
use crate::plan::Percent;
use crate::state::Template;
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub now: Time,
    /// The Deployment's present template and generation.
    pub template: Template,
    pub generation: i64,
    pub original: Original,
    pub copy: CopySeen,
    pub traffic: Traffic,
    /// A window of the canary that ended and was judged now.
    pub window: Option<Window>,
    /// The highest run of the canary's revision that a proxy reports as revoked.
    pub revoked: Option<u64>,
    /// The CanaryRollout is being deleted.
    pub deleted: bool,
    /// Nothing forbids a raise: not suspended, not frozen, the lease held, the spec valid.
    pub may_raise: bool,
}

/// The user's Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    pub replicas: u32,
    pub paused: bool,
    /// Every pod is of its present template, and available.
    pub rolled_out: bool,
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
}
