//! The node: Kubernetes and its containers as one process tree in network, mount and PID
//! namespaces of their own.
//!
//! Process 1 in there is `e2ecluster up`. When it ends, the kernel ends every other process of
//! the node, and mounts, links and network namespaces go with the last of them: there is no list
//! of things to tidy, and nothing is left when the harness is killed. The lifeline is its
//! standard input: it ends when the pipe does.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::process::Process;
use super::state::State;

/// The node's address, where the API and Prometheus are.
pub const ADDRESS: &str = "10.243.0.1";

const END: Duration = Duration::from_secs(20);
const BURIAL: Duration = Duration::from_secs(2);
/// Lines of a log, when something went wrong.
const TAIL: usize = 20;

pub(super) struct Node {
    child: Child,
    lifeline: Option<ChildStdin>,
    output: Option<ChildStdout>,
    process: Process,
}

impl Node {
    pub(super) fn spawn(binary: &Path, state: &State) -> io::Result<Self> {
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .arg(binary)
            .args(["up", "--host", ADDRESS, "--dir"])
            .arg(state.kubernetes())
            .arg("--node")
            .arg(state.file("containerd.toml"))
            .arg("--cri")
            .arg(state.containerd_socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(state.file("up.log"))?)
            // Ctrl-C is for the harness alone, which then ends the node in order.
            .process_group(0)
            .spawn()?;
        let (lifeline, output) = (child.stdin.take(), child.stdout.take());
        let Some(process) = Process::of(&child) else {
            let status = child.wait()?;
            return Err(io::Error::other(format!("unshare ended at once: {status}")));
        };
        Ok(Self {
            child,
            lifeline,
            output,
            process,
        })
    }

    pub(super) fn process(&self) -> Process {
        self.process
    }

    /// Its standard output; once.
    pub(super) fn take_output(&mut self) -> Option<ChildStdout> {
        self.output.take()
    }

    /// Lets it live on after this process.
    pub(super) fn cut_loose(&mut self) -> io::Result<()> {
        match self.lifeline.take() {
            Some(mut lifeline) => lifeline.write_all(b"keep\n"),
            None => Ok(()),
        }
    }

    pub(super) fn end(mut self) -> bool {
        let gone = end(self.process);
        if gone {
            let _ = self.child.wait();
        }
        gone
    }
}

/// Ends a node by its `unshare`; whether it is gone. Nobody needs the data again, so nothing is asked.
pub(super) fn end(unshare: Process) -> bool {
    let inside = unshare.children();
    for first in &inside {
        first.signal(Signal::SIGKILL);
    }
    // Process 1 is gone only when all others of its namespace are. `unshare` then buries it and follows.
    let gone = inside.iter().all(|first| first.wait_gone(END));
    if !unshare.wait_gone(BURIAL) {
        unshare.signal(Signal::SIGKILL);
    }
    gone && unshare.wait_gone(END)
}

/// Blocks until the line "ready ..." comes; false when the node ended instead.
pub(crate) fn is_ready(output: ChildStdout) -> bool {
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).is_ok() && line.starts_with("ready")
}

/// The last lines of the logs, to say why a start failed.
pub(super) fn last_words(state: &State) -> String {
    let mut text = tail(&state.file("up.log"));
    for component in ["containerd", "kubelet", "kube-apiserver"] {
        let lines = tail(&state.kubernetes().join(format!("{component}.log")));
        if !lines.is_empty() {
            text += &format!("\n--- the last lines of {component}\n{lines}");
        }
    }
    text
}

pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
