//! The whole data plane in this process, on loopback: real sockets, real HTTP, the control plane played by the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod abuse;
mod bytes;
mod client;
mod conformance;
mod control_plane;
mod cuts;
mod departures;
mod drain;
mod failures;
mod faults;
mod frames;
mod fuse;
mod health;
mod hops;
mod inbound;
mod mesh;
mod mtls;
mod outcomes;
mod outliers;
mod outside;
mod probes;
mod protocols;
mod rates;
mod retries;
mod routes;
mod secrets;
mod server;
mod share;
mod smuggling;
mod sticky;
mod streams;
mod telemetry;
mod timeouts;
mod wire;
mod withdrawal;
