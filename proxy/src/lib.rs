//! Aviary's sidecar: the shell around `traffic-core`.

pub mod ads;
pub mod control;
