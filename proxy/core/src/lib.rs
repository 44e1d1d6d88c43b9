//! The data plane's decisions, without any I/O: pure functions and small state that `aviary-proxy` drives.
//! No type of http, hyper or h2, no clock and no socket appears here; time and randomness are parameters.

pub mod config;
