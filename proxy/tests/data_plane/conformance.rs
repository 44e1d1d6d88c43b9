//! What other people's clients and servers say of the sidecar: `make conformance` installs them and starts these. Each backend stands
//! behind a sidecar of its own, and each client in front of another one.

mod curl;
mod databases;
mod grpc_go;
mod h2spec;
mod load;
mod node;
mod python;

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use traffic_core::peer::Peer;

use crate::mesh::{Given, Mesh, Service, counts};
use crate::protocols::detected;

const PATIENCE: Duration = Duration::from_secs(120);

/// Where `make conformance` has put something.
fn tool(path: &str) -> PathBuf {
    let tools = std::env::var_os("AVIARY_CONFORMANCE")
        .expect("AVIARY_CONFORMANCE is not set: `make conformance` installs the tools and sets it");
    PathBuf::from(tools).join(path)
}

/// A file beside the pins.
fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance")).join(name)
}

fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// How a program ended, and all that it said.
struct Said {
    is_success: bool,
    out: String,
    error: String,
}

async fn run(mut command: Command) -> Said {
    let program = format!("{command:?}");
    let output = timeout(PATIENCE, command.output())
        .await
        .unwrap_or_else(|_| panic!("{program} does not end"))
        .unwrap_or_else(|error| {
            panic!("cannot run {program}: {error}; `make conformance` installs it")
        });
    Said {
        is_success: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What a program says, if it ends well.
async fn said(command: Command) -> String {
    let program = format!("{command:?}");
    let said = run(command).await;
    assert!(
        said.is_success,
        "{program} failed:\n{}{}",
        said.out, said.error
    );
    said.out
}

/// A script's checks pass, so many of them.
async fn all_pass(command: Command, count: usize) {
    let text = said(command).await;
    let passed = text.lines().filter(|line| line.starts_with("passed "));
    assert_eq!(passed.count(), count, "{text}");
    assert_eq!(text.lines().count(), count, "{text}");
}

/// A server in a process of its own, which ends with this value.
struct Backend {
    address: SocketAddr,
    _process: Child,
}

impl Backend {
    /// Waits for the line on which a server says its port.
    async fn listening<R: AsyncRead + Unpin + Send + 'static>(
        process: Child,
        output: R,
    ) -> Backend {
        let mut lines = BufReader::new(output).lines();
        let port = timeout(PATIENCE, port(&mut lines))
            .await
            .expect("the server says its port");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Backend {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            _process: process,
        }
    }
}

async fn port<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>) -> u16 {
    let mut before = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, address)) = line.split_once("listening on ") {
            let port = address.trim().rsplit(':').next();
            return port.and_then(|port| port.parse().ok()).expect(&line);
        }
        before += &line;
        before.push('\n');
    }
    panic!("the server ended:\n{before}");
}

/// Two sidecars: a client's, and a backend's.
struct Chain {
    caller: Mesh,
    called: Mesh,
    port: u16,
}

impl Chain {
    async fn to(backend: SocketAddr) -> Chain {
        let called = Mesh::start(Given {
            inbound: backend,
            ..Given::default()
        });
        let service = detected(Service::new(called.inbound, called.inbound, 0));
        let caller = Mesh::with(&service).await;
        Chain {
            caller,
            called,
            port: backend.port(),
        }
    }

    fn port(&self) -> String {
        self.caller.outbound.port().to_string()
    }

    fn url(&self) -> String {
        format!("http://{}", self.caller.outbound)
    }

    /// By the caller's sidecar and by the backend's: success, failure, client closed, unsent.
    fn counts(&self) -> [[u64; 4]; 2] {
        let port = self.called.metrics.port(self.port);
        [
            counts(&self.caller.arm("v1").requests),
            counts(port.requests(Peer::Mesh)),
        ]
    }

    /// Both sidecars count that, and nothing else.
    async fn counted(&self, expected: [u64; 4]) {
        self.settled(expected.iter().sum()).await;
        assert_eq!(self.counts(), [expected; 2]);
    }

    /// Waits until both sidecars have counted so many requests.
    async fn settled(&self, total: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_short = |counts: [u64; 4]| counts.iter().sum::<u64>() < total;
        while self.counts().into_iter().any(is_short) && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
    }
}
