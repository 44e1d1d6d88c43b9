//! A real single-node Kubernetes on this machine, without Docker and without an image registry.
//!
//! etcd, the control plane, kubelet and kube-proxy are one Go binary ([`binary`]), containerd and
//! runc are Debian's. All of it runs in namespaces of its own ([`node`]), so that nothing of the
//! machine's network, mounts or sysctls is touched and nothing stays behind; only the cgroup
//! `/e2e` and a directory in the temporary directory have to be removed, and are: by
//! [`Cluster::stop`], on drop (so after a panic too), and on SIGINT and SIGTERM. After a SIGKILL
//! the processes end by themselves, and the next start or [`down`] removes the rest.
//!
//! It is for one user at a time ([`lock`]), needs root, and has one node. A control plane alone,
//! without root, is [`crate::control_plane`].

mod access;
pub(crate) mod binary;
mod cgroup;
mod error;
mod lock;
mod node;
mod prerequisites;
mod process;
mod running;
mod sibling;
pub(crate) mod signals;
mod state;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};

pub use access::{Access, AccessError};
pub use binary::BinaryError;
pub use cgroup::CgroupError;
pub use error::ClusterError;
pub use lock::{Holder, LockError};
pub use node::ADDRESS;
pub use prerequisites::Missing;

pub(crate) use node::{is_ready, tail as last_lines};
pub(crate) use process::{Process, wait_until};
use running::{Running, clean, take_lock};
use state::State;

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Archives to import, as [`crate::images::build`] makes them.
    pub images: Vec<PathBuf>,
    /// Who starts it, as a person would call it: `make demo`. Others are told when they are refused.
    pub holder: String,
}

/// A running cluster. It ends when this is dropped, unless it was kept.
pub struct Cluster {
    access: Access,
    running: Arc<Running>,
}

/// What [`down`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nothing,
    Remains,
    Cluster,
}

impl Cluster {
    /// Starts a cluster and waits until pods can be made in it. Cleans up first what another left behind.
    pub fn start(options: &Options, mut progress: impl FnMut(&str)) -> Result<Self, ClusterError> {
        let state = State::of_this_machine();
        prerequisites::check(state.base())?;
        let holder = Holder::this_process(&options.holder);
        let lock = take_lock(&state, &holder)?;
        if let Some(record) = state
            .record()
            .filter(|record| record.kept && record.node.is_alive())
        {
            return Err(ClusterError::Kept(record.holder));
        }
        let running = Arc::new(Running::new(state, lock));
        let for_signals: Weak<Running> = Arc::downgrade(&running);
        signals::clean_up_on_signals(for_signals);
        // From here on, whatever happens, its drop ends what was started.
        let access = running.start(options, holder, &mut progress)?;
        Ok(Self { access, running })
    }

    /// See [`Access`] for all that can be done with it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    pub fn kubeconfig(&self) -> &Path {
        self.access.kubeconfig()
    }

    /// See [`Access::enter`]: before a tokio runtime is built.
    pub fn enter(&self) -> Result<(), AccessError> {
        self.access.enter()
    }

    /// See [`Access::run_inside`].
    pub fn run_inside<F, T>(&self, make: impl FnOnce() -> F + Send) -> Result<T, AccessError>
    where
        F: Future<Output = T>,
        T: Send,
    {
        self.access.run_inside(make)
    }

    /// See [`Access::kubectl`].
    pub fn kubectl<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        self.access.kubectl(args)
    }

    /// See [`Access::import_images`].
    pub fn import_images<P: AsRef<Path>>(&self, archives: &[P]) -> Result<(), AccessError> {
        self.access.import_images(archives)
    }

    /// Leaves it running when this process ends, and returns what a person has to know to use it
    /// and to end it.
    pub fn keep(self) -> Result<String, ClusterError> {
        let failed = |source| ClusterError::State(self.access.state().cluster(), source);
        if let Some(mut record) = self.access.state().record() {
            record.kept = true;
            self.access.state().write_record(&record).map_err(failed)?;
        }
        if let Some(mut node) = self.running.let_go() {
            node.cut_loose().map_err(failed)?;
        }
        Ok(self.access.usage())
    }

    /// Ends it, and says if something would not go.
    pub fn stop(self) -> Result<(), ClusterError> {
        self.running.end()
    }
}

impl AsRef<Access> for Cluster {
    fn as_ref(&self) -> &Access {
        &self.access
    }
}

/// Ends the cluster of this machine if nobody holds it (then its holder has to be ended), and
/// removes what a killed one left.
pub fn down() -> Result<Found, ClusterError> {
    let state = State::of_this_machine();
    prerequisites::check_root()?;
    if !state.base().exists() && cgroup::remove_now().is_empty() {
        return Ok(Found::Nothing);
    }
    let lock = take_lock(&state, &Holder::this_process("e2e-cluster down"))?;
    let found = match state.record() {
        Some(record) if record.node.is_alive() => Found::Cluster,
        _ if state.cluster().exists() => Found::Remains,
        _ => Found::Nothing,
    };
    let cleaned = clean(&state);
    drop(lock);
    state.remove_base();
    cleaned.map(|()| found)
}
