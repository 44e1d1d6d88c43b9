//! The demo: one good and one bad release of a payment service under steady load, shown live.
//!
//! What is shown is computed by pure functions from what was seen ([`screen`], [`summary`]); [`play`] does what a person
//! would do with kubectl, and watches.
//!
//! Not here: the cluster and the workload, which the stories use too ([`crate::harness`]).

pub mod play;
pub mod screen;
pub mod show;
pub mod summary;

pub use play::{PlayError, install, play};
pub use show::Show;
pub use summary::{Ending, Release, Summary};
