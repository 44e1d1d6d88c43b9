//! Aviary's sidecar: the shell around `traffic-core`. `aviary-proxy init` sends a pod's connections here, `aviary-proxy run` carries them.
//!
//! In the order of a connection: [`listen`] accepts, [`origin`] says where it was going, [`detect`] what it speaks; [`outbound`] and [`inbound`]
//! carry it (with [`peer`] for who sends what), over [`serve`] (the caller's side) and [`endpoint`] (the other side), with [`body`] and [`tally`] for what passes and what is counted.
//! Around that: [`control`] is the seam to the control plane's client [`ads`], [`data`] and [`table`] hand configuration to each [`worker`], [`run`] puts it all
//! together.

pub mod admin;
pub mod ads;
pub mod body;
pub mod cli;
pub mod control;
pub mod copy;
pub mod data;
pub mod destination;
pub mod detect;
pub mod drain;
pub mod endpoint;
pub mod headers;
pub mod inbound;
pub mod init;
pub mod listen;
pub mod metrics;
pub mod origin;
pub mod outbound;
pub mod peer;
pub mod run;
pub mod serve;
pub mod socket;
pub mod table;
pub mod tally;
pub mod worker;
