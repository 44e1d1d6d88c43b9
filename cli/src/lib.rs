//! `kubectl aviary`: what a person, or a pipeline, asks of releases.
//!
//! ```text
//!   cluster (kube) -> view (pure: status -> what is shown) -> lines (pure) -> plain text, or the screen
//!                  -> standing (pure: how the release of a template stands) -> status --wait and its exit code
//! ```
//!
//! What is shown is made of the CanaryRollout's status, which is the contract, of its Deployment's template and of Events.
//! Nothing here decides about a release.

pub mod args;
pub mod ask;
pub mod check;
pub mod cluster;
pub mod complete;
pub mod exit;
pub mod lines;
pub mod list;
pub mod out;
pub mod proxy;
pub mod standing;
pub mod status;
pub mod template;
pub mod text;
pub mod uninstall;
pub mod verb;
pub mod view;
pub mod why;
