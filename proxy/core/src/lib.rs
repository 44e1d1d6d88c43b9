//! The data plane's decisions, without any I/O: pure functions and small state that `aviary-proxy` drives.
//! No type of http, hyper or h2, no clock and no socket appears here; time and randomness are parameters.
//!
//! [`contract`] has the names that the control plane knows too, [`limits`] the numbers, and [`telemetry`] what a pod may want to be told.
//!
//! In the order of a request: [`revoked`] clamps what the control plane asks for, [`lease`] says for how long it holds, [`split`]
//! picks the revision, [`bounds`] says how long all of it may take, [`fault`] what is put in on purpose, [`fuse`] takes the canary back where far more of it fails than of stable, [`balance`] picks the endpoint among those that [`outlier`] leaves,
//! [`retry`] says whether a failed attempt may be sent again, and [`outcome`] what the request counts as; [`withdrawal`] when a long one is ended whose revision gets nothing any more. [`peer`] says who sent
//! one that comes in, [`authorize`] whether it may, by the rules in [`inbound`], and [`rate`] whether it is one too many. [`spiffe`] has the names of those who send and answer.

pub mod authorize;
pub mod balance;
pub mod bounds;
pub mod config;
pub mod contract;
pub mod fault;
pub mod fuse;
pub mod inbound;
pub mod lease;
pub mod limits;
pub mod outcome;
pub mod outlier;
pub mod peer;
pub mod rate;
pub mod retry;
pub mod revoked;
pub mod spiffe;
pub mod split;
pub mod telemetry;
pub mod weight;
pub mod withdrawal;
