//! Aviary's sidecar: the shell around `traffic-core`.

pub mod control;
