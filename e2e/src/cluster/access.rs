//! The ways into a running cluster, from the process that started it and from any other.
//!
//! The machine itself cannot reach the node's addresses: API, pods and Services are in its
//! network namespace. A thread can go in, and so can a child process.

use std::env;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::process::Process;
use super::sibling::sibling;
use super::state::State;

/// What kubectl asks to complete the plugin's words.
const COMPLETION: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../cli/kubectl_complete-aviary"
);

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("no local cluster is up: `make demo KEEP=1` starts one and leaves it up")]
    NotRunning,
    #[error("cannot enter the node's network namespace (root?)")]
    Enter(#[source] io::Error),
    #[error("cannot build a runtime inside the node's network namespace")]
    Runtime(#[source] io::Error),
    #[error("cannot run `{0}`")]
    Run(&'static str, #[source] io::Error),
    #[error("cannot put kubectl and its plugin into {0}")]
    Link(PathBuf, #[source] io::Error),
    #[error("the image archive {archive} was not imported:\n{output}")]
    Import { archive: PathBuf, output: String },
}

/// A running cluster, by what is needed to reach it.
#[derive(Debug, Clone)]
pub struct Access {
    state: State,
    binary: PathBuf,
    node: Process,
    kubeconfig: PathBuf,
}

impl Access {
    pub(super) fn new(state: State, binary: PathBuf, node: Process) -> Self {
        let kubeconfig = state.kubeconfig();
        Self {
            state,
            binary,
            node,
            kubeconfig,
        }
    }

    /// The cluster of this machine, whoever started it.
    pub fn find() -> Result<Self, AccessError> {
        let state = State::of_this_machine();
        let record = state
            .record()
            .filter(|record| record.node.is_alive())
            .ok_or(AccessError::NotRunning)?;
        Ok(Self::new(state, record.binary, record.node))
    }

    /// Of the administrator. It works only inside the node's network namespace.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The cluster's binary: kubectl, when called by that name.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    pub fn network_namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.node.pid))
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Moves the calling thread, and no other, into the node's network namespace. Threads that it
    /// starts from then on are in there too: so call this before a tokio runtime is built, or use
    /// [`Access::run_inside`].
    pub fn enter(&self) -> Result<(), AccessError> {
        let namespace = File::open(self.network_namespace()).map_err(AccessError::Enter)?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| AccessError::Enter(errno.into()))
    }

    /// Runs a future to its end on a tokio runtime inside the node's network namespace, all of
    /// whose threads are there. The calling thread stays outside, and waits. A panic comes through.
    pub fn run_inside<F, T>(&self, make: impl FnOnce() -> F + Send) -> Result<T, AccessError>
    where
        F: Future<Output = T>,
        T: Send,
    {
        self.on_thread_inside(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build();
            runtime
                .map(|runtime| runtime.block_on(make()))
                .map_err(AccessError::Runtime)
        })?
    }

    /// The same for code that blocks.
    pub fn on_thread_inside<T: Send>(
        &self,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, AccessError> {
        let joined = thread::scope(|scope| scope.spawn(|| self.enter().map(|()| work())).join());
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// kubectl of the cluster's version, as its administrator, inside the namespace.
    pub fn kubectl<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network_namespace().display()));
        command
            .arg(&self.binary)
            .arg("kubectl")
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// A program, by default the user's shell, in which `kubectl` is that of this cluster and has the plugin, and API and pods can be
    /// reached.
    pub fn shell(&self, program: &[String]) -> Result<Command, AccessError> {
        let folder = self.state.file("bin");
        let failed = |source| AccessError::Link(folder.clone(), source);
        fs::create_dir_all(&folder).map_err(failed)?;
        link(&self.binary, &folder.join("kubectl")).map_err(failed)?;
        // Without the plugin the shell is good for kubectl.
        if let Some(plugin) = sibling("kubectl-aviary") {
            link(&plugin, &folder.join("kubectl-aviary")).map_err(failed)?;
            let completion = Path::new(COMPLETION);
            link(completion, &folder.join("kubectl_complete-aviary")).map_err(failed)?;
        }
        let before = env::var_os("PATH").unwrap_or_default();
        let path =
            env::join_paths(std::iter::once(folder.clone()).chain(env::split_paths(&before)))
                .map_err(|error| failed(io::Error::other(error)))?;
        let shell = [env::var("SHELL").unwrap_or_else(|_| "bash".to_owned())];
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.network_namespace().display()))
            .args(if program.is_empty() {
                &shell[..]
            } else {
                program
            })
            .env("PATH", path)
            .env("KUBECONFIG", &self.kubeconfig);
        Ok(command)
    }

    /// A program in the node's network and PID namespaces: it ends with the node. What is spawned
    /// is `nsenter`, and its only child is the program.
    pub(crate) fn command_inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network_namespace().display()));
        command
            .arg(format!("--pid=/proc/{}/ns/pid_for_children", self.node.pid))
            .arg(program);
        command
    }

    /// Makes images known to the node, under the names that are in their archives.
    pub fn import_images<P: AsRef<Path>>(&self, archives: &[P]) -> Result<(), AccessError> {
        archives.iter().try_for_each(|archive| {
            let archive = archive.as_ref();
            let output = Command::new("ctr")
                .arg("--address")
                .arg(self.state.containerd_socket())
                .args(["--namespace", "k8s.io", "images", "import"])
                .arg(archive)
                .stdin(Stdio::null())
                .output()
                .map_err(|source| AccessError::Run("ctr", source))?;
            if output.status.success() {
                return Ok(());
            }
            let output = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(AccessError::Import {
                archive: archive.to_owned(),
                output,
            })
        })
    }

    /// How a person uses it.
    pub fn usage(&self) -> String {
        format!(
            "The local cluster is up.\n  \
             a shell in it:  make shell (kubectl there is this cluster's, with kubectl aviary)\n  \
             end it:         make down\n  \
             its kubeconfig: {} (it works in that shell alone)",
            self.kubeconfig.display(),
        )
    }
}

/// A link at `at`, to what may have been built anew since the last one was made.
fn link(to: &Path, at: &Path) -> io::Result<()> {
    match fs::remove_file(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match symlink(to, at) {
        // Another shell is opened at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

impl AsRef<Access> for Access {
    fn as_ref(&self) -> &Self {
        self
    }
}
