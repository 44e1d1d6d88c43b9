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
mod lock;
mod node;
mod prerequisites;
mod process;
pub(crate) mod signals;
mod state;

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

pub use access::{Access, AccessError};
pub use binary::BinaryError;
pub use cgroup::CgroupError;
pub use lock::{Holder, LockError};
pub use node::ADDRESS;
pub use prerequisites::Missing;

use crate::image::{Image, ImageError};
use crate::images::{self, ImagesError};
use lock::Lock;
use node::Node;
pub(crate) use node::{is_ready, tail as last_lines};
pub(crate) use process::{Process, wait_until};
use state::{Record, State};

const CONTAINERD_STARTS: Duration = Duration::from_secs(60);
const CGROUPS_GO: Duration = Duration::from_secs(10);

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Archives to import, as [`crate::images::build`] makes them.
    pub images: Vec<PathBuf>,
    /// Who starts it, as a person would call it: `make demo`. Others are told when they are refused.
    pub holder: String,
}

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
    #[error("no program `pause` beside this one: `cargo build -p aviary-e2e --bin pause` makes it")]
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
        let running = Arc::new(Running {
            state: state.clone(),
            parts: Mutex::new(Some(Parts {
                _lock: lock,
                node: None,
            })),
        });
        let weak = Arc::downgrade(&running);
        signals::clean_up_on_signals(weak);
        let started = running.start(options, holder, &mut progress);
        if started.is_err() {
            // What went wrong first is the better error.
            let _ = running.end();
        }
        Ok(Self {
            access: started?,
            running,
        })
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
        if let Some(mut node) = self.running.take().and_then(|parts| parts.node) {
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

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.running.end() {
            eprintln!("{error}");
        }
    }
}

/// Ends the cluster of this machine if nobody holds it (then its holder has to be ended), and
/// removes what a killed one left.
pub fn down() -> Result<Found, ClusterError> {
    let state = State::of_this_machine();
    prerequisites::check_root()?;
    if !state.base().exists() && cgroup::remove(Duration::ZERO).is_empty() {
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

/// The parts of a cluster that have to be ended, wherever that is decided.
struct Running {
    state: State,
    parts: Mutex<Option<Parts>>,
}

struct Parts {
    _lock: Lock,
    node: Option<Node>,
}

impl Running {
    fn start(
        &self,
        options: &Options,
        holder: Holder,
        progress: &mut impl FnMut(&str),
    ) -> Result<Access, ClusterError> {
        let start = Instant::now();
        clean(&self.state)?;
        let binary = binary::ensure(&mut *progress)?;
        let failed = |source| ClusterError::State(self.state.cluster(), source);
        self.state.write_configuration().map_err(failed)?;
        cgroup::make()?;
        let mut images = vec![pause_image(&self.state)?];
        images.extend(options.images.iter().cloned());

        progress("starting the local cluster");
        let mut node = Node::spawn(&binary, &self.state).map_err(ClusterError::Spawn)?;
        let (process, output) = (node.process(), node.take_output());
        self.state
            .write_record(&Record {
                holder,
                kept: false,
                node: process,
                binary: binary.clone(),
            })
            .map_err(failed)?;
        self.put(node)?;
        let access = Access::new(self.state.clone(), binary, process);
        let not_started = |what: &str| ClusterError::Start {
            what: what.to_owned(),
            logs: node::last_words(&self.state),
        };

        let (imported, ready) = thread::scope(|scope| {
            // The API server takes its time on one core; the images go in on the other.
            let import = scope.spawn(|| {
                let listens = || UnixStream::connect(self.state.containerd_socket()).is_ok();
                if wait_until(CONTAINERD_STARTS, || listens() || !process.is_alive())
                    && process.is_alive()
                {
                    access.import_images(&images).map_err(ClusterError::from)
                } else {
                    Err(not_started("containerd did not start"))
                }
            });
            let ready = output.is_some_and(node::is_ready);
            (import.join(), ready)
        });
        if !ready {
            return Err(not_started("the control plane did not start"));
        }
        progress(&format!(
            "the control plane is ready after {:.1}s",
            start.elapsed().as_secs_f64()
        ));
        imported.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        wait_for_node(&access).map_err(|what| not_started(&what))?;
        progress(&format!(
            "the node is ready after {:.1}s",
            start.elapsed().as_secs_f64()
        ));
        Ok(access)
    }

    /// Fails when a signal has ended everything meanwhile.
    fn put(&self, node: Node) -> Result<(), ClusterError> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parts) = parts.as_mut() {
            parts.node = Some(node);
            return Ok(());
        }
        node.end();
        Err(ClusterError::Start {
            what: "interrupted".to_owned(),
            logs: String::new(),
        })
    }

    fn take(&self) -> Option<Parts> {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Once; the second caller waits for the first.
    fn end(&self) -> Result<(), ClusterError> {
        let mut guard = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut parts) = guard.take() else {
            return Ok(());
        };
        if let Some(node) = parts.node.take() {
            node.end();
        }
        let cleaned = clean(&self.state);
        drop(parts);
        self.state.remove_base();
        cleaned
    }
}

impl signals::CleanUp for Running {
    fn clean_up(&self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

fn take_lock(state: &State, holder: &Holder) -> Result<Lock, ClusterError> {
    loop {
        state
            .make_base()
            .map_err(|source| ClusterError::State(state.base().to_owned(), source))?;
        match Lock::take(&state.lock(), holder) {
            // The last holder removed the directory between the two steps.
            Err(LockError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return Ok(other?),
        }
    }
}

/// Removes whatever is there of a cluster. Only for the holder of the lock.
fn clean(state: &State) -> Result<(), ClusterError> {
    let mut left = Vec::new();
    if let Some(record) = state.record().filter(|record| record.node.is_alive())
        && !node::end(record.node)
    {
        left.push(format!("process {}", record.node.pid));
    }
    left.extend(
        cgroup::remove(CGROUPS_GO)
            .iter()
            .map(|group| group.display().to_string()),
    );
    if let Err(error) = state.remove_cluster() {
        left.push(format!("{} ({error})", state.cluster().display()));
    }
    if left.is_empty() {
        Ok(())
    } else {
        Err(ClusterError::Left(left.join(", ")))
    }
}

/// The image of every pod's sandbox, as containerd's configuration names it.
fn pause_image(state: &State) -> Result<PathBuf, ClusterError> {
    let program = sibling("pause").ok_or(ClusterError::NoPause)?;
    let stripped = images::strip(&program, &state.file("pause"))?;
    let archive = state.file("pause.tar");
    Image::from_scratch("aviary.local/pause:1")
        .entrypoint(&["/pause"])
        .file("/pause", stripped.as_deref().unwrap_or(&program))?
        .write(&archive)?;
    Ok(archive)
}

/// A binary of this package: beside this one, or one above when this one is a test.
fn sibling(name: &str) -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Until pods can be made: the node is ready, and the service account that they run as is there.
fn wait_for_node(access: &Access) -> Result<(), String> {
    for condition in [
        ["create", "node/node1"],
        ["create", "serviceaccount/default"],
        ["condition=Ready", "node/node1"],
    ] {
        let [what, object] = condition;
        let mut kubectl =
            access.kubectl(&["wait", &format!("--for={what}"), object, "--timeout=60s"]);
        let output = kubectl
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run kubectl: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "no {what} of {object} within a minute: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
    }
    Ok(())
}
