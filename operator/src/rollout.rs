//! The rollout controller: the thin shell around `rollout-core`.
//!
//! ```text
//!   observe (client, stores) -> advance (pure) -> lower (ADS) -> persist (client) -> raise (ADS) -> apply (client)
//! ```
//!
//! Lowering a weight happens before anything is written, raising it only after the new state was persisted with
//! the resourceVersion that was read: so a rollback needs no API server, and a raise has exactly one author.

pub mod apply;
pub mod checks;
pub mod conditions;
pub mod controller;
pub mod copy;
pub mod events;
pub mod measure;
pub mod memory;
pub mod observe;
pub mod persist;
pub mod plan;
pub mod problems;
pub mod recollect;
pub mod report;
pub mod revisions;
pub mod status;
pub mod stores;
pub mod sweep;
pub mod tell;
pub mod traffic;
pub mod windows;
