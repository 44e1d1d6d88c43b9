//! The rollout machine: what a release does next, as pure functions. No Kubernetes, no clock, no randomness.
//!
//! ```text
//!   Unsettled --- one revision serves ---> Stable          (from everywhere: another Deployment, break-glass, past the gate)
//!
//!            new template                ready            acknowledged        soaked, passed
//!  Stable ----------------> Scaling{0} --------> Shifting{0} -----> Soaking{0} -----> Scaling{1} -> ... -> Soaking{last}
//!    ^                          |                    |                  |                                      |
//!    |                          +--------------------+--------+---------+--------------------------------------+
//!    |                                  weight 0 at once      |  failed windows, deadline, lost,               | soaked, passed
//!    |  template is stable again                              v  reverted, revoked, deleted                    v
//!    +----------------------- Failed <------------------- RollingBack <------ Returning <----------------- Promoting
//!    |                                                   stable's pods are back     stable again               |
//!    +---------------------------------------------------------------------------------------------------------+
//!                                         the Deployment runs the new template
//! ```
//!
//! A person may abort (weight 0 at once, also out of a promotion), pause and resume, let what waits go on, skip the rest of the
//! judgement, and try again what failed: [`request`].
//!
//! Up is earned, down is free: raising a weight needs every condition of [`advance()`] and a persisted state; going to 0
//! needs none of them. `advance` decides, [`desired()`] is the only place where a weight is computed, [`judge`] has three
//! answers. The invariants are checked over the whole state graph in `tests/graph.rs`.

pub mod advance;
pub mod carried;
pub mod desired;
pub mod event;
pub mod exposure;
pub mod guard;
pub mod judge;
pub mod observation;
pub mod plan;
pub mod request;
pub mod state;
pub mod time;

pub use advance::{
    Ahead, Fate, Overspend, Refusal, Transition, Waiting, advance, ahead, fate, overspends, waiting,
};
pub use carried::{Carried, effective, effective_while_replaced};
pub use desired::{CanarySplit, Copies, Desired, Gate, Lease, Split, desired};
pub use event::Event;
pub use exposure::Exposed;
pub use observation::{Hooks, Observation, Serving, Window};
pub use plan::{Capacity, Deletion, OnFailure, Pause, Percent, Plan, Step, Then};
pub use request::{By, Request, Verb};
pub use state::{Cause, Failure, Phase, Revoked, Run, State, Template, Unsettled};
pub use time::{Span, Time};
