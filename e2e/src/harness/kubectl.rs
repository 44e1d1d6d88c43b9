//! kubectl, as a person runs it: the stories use it for all that a person would do, and read what it prints.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tokio::io::AsyncWriteExt;

use crate::cluster::Access;

#[derive(Debug, thiserror::Error)]
pub enum KubectlError {
    #[error("cannot run kubectl: is it on the PATH?")]
    Run(#[source] std::io::Error),
    #[error("`kubectl {command}` failed:\n{said}")]
    Failed { command: String, said: Said },
}

/// What kubectl printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// The lines that the API server asked it to show, without the word before them.
    pub fn warnings(&self) -> Vec<&str> {
        self.stderr
            .lines()
            .filter_map(|line| line.strip_prefix("Warning: "))
            .collect()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.stderr, self.stdout)
    }
}

#[derive(Clone, Debug)]
pub enum Kubectl {
    Local(Access),
    /// The user's own, with the user's kubeconfig.
    Yours(PathBuf),
    /// Of a control plane alone: the program that has kubectl in it, and the kubeconfig.
    ControlPlane(PathBuf, PathBuf),
}

impl Kubectl {
    fn command(&self, args: &[&str]) -> Command {
        match self {
            Kubectl::Local(access) => access.kubectl(args),
            Kubectl::Yours(kubeconfig) => {
                let mut command = Command::new("kubectl");
                command.args(args).env("KUBECONFIG", kubeconfig);
                command
            }
            Kubectl::ControlPlane(program, kubeconfig) => {
                let mut command = Command::new(program);
                command.arg("kubectl").args(args);
                command.env("KUBECONFIG", kubeconfig);
                command
            }
        }
    }

    /// Runs it; that it fails is an answer too.
    pub async fn run(&self, args: &[&str]) -> Result<Said, KubectlError> {
        self.run_with(args, "").await
    }

    /// Runs it, and it has to succeed.
    pub async fn ok(&self, args: &[&str]) -> Result<Said, KubectlError> {
        succeeded(args, self.run(args).await?)
    }

    /// The same with `input` on its standard input.
    pub async fn ok_with(&self, args: &[&str], input: &str) -> Result<Said, KubectlError> {
        succeeded(args, self.run_with(args, input).await?)
    }

    /// `kubectl apply -f -`; that it is refused is an answer too.
    pub async fn try_apply(&self, namespace: &str, yaml: &str) -> Result<Said, KubectlError> {
        self.run_with(&["apply", "--namespace", namespace, "-f", "-"], yaml)
            .await
    }

    pub async fn apply(&self, namespace: &str, yaml: &str) -> Result<Said, KubectlError> {
        succeeded(
            &["apply", "-f", "-"],
            self.try_apply(namespace, yaml).await?,
        )
    }

    /// With `input` on its standard input; that it fails is an answer too.
    pub async fn run_with(&self, args: &[&str], input: &str) -> Result<Said, KubectlError> {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(KubectlError::Run)?;
        if let Some(mut stdin) = child.stdin.take() {
            // That it does not read its input to the end is told by its exit code.
            stdin.write_all(input.as_bytes()).await.ok();
        }
        let output = child.wait_with_output().await.map_err(KubectlError::Run)?;
        Ok(Said {
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

fn succeeded(args: &[&str], said: Said) -> Result<Said, KubectlError> {
    if said.ok {
        Ok(said)
    } else {
        Err(KubectlError::Failed {
            command: args.join(" "),
            said,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_the_lines_that_the_api_server_asked_for() {
        let stderr =
            "Warning: paused\nsomething else\nWarning: to follow it: kubectl get\n".to_owned();
        let said = Said {
            ok: true,
            stdout: String::new(),
            stderr,
        };
        assert_eq!(said.warnings(), ["paused", "to follow it: kubectl get"]);
    }
}
