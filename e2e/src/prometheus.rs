//! A real Prometheus for the local cluster: Debian's, on the node's address.
//!
//! It scrapes every running pod that has our sidecar. Debian builds it without
//! `kubernetes_sd_configs`, so the cluster's add-ons tell it over HTTP which pods those are; that
//! goes on in a kept cluster. A new pod is scraped within about six seconds (Prometheus takes in
//! new targets every five). It ends with the cluster, or by [`Prometheus::stop`]; started again,
//! it has the data of before.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cluster::{ADDRESS, Access, AccessError, Process, last_lines, wait_until};

/// As pods call it.
pub const FOR_PODS: &str = "http://prometheus.monitoring:9090";
/// As a thread in the node's network namespace calls it.
pub const INSIDE: &str = "http://10.243.0.1:9090";

/// As often as a demo of a minute needs.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);
const PORT: u16 = 9090;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    #[error(
        "cannot run `prometheus` in the node: run e2e/setup.sh as root (Debian, Ubuntu), or install it by hand"
    )]
    Spawn(#[source] io::Error),
    #[error("cannot write Prometheus's files in {0}")]
    Files(PathBuf, #[source] io::Error),
    #[error("prometheus was not ready in time; the end of its log:\n{0}")]
    NotReady(String),
    #[error("prometheus does not end")]
    Stop(#[source] io::Error),
    #[error("the Service `prometheus` was not made: {0}")]
    Service(String),
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Prometheus in a local cluster. Dropping this leaves it running until the cluster's end.
pub struct Prometheus {
    /// `nsenter`, whose only child is Prometheus.
    nsenter: Child,
}

impl Prometheus {
    /// Starts it, makes the Service by which pods find it, and waits until it answers.
    pub fn start(cluster: impl AsRef<Access>) -> Result<Self, PrometheusError> {
        let access = cluster.as_ref();
        let directory = access.state().file("prometheus");
        let failed = |source| PrometheusError::Files(directory.clone(), source);
        fs::create_dir_all(&directory).map_err(failed)?;
        fs::write(
            directory.join("prometheus.yml"),
            configuration(SCRAPE_INTERVAL),
        )
        .map_err(failed)?;
        make_service(access)?;
        let log = directory.join("log");
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let nsenter = access
            .command_inside("prometheus")
            .arg(format!(
                "--config.file={}",
                directory.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("data").display()
            ))
            .arg(format!("--web.listen-address={ADDRESS}:{PORT}"))
            // The last is not in its help: how soon scraping follows what discovery found.
            .args([
                "--storage.tsdb.retention.time=6h",
                "--log.level=warn",
                "--scrape.discovery-reload-interval=100ms",
            ])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(PrometheusError::Spawn)?;
        let mut prometheus = Self { nsenter };
        let answers = access.on_thread_inside(|| {
            wait_until(PATIENCE, || is_ready() || prometheus.has_ended());
            is_ready()
        })?;
        if answers {
            return Ok(prometheus);
        }
        prometheus.stop()?;
        Err(PrometheusError::NotReady(last_lines(&log)))
    }

    /// Takes it away, as an outage would: its address refuses connections.
    pub fn stop(mut self) -> Result<(), PrometheusError> {
        for prometheus in Process::of(&self.nsenter)
            .map(Process::children)
            .unwrap_or_default()
        {
            prometheus.signal(Signal::SIGTERM);
            if !prometheus.wait_gone(PATIENCE) {
                prometheus.signal(Signal::SIGKILL);
            }
        }
        // It ends when its child has, and with the child's status, which says nothing after a signal.
        self.nsenter.wait().map(drop).map_err(PrometheusError::Stop)
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.nsenter.try_wait(), Ok(Some(_)) | Err(_))
    }
}

fn make_service(access: &Access) -> Result<(), PrometheusError> {
    let manifest = include_str!("../cluster/prometheus.yaml").replace("@ADDRESS@", ADDRESS);
    let refused = |error: io::Error| PrometheusError::Service(error.to_string());
    let mut kubectl = access.kubectl(&["apply", "-f", "-"]);
    let mut child = kubectl
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(refused)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(manifest.as_bytes()).map_err(refused)?;
    }
    let output = child.wait_with_output().map_err(refused)?;
    if output.status.success() {
        return Ok(());
    }
    Err(PrometheusError::Service(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

/// The scrapes' labels `namespace` and `pod` come with the targets.
fn configuration(scrape_interval: Duration) -> String {
    let interval = scrape_interval.as_millis();
    format!(
        "global: {{scrape_interval: {interval}ms, scrape_timeout: {interval}ms, evaluation_interval: {interval}ms}}
scrape_configs:
- job_name: aviary-proxy
  http_sd_configs: [{{url: 'http://127.0.0.1:9091/', refresh_interval: 1s}}]
"
    )
}

/// Asked from inside.
fn is_ready() -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect((ADDRESS, PORT))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| {
        answer
            .lines()
            .next()
            .is_some_and(|status| status.contains(" 200 "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scrape_interval_is_in_the_configuration() {
        assert!(
            configuration(Duration::from_secs(1))
                .contains("scrape_interval: 1000ms, scrape_timeout: 1000ms")
        );
    }

    #[test]
    fn the_address_inside_is_the_nodes() {
        assert_eq!(INSIDE, format!("http://{ADDRESS}:{PORT}"));
    }
}
