//! A control plane alone: etcd, API server, controller manager and scheduler on loopback, with
//! pods that only seem to run ([`pods`]). It needs no root, and there can be several at once.
//!
//! For what needs the real API server but no traffic: schemas and CEL, RBAC with real tokens,
//! server-side apply, finalizers, garbage collection, the rollout's logic, webhooks by URL
//! (`clientConfig.url: https://127.0.0.1:PORT` with a caBundle; there is no kube-proxy, so
//! Services lead nowhere).
//!
//! With Aviary: the [`Operator`] as a process of this machine, with the rights that its manifests
//! give it, behind a [`Wire`] to the API server that can be cut; and [`Evidence`] by which a
//! release is judged where no requests are; and a [`Receiver`] where hooks lead.

mod alerts;
mod bench;
mod companion;
mod evidence;
mod install;
mod operator;
mod plugin;
pub mod pods;
mod receiver;
mod seen;
mod shop;
mod wire;

pub use alerts::{Alerts, AlertsError, simulated};
pub use bench::{Bench, BenchError};
pub use evidence::{Evidence, EvidenceError};
pub use install::InstallError;
pub use operator::{ADDRESS, ANOTHER_ADDRESS, Operator, OperatorError, binary as operator_binary};
pub use plugin::{Ended, Plugin, PluginError, RunningPlugin};
pub use receiver::{Heard, Receiver, Reply};
pub use seen::{Revision, Seen};
pub use shop::{Plan, Shop, ShopError, deployment, list, service};
pub use wire::{Caught, Matching, Wire, WireError};

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::cluster::signals::{CleanUp, clean_up_on_signals};
use crate::cluster::{BinaryError, binary, is_ready, last_lines, wait_until};
use crate::harness::Kubectl;

const END: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    #[error(transparent)]
    Binary(#[from] BinaryError),
    #[error("cannot write the control plane's files in {0}")]
    Files(PathBuf, #[source] io::Error),
    #[error("cannot start the control plane")]
    Spawn(#[source] io::Error),
    #[error("the control plane did not start; the last lines of its logs:\n{0}")]
    NotReady(String),
    #[error("cannot start the pod simulator")]
    Pods(#[source] io::Error),
}

/// A running control plane; it ends when this is dropped.
pub struct ControlPlane {
    binary: PathBuf,
    kubeconfig: PathBuf,
    running: Arc<Running>,
}

impl ControlPlane {
    /// Starts one and waits until its API answers.
    pub fn start(progress: impl FnMut(&str)) -> Result<Self, ControlPlaneError> {
        let binary = binary::ensure(progress)?;
        let directory = new_directory()
            .map_err(|source| ControlPlaneError::Files(std::env::temp_dir(), source))?;
        let kubeconfig = directory.join("k8s/admin.kubeconfig");
        let running = Arc::new(Running {
            directory,
            parts: Mutex::new(Parts::default()),
        });
        let control_plane = Self {
            binary,
            kubeconfig,
            running,
        };
        let for_signals: std::sync::Weak<Running> = Arc::downgrade(&control_plane.running);
        clean_up_on_signals(for_signals);
        // From here on the drop cleans up.
        control_plane.run()?;
        Ok(control_plane)
    }

    /// Of the administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// For what goes with it: removed at its end.
    pub fn directory(&self) -> &Path {
        &self.running.directory
    }

    /// kubectl as the stories use it.
    pub fn tool(&self) -> Kubectl {
        Kubectl::ControlPlane(self.binary.clone(), self.kubeconfig.clone())
    }

    /// kubectl of its version, as its administrator.
    pub fn kubectl<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("kubectl")
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig);
        command
    }

    fn run(&self) -> Result<(), ControlPlaneError> {
        let directory = &self.running.directory;
        let log = directory.join("up.log");
        let errors =
            File::create(&log).map_err(|source| ControlPlaneError::Files(log.clone(), source))?;
        let mut child = Command::new(&self.binary)
            .args(["up", "--dir"])
            .arg(directory.join("k8s"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            // Ctrl-C is for this process alone, which then ends it in order.
            .process_group(0)
            .spawn()
            .map_err(ControlPlaneError::Spawn)?;
        let output = child.stdout.take();
        self.running.with(|parts| parts.set_process(child));
        if !output.is_some_and(is_ready) {
            let api_server = last_lines(&directory.join("k8s/kube-apiserver.log"));
            return Err(ControlPlaneError::NotReady(format!(
                "{}\n{api_server}",
                last_lines(&log)
            )));
        }
        let pods = pods::start(self.kubeconfig.clone()).map_err(ControlPlaneError::Pods)?;
        self.running.with(|parts| parts.pods = Some(pods));
        Ok(())
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.running.clean_up();
    }
}

struct Running {
    directory: PathBuf,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    child: Option<Child>,
    /// It ends when this does.
    lifeline: Option<ChildStdin>,
    /// They end when this does.
    pods: Option<oneshot::Sender<()>>,
}

impl Parts {
    fn set_process(&mut self, mut child: Child) {
        self.lifeline = child.stdin.take();
        self.child = Some(child);
    }
}

impl Running {
    fn with<T>(&self, work: impl FnOnce(&mut Parts) -> T) -> T {
        work(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CleanUp for Running {
    fn clean_up(&self) {
        self.with(|parts| {
            parts.pods = None;
            parts.lifeline = None;
            if let Some(mut child) = parts.child.take() {
                if !wait_until(END, || matches!(child.try_wait(), Ok(Some(_)) | Err(_))) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
                let _ = fs::remove_dir_all(&self.directory);
            }
        });
    }
}

/// For this one alone, with nobody else's rights.
fn new_directory() -> io::Result<PathBuf> {
    loop {
        let name = format!("aviary-control-plane-{:08x}", fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|()| path),
        }
    }
}
