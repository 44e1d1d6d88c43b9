//! Why there is no cluster.

use std::io;
use std::path::PathBuf;

use super::access::AccessError;
use super::binary::BinaryError;
use super::cgroup::CgroupError;
use super::lock::{Holder, LockError};
use super::prerequisites::Missing;
use crate::image::ImageError;
use crate::images::ImagesError;

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(
        "a cluster that {0} left running is up: end it with `cargo run -p aviary-e2e --bin e2e-cluster -- down`, or use it with `... -- kubectl`"
    )]
    Kept(Holder),
    #[error(transparent)]
    Binary(#[from] BinaryError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("cannot write the cluster's files in {0}")]
    State(PathBuf, #[source] io::Error),
    #[error("cannot start the node (`unshare`, of util-linux)")]
    Spawn(#[source] io::Error),
    #[error("{what}; the last lines of its logs:\n{logs}")]
    Start { what: String, logs: String },
    #[error("no program `pause` beside this one: `cargo build --workspace --bins` makes it")]
    NoPause,
    #[error("cannot make the image of the program `pause`")]
    PauseImage(#[from] ImageError),
    #[error("cannot strip the program `pause`")]
    Strip(#[from] ImagesError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("the cluster is gone but for {0}")]
    Left(String),
}
