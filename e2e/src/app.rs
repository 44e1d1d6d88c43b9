//! The workload of the stories and of the demo: a payment service and its steady caller.
//!
//! One program with two parts, because both sides of a measurement have to agree on what a failure is. The service
//! fails and dawdles as its environment says, evenly and not by chance, so that a run can be repeated. The caller sends
//! at a fixed rate whether or not answers come (an open loop: a slow service cannot hide by slowing its caller), and
//! tells the app's own failures, which carry the version that made them, from requests that got lost on the way.
//!
//! Not here: load tests (no latency histogram, one thread) and anything of Kubernetes.

pub mod client;
pub mod faults;
pub mod grpc;
pub mod payment;
pub mod serve;
pub mod stats;

/// The header that says which version answered.
pub const VERSION_HEADER: &str = "x-version";

#[cfg(test)]
mod tests;
