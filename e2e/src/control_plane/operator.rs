//! The operator as a process of this machine, with the rights of its ServiceAccount.
//!
//! Its ports stay the same over restarts, so that webhooks and proxies find it again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kube::config::Kubeconfig;
use nix::sys::signal::Signal;
use serde_json::json;

use super::companion::Companion;
use super::install::NAMESPACE;
use crate::cluster::wait_until;
use crate::images::{self, ImagesError};

/// Names the operator's binary; else the workspace's own is built.
pub(super) const VARIABLE: &str = "AVIARY_OPERATOR_BIN";

const STARTS: Duration = Duration::from_secs(180);
/// Where proxies are told that replicas are. Nobody is there: they are on loopback, where no EndpointSlice may lead (RFC 5737).
pub const ADDRESS: &str = "192.0.2.1";
pub const ANOTHER_ADDRESS: &str = "192.0.2.2";

#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("{VARIABLE} names {0}, which is no file")]
    NoBinary(PathBuf),
    #[error("cannot run `{0}`")]
    Run(String, #[source] io::Error),
    #[error(transparent)]
    Build(#[from] ImagesError),
    #[error("no free port on loopback")]
    Ports(#[source] io::Error),
    #[error("cannot write the operator's files in {0}")]
    Files(PathBuf, #[source] io::Error),
    #[error("the operator was not ready within a minute; the end of its log:\n{0}")]
    NotReady(String),
}

/// The operator to test: the one that [`VARIABLE`] names, else the workspace's own, built now.
pub fn binary() -> Result<PathBuf, OperatorError> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_file() {
            Ok(named)
        } else {
            Err(OperatorError::NoBinary(named))
        };
    }
    let mut built = images::compile_for_tests(std::iter::once("aviary-operator"))?;
    Ok(built.remove(0))
}

/// Ends when it is dropped.
pub struct Operator {
    binary: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
    ports: Ports,
    environment: Vec<(&'static str, String)>,
    process: Arc<Companion>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    webhooks: u16,
    xds: u16,
    admin: u16,
}

impl Operator {
    /// One that is not started yet, with its files in `directory`.
    pub fn new(binary: PathBuf, directory: &Path) -> Result<Operator, OperatorError> {
        let [webhooks, xds, admin] = free_ports().map_err(OperatorError::Ports)?;
        Ok(Operator {
            binary,
            kubeconfig: directory.join("operator.kubeconfig"),
            log: directory.join("operator.log"),
            ports: Ports {
                webhooks,
                xds,
                admin,
            },
            environment: Vec::new(),
            process: Companion::registered(),
        })
    }

    /// Another replica of it, not started yet: with the same settings and rights, and files and ports of its own. It is not connected to the API server.
    pub fn another(&self, directory: &Path) -> Result<Operator, OperatorError> {
        let mut another = Operator::new(self.binary.clone(), directory)?;
        another.kubeconfig = directory.join("another-operator.kubeconfig");
        another.log = directory.join("another-operator.log");
        another.environment.clone_from(&self.environment);
        Ok(another.with("POD_IP", ANOTHER_ADDRESS))
    }

    /// The same replica with another setting, not started: it must not run beside this one.
    #[must_use]
    pub fn with_other(&self, variable: &'static str, value: impl Into<String>) -> Operator {
        let other = Operator {
            binary: self.binary.clone(),
            kubeconfig: self.kubeconfig.clone(),
            log: self.log.clone(),
            ports: self.ports,
            environment: self.environment.clone(),
            process: Companion::registered(),
        };
        other.with(variable, value)
    }

    /// Where the API server has to call the webhooks.
    pub fn webhooks(&self) -> u16 {
        self.ports.webhooks
    }

    /// Where proxies connect.
    pub fn xds(&self) -> u16 {
        self.ports.xds
    }

    /// Probes and metrics.
    pub fn admin(&self) -> u16 {
        self.ports.admin
    }

    /// In the Lease.
    pub fn name(&self) -> String {
        format!("operator-{}", self.ports.admin)
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    #[must_use]
    pub fn with(mut self, variable: &'static str, value: impl Into<String>) -> Operator {
        self.environment.push((variable, value.into()));
        self
    }

    /// Writes its kubeconfig.
    pub fn connect(&self, server: &str, token: &str) -> Result<(), OperatorError> {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "operator",
            "clusters": [{"name": "operator", "cluster": {"server": server}}],
            "users": [{"name": "operator", "user": {"token": token}}],
            "contexts": [{"name": "operator", "context": {"cluster": "operator", "user": "operator"}}],
        });
        std::fs::write(&self.kubeconfig, kubeconfig.to_string())
            .map_err(|source| OperatorError::Files(self.kubeconfig.clone(), source))
    }

    /// Writes its kubeconfig: the server of this one, without anything between.
    pub fn connect_to(&self, kubeconfig: &Path, token: &str) -> Result<(), OperatorError> {
        let files = |source| OperatorError::Files(self.kubeconfig.clone(), source);
        let mut ours =
            Kubeconfig::read_from(kubeconfig).map_err(|error| files(io::Error::other(error)))?;
        for user in &mut ours.auth_infos {
            user.auth_info = serde_json::from_value(json!({"token": token})).ok();
        }
        let text = serde_json::to_string(&ours).map_err(|error| files(io::Error::other(error)))?;
        std::fs::write(&self.kubeconfig, text).map_err(files)
    }

    /// Starts it and waits until it is ready, and decides.
    pub fn start(&self) -> Result<(), OperatorError> {
        self.start_as("decides")
    }

    /// Starts it while another replica decides, and waits until it stands by.
    pub fn start_standby(&self) -> Result<(), OperatorError> {
        self.start_as("stands by")
    }

    /// Whether it is ready and the one that decides.
    pub fn decides(&self) -> bool {
        is_ready(self.ports.admin, "decides")
    }

    fn start_as(&self, role: &str) -> Result<(), OperatorError> {
        let files = |source| OperatorError::Files(self.log.clone(), source);
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(files)?;
        writeln!(log, "--- started by the test").map_err(files)?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(&self.binary);
        command
            .arg(format!(
                "--webhook-address={}",
                address(self.ports.webhooks)
            ))
            .arg(format!("--xds-address={}", address(self.ports.xds)))
            .arg(format!("--admin-address={}", address(self.ports.admin)))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("POD_NAMESPACE", NAMESPACE)
            // A container that is started anew in its pod has the name that it had.
            .env("POD_NAME", self.name())
            .env("POD_IP", ADDRESS)
            .env("AVIARY_LOG_FORMAT", "text")
            .env("NO_COLOR", "1")
            .env("AVIARY_LOG", "info,aviary_operator=debug")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        let child = command
            .spawn()
            .map_err(|source| OperatorError::Run(self.binary.display().to_string(), source))?;
        self.process.set(child);
        let admin = self.ports.admin;
        wait_until(STARTS, || is_ready(admin, role) || !self.process.is_alive());
        if self.process.is_alive() && is_ready(admin, role) {
            return Ok(());
        }
        Err(OperatorError::NotReady(self.end_of_log(40)))
    }

    /// Ends it as a cluster would.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Ends it as a lost node would.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Its process stands still, as that of a machine that is suspended.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Its process goes on.
    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// A file of its process in `/proc`.
    pub fn proc(&self, file: &str) -> io::Result<String> {
        match self.process.id() {
            Some(id) => std::fs::read_to_string(format!("/proc/{id}/{file}")),
            None => Err(io::Error::other("the operator does not run")),
        }
    }

    /// How often its threads have gone to sleep: a process that looks at nothing does so rarely.
    pub fn sleeps(&self) -> io::Result<u64> {
        let Some(id) = self.process.id() else {
            return Err(io::Error::other("the operator does not run"));
        };
        let mut sleeps = 0;
        for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
            // One may end meanwhile.
            let status = std::fs::read_to_string(thread?.path().join("status"));
            sleeps += status.ok().as_deref().and_then(switches).unwrap_or(0);
        }
        Ok(sleeps)
    }

    pub fn end_of_log(&self, lines: usize) -> String {
        end_of(&self.log, lines)
    }
}

fn switches(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .and_then(|number| number.trim().parse().ok())
}

fn end_of(log: &Path, lines: usize) -> String {
    // The end is enough: a log of minutes is long.
    const MOST: u64 = 256 * 1024;
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("no log: {error}"));
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// All three at once, so that they differ.
fn free_ports() -> io::Result<[u16; 3]> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = [free()?, free()?, free()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn is_ready(admin: u16, role: &str) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, admin))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| {
        answer
            .lines()
            .next()
            .is_some_and(|line| line.contains(" 200 "))
            && answer.contains(role)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_are_the_voluntary_switches_of_a_thread() {
        let status = "Name:\ta\nvoluntary_ctxt_switches:\t42\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(switches(status), Some(42));
        assert_eq!(switches("Name:\ta\n"), None);
    }

    #[test]
    fn ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c);
    }
}
