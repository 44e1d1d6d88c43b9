//! By what a release is judged where no requests are: a real Prometheus, and one number for each namespace that a test
//! sets.
//!
//! The number is scraped every [`SCRAPE_INTERVAL`] from this process, so a release turns bad when the test says so, and
//! what the operator asks is a real Prometheus all the same.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as Reserved};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::companion::Companion;
use crate::cluster::last_lines;
use crate::harness::{NotInTime, Waited, eventually};

/// How soon what a test sets is seen.
pub(super) const SCRAPE_INTERVAL: Duration = Duration::from_millis(200);
const STARTS: Duration = Duration::from_secs(180);

#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error(
        "cannot run `prometheus`: run e2e/setup.sh as root (Debian, Ubuntu), or install it by hand"
    )]
    Spawn(#[source] io::Error),
    #[error("no port on loopback")]
    Listen(#[source] io::Error),
    #[error("cannot write Prometheus's files in {0}")]
    Files(PathBuf, #[source] io::Error),
    #[error("the end of the log of prometheus:\n{log}")]
    NotReady { log: String, source: NotInTime },
}

/// Ends when it is dropped.
pub struct Evidence {
    address: SocketAddr,
    numbers: Arc<Mutex<BTreeMap<String, i64>>>,
    exporter: AbortHandle,
    /// Ends with this.
    _prometheus: Arc<Companion>,
}

impl Evidence {
    /// Starts Prometheus, with its files in `directory`, and waits until it answers.
    pub async fn start(directory: &Path) -> Result<Evidence, EvidenceError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(EvidenceError::Listen)?;
        let target = listener.local_addr().map_err(EvidenceError::Listen)?;
        let numbers = Arc::new(Mutex::new(BTreeMap::new()));
        let exporter = tokio::spawn(export(listener, Arc::clone(&numbers))).abort_handle();
        let prometheus = run_prometheus(&directory.join("prometheus"), &configured(target)).await;
        let (address, prometheus) = prometheus.inspect_err(|_| exporter.abort())?;
        Ok(Evidence {
            address,
            numbers,
            exporter,
            _prometheus: prometheus,
        })
    }

    /// As `--prometheus-address` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What [`Evidence::QUERY`] gives for this namespace from now on.
    pub fn set(&self, namespace: &str, number: i64) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.insert(namespace.to_owned(), number);
    }

    /// The query of a CanaryRollout. A scrape that comes too late leaves no gap in it.
    pub const QUERY: &str = r#"max(last_over_time(e2e_errors{namespace="{{ namespace }}"}[10s]))"#;
}

impl Drop for Evidence {
    fn drop(&mut self) {
        self.exporter.abort();
    }
}

/// Starts a Prometheus with its files in `directory`, and waits until it answers.
pub(super) async fn run_prometheus(
    directory: &Path,
    configuration: &str,
) -> Result<(SocketAddr, Arc<Companion>), EvidenceError> {
    let files = |source| EvidenceError::Files(directory.to_owned(), source);
    std::fs::create_dir_all(directory).map_err(files)?;
    let file = directory.join("prometheus.yml");
    std::fs::write(&file, configuration).map_err(files)?;
    let log = directory.join("log");
    let output = std::fs::File::create(&log).map_err(files)?;
    let address = Reserved::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|free| free.local_addr())
        .map_err(EvidenceError::Listen)?;
    let prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            directory.join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .args(["--storage.tsdb.retention.time=6h", "--log.level=warn"])
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(files)?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .map_err(EvidenceError::Spawn)?;
    let companion = Companion::registered();
    companion.set(prometheus);
    let answers = eventually("prometheus is ready", STARTS, || is_ready(address));
    match answers.await {
        Ok(()) => Ok((address, companion)),
        Err(source) => Err(EvidenceError::NotReady {
            log: last_lines(&log),
            source,
        }),
    }
}

fn configured(target: SocketAddr) -> String {
    let interval = SCRAPE_INTERVAL.as_millis();
    format!(
        "global: {{scrape_interval: {interval}ms, scrape_timeout: {interval}ms, evaluation_interval: 1m}}
scrape_configs:
- job_name: tests
  static_configs: [{{targets: ['{target}']}}]
"
    )
}

/// One answer a connection; what was asked does not matter.
async fn export(listener: TcpListener, numbers: Arc<Mutex<BTreeMap<String, i64>>>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            continue;
        };
        let body = exposition(&numbers.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::spawn(async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

fn exposition(numbers: &BTreeMap<String, i64>) -> String {
    numbers
        .iter()
        .map(|(namespace, number)| format!("e2e_errors{{namespace=\"{namespace}\"}} {number}\n"))
        .collect()
}

async fn is_ready(address: SocketAddr) -> Waited<()> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    match ask.await {
        Ok(answer)
            if answer
                .lines()
                .next()
                .is_some_and(|line| line.contains(" 200 ")) =>
        {
            Waited::There(())
        }
        Ok(answer) => Waited::not_yet(answer.lines().next().unwrap_or_default()),
        Err(error) => Waited::not_yet(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_has_its_number() {
        let numbers = BTreeMap::from([("a".to_owned(), 0), ("b".to_owned(), 7)]);
        assert_eq!(
            exposition(&numbers),
            "e2e_errors{namespace=\"a\"} 0\ne2e_errors{namespace=\"b\"} 7\n"
        );
    }
}
