//! Error budgets: what a release may spend of its service's, what it has spent, and what a step could.
//!
//! ```text
//!   could spend = weight x defect x time        "The Site Reliability Workbook" (B. Beyer et al., 2018), chapter 16
//!                 |        |        the step's soak
//!                 |        the increase of the error rate that the requests so far do not rule out  [`Spent::defect`]
//!                 the canary's share of the requests
//! ```
//!
//! All of it is time in which every request fails: an objective of 99.9 % leaves 43.2 minutes of 30 days, and a tenth of the
//! requests that fail for an hour are six of them. So a budget and what is spent of it are comparable without knowing how many
//! requests the service will have: as if the rest of the window were like the release.
//!
//! It holds raises and lowers nothing: whether the canary is bad, the guard and the checks say.

mod budget;
mod defect;
mod spent;

use crate::time::Span;

pub use budget::{ErrorBudget, InvalidExposure};
pub use defect::Defect;
pub use spent::Spent;

/// What is known of the canary's failures at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exposed {
    /// So much more than stable the canary could fail without having been seen.
    pub defect: Defect,
    /// What the release has spent of its budget, as time in which everything fails.
    pub spent: Span,
}

/// Before its first request anything is possible.
impl Default for Exposed {
    fn default() -> Exposed {
        Exposed {
            defect: Defect::ALL,
            spent: Span(0),
        }
    }
}
