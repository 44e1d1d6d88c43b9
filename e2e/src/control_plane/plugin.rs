//! `kubectl aviary` as a process, as a person or a pipeline runs it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::images::{self, ImagesError};

#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error(transparent)]
    Build(#[from] ImagesError),
    #[error("cannot run the plugin")]
    Run(#[source] std::io::Error),
    #[error("the plugin has not said '{text}' in {PATIENCE:?}, but:\n{said}")]
    NotSaid { text: String, said: String },
}

/// Longer than anything takes on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(120);

/// The workspace's own, with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Plugin {
    binary: PathBuf,
    kubeconfig: PathBuf,
}

/// How it ended, and what it printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ended {
            code,
            stdout,
            stderr,
        } = self;
        write!(f, "ended with {code:?}\n{stderr}{stdout}")
    }
}

impl Plugin {
    /// Builds it, if it is not the newest.
    pub(super) fn build(kubeconfig: &Path) -> Result<Plugin, PluginError> {
        let mut built = images::compile_for_tests(std::iter::once("kubectl-aviary"))?;
        Ok(Plugin {
            binary: built.remove(0),
            kubeconfig: kubeconfig.to_owned(),
        })
    }

    /// Runs it to its end; it ends when the future is dropped.
    pub async fn run(&self, args: &[&str]) -> Result<Ended, PluginError> {
        let output = self.command(args).output();
        let output = output.await.map_err(PluginError::Run)?;
        Ok(ended(&output))
    }

    /// Runs it on a terminal of 120 columns, where these keys are pressed, to its end: what the terminal got.
    pub async fn run_on_terminal(&self, args: &[&str], keys: &str) -> Result<Ended, PluginError> {
        let command = format!(
            "stty rows 40 cols 120; exec {} {}",
            self.binary.display(),
            args.join(" ")
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("KUBECONFIG", &self.kubeconfig)
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(PluginError::Run)?;
        // Open until it ends: its end is a key, too.
        let mut stdin = child.stdin.take();
        if let Some(stdin) = &mut stdin {
            stdin
                .write_all(keys.as_bytes())
                .await
                .map_err(PluginError::Run)?;
        }
        let output = child.wait_with_output().await.map_err(PluginError::Run)?;
        Ok(ended(&output))
    }

    /// Starts it, to be listened to while it runs.
    pub fn start(&self, args: &[&str]) -> Result<RunningPlugin, PluginError> {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(PluginError::Run)?;
        let (tell, lines) = mpsc::unbounded_channel();
        if let Some(stdout) = child.stdout.take() {
            listen(stdout, tell.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            listen(stderr, tell);
        }
        Ok(RunningPlugin {
            child,
            lines,
            said: String::new(),
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// It runs; it ends when this is dropped.
pub struct RunningPlugin {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    said: String,
}

impl RunningPlugin {
    /// Waits until a line has this text.
    pub async fn until(&mut self, text: &str) -> Result<(), PluginError> {
        let heard = async {
            while let Some(line) = self.lines.recv().await {
                self.said += &format!("{line}\n");
                if line.contains(text) {
                    return true;
                }
            }
            false
        };
        match timeout(PATIENCE, heard).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(PluginError::NotSaid {
                text: text.to_owned(),
                said: self.said.clone(),
            }),
        }
    }

    /// Waits for its end: how it ended, and all that it printed on either output.
    pub async fn end(mut self) -> Result<(Option<i32>, String), PluginError> {
        while let Some(line) = self.lines.recv().await {
            self.said += &format!("{line}\n");
        }
        let status = self.child.wait().await.map_err(PluginError::Run)?;
        Ok((status.code(), self.said))
    }
}

fn ended(output: &std::process::Output) -> Ended {
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn listen(output: impl AsyncRead + Unpin + Send + 'static, tell: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
}
