//! Aviary's sidecar: the shell around `traffic-core`. `aviary-proxy init` sends a pod's connections here, `aviary-proxy run` carries them.
//!
//! In the order of a connection: [`net`] accepts it and says where it was going, [`connection`] finds out what it speaks, [`http1`] or [`http2`]
//! carries its requests, each an [`exchange`]: a revision and an [`endpoint`] are picked by what the worker's [`state`] knows, and the outcome is counted.
//! [`identity`] is what sidecars know each other by, and a [`caller`] who has called; [`plaintext`] remembers those of whom nobody knows.
//! What is said of single requests, where somebody asks, is [`telemetry`].
//! Around that: [`control`] is the seam to the control plane's client [`ads`], [`data`] and [`table`] hand configuration to each [`worker`], [`run`] puts it all
//! together, [`program`] is what a container runs.

pub mod admin;
pub mod ads;
pub mod caller;
pub mod cli;
pub mod clock;
pub mod command;
pub mod connection;
pub mod control;
pub mod data;
pub mod drain;
pub mod endpoint;
pub mod exchange;
pub mod http1;
pub mod http2;
pub mod identity;
pub mod init;
pub mod limits;
pub mod link;
pub mod metrics;
pub mod net;
pub mod plaintext;
pub mod program;
pub mod rfc3339;
pub mod run;
pub mod state;
pub mod table;
pub mod telemetry;
pub mod worker;
