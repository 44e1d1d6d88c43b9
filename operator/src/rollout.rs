//! The rollout controller: the shell around `rollout-core`.
//!
//! ```text
//!   watch -> views ┐
//!   ads, traffic   ├-> look (pure) -> advance (pure) -> session: lowers at once, writes, raises what is written
//!   evidence       ┘                                    effects (pure list) -> perform, one request at a time
//! ```
//!
//! Lowering a weight waits for nothing; raising one needs a [`persisted::Persisted`], which only an object of the API server
//! can make. So a rollback needs no API server, and a raise has exactly one author. Only the [`driver`] knows everybody: every
//! other module takes what it uses.

pub mod changes;
pub mod checks;
mod conditions;
pub(crate) mod copy;
mod decisions;
mod deployment;
pub mod driver;
mod effects;
pub mod events;
pub mod evidence;
mod exposing;
mod facts;
mod fuses;
mod guarding;
pub mod heard;
pub mod hooks;
mod identities;
mod inbounds;
mod lacking;
mod look;
mod machine;
pub mod measure;
mod obstacle;
pub mod perform;
mod persisted;
mod plan;
mod problems;
mod proxies;
mod render;
mod replica_sets;
mod reported;
pub(crate) mod request;
mod revisions;
mod said;
mod sentence;
pub mod session;
mod sessions;
mod shown;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
pub mod traffic;
mod trouble;
mod verdicts;
pub mod views;
pub mod watch;
pub mod write;
