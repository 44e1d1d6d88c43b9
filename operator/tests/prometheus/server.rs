//! The process: its storage, its configuration and its end.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const HINT: &str = "run e2e/setup.sh as root (Debian, Ubuntu), or install Prometheus by hand";
const STARTS: Duration = Duration::from_secs(60);

/// Ends, and its files go, when it is dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    pub(crate) directory: Directory,
}

impl Server {
    /// One with these samples: lines of OpenMetrics, with times.
    pub(crate) fn with_samples(samples: &str) -> Server {
        let directory = Directory::new();
        let input = directory.file("samples", &format!("{samples}# EOF\n"));
        let made = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&input, &directory.path().join("data")])
            .output()
            .unwrap_or_else(|error| panic!("cannot run promtool: {error}; {HINT}"));
        assert!(made.status.success(), "{made:?}");
        Server::start(directory, &[])
    }

    /// One without samples, with this file of `--web.config.file`.
    pub(crate) fn with_web(directory: Directory, web: &str) -> Server {
        let file = directory.file("web.yml", web);
        Server::start(
            directory,
            &[format!("--web.config.file={}", file.display())],
        )
    }

    fn start(directory: Directory, more: &[String]) -> Server {
        let configuration = directory.file("prometheus.yml", "global: {}\n");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let data = directory.path().join("data");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run prometheus: {error}; {HINT}"));
        let server = Server {
            child,
            address,
            directory,
        };
        let began = Instant::now();
        while !server.is_ready() {
            let log = || fs::read_to_string(server.directory.path().join("log"));
            assert!(began.elapsed() < STARTS, "not ready: {:?}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// It says so in its metrics, which need no login; with TLS, its port is all that can be seen from here.
    fn is_ready(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut stream) = TcpStream::connect(self.address) else {
            return false;
        };
        if self.directory.path().join("web.yml").exists() {
            return true;
        }
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n");
        let read = asked.and_then(|()| stream.read_to_string(&mut answer));
        read.is_ok()
            && answer
                .lines()
                .next()
                .is_some_and(|line| line.contains("200"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of its own, that goes when it is dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("aviary-prometheus-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
