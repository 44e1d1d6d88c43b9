//! aviary-operator

pub mod admin;
pub mod admission;
pub mod ads;
pub mod allowed;
pub mod annotations;
pub mod certificates;
pub mod cli;
pub mod credentials;
pub mod error_budget;
pub mod http_client;
pub mod identity;
pub mod inject;
pub mod key;
pub mod manifests;
pub mod mesh;
pub mod metrics;
pub mod names;
pub mod notify;
pub mod options;
pub mod outcomes;
mod probes;
pub mod reason;
pub mod rollout;
pub mod scope;
pub mod secret;
pub mod serve;
pub mod sidecar_image;
pub mod signature;
pub mod strict;
pub mod tenure;
pub mod text;

pub use aviary_crds::revision;
