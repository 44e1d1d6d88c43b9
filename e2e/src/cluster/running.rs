//! Starting and ending, in one place: whoever decides the end (stop, drop, a signal, a failed
//! start), the same parts go in the same order, once.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::access::Access;
use super::error::ClusterError;
use super::lock::{Holder, Lock, LockError};
use super::node::{self, Node};
use super::process::wait_until;
use super::sibling::sibling;
use super::signals::CleanUp;
use super::state::{Record, State};
use super::{Options, binary, cgroup};
use crate::image::Image;
use crate::images;

const CONTAINERD_STARTS: Duration = Duration::from_secs(60);
const CGROUPS_GO: Duration = Duration::from_secs(10);

/// The parts of a cluster that have to be ended, wherever that is decided.
pub(super) struct Running {
    state: State,
    parts: Mutex<Option<Parts>>,
}

struct Parts {
    _lock: Lock,
    node: Option<Node>,
}

impl Running {
    pub(super) fn new(state: State, lock: Lock) -> Self {
        Self {
            state,
            parts: Mutex::new(Some(Parts {
                _lock: lock,
                node: None,
            })),
        }
    }

    pub(super) fn start(
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

    /// Hands the node over, to live on, and gives the lock back.
    pub(super) fn let_go(&self) -> Option<Node> {
        let parts = self
            .parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        parts.and_then(|parts| parts.node)
    }

    /// Once; the second caller waits for the first.
    pub(super) fn end(&self) -> Result<(), ClusterError> {
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

impl Drop for Running {
    fn drop(&mut self) {
        self.clean_up();
    }
}

impl CleanUp for Running {
    fn clean_up(&self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

pub(super) fn take_lock(state: &State, holder: &Holder) -> Result<Lock, ClusterError> {
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
pub(super) fn clean(state: &State) -> Result<(), ClusterError> {
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

/// Until pods can be made: the node is ready, and the service account that they run as is there.
fn wait_for_node(access: &Access) -> Result<(), String> {
    for condition in [
        ["create", "node/node1"],
        ["create", "serviceaccount/default"],
        ["condition=Ready", "node/node1"],
    ] {
        let [what, object] = condition;
        let mut kubectl =
            access.kubectl(&["wait", &format!("--for={what}"), object, "--timeout=180s"]);
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
