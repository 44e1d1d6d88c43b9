//! Aviary's test equipment: a real Kubernetes on this machine, images, and what the tests and
//! the demo do with them. Nothing in the product depends on this crate.

pub mod app;
pub mod cluster;
pub mod connection;
pub mod control_plane;
pub mod demo;
pub mod harness;
pub mod image;
pub mod images;
pub mod prometheus;
pub mod scale;
