//! The real program and the signals that the kubelet sends it. What a drain does is tested in the data plane; here, that it begins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

/// Ends with its test, however that ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A proxy without a control plane, on ports that the kernel chooses.
struct Proxy {
    process: Process,
    log: BufReader<ChildStderr>,
    admin: SocketAddr,
}

impl Proxy {
    fn start(flags: &[&str]) -> Proxy {
        let mut process = Command::new(env!("CARGO_BIN_EXE_aviary-proxy"))
            .args(["run", "--outbound-port=0", "--inbound-port=0"])
            .args(["--admin-port=0", "--xds-address=http://127.0.0.1:1"])
            .arg("--log-format=text")
            .args(flags)
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .map(Process)
            .unwrap();
        let mut log = BufReader::new(process.0.stderr.take().unwrap());
        let line = line_with(&mut log, "listening");
        let admin = line.split("admin=[0.0.0.0:").nth(1).unwrap();
        let port: u16 = admin.split([',', ']']).next().unwrap().parse().unwrap();
        Proxy {
            process,
            log,
            admin: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.process.0.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn ends(mut self) -> ExitStatus {
        line_with(&mut self.log, "drained");
        self.process.0.wait().unwrap()
    }
}

fn line_with(log: &mut BufReader<ChildStderr>, word: &str) -> String {
    let mut said = String::new();
    loop {
        let mut line = String::new();
        assert!(
            log.read_line(&mut line).unwrap() > 0,
            "ended before it said `{word}`: {said}"
        );
        if line.contains(word) {
            return line;
        }
        said.push_str(&line);
    }
}

#[test]
fn a_proxy_that_is_asked_to_end_does_so_by_itself_and_with_success() {
    for signal in ["-TERM", "-INT"] {
        let proxy = Proxy::start(&["--drain-delay=0s"]);
        proxy.signal(signal);
        assert!(proxy.ends().success(), "{signal}");
    }
}

/// A native sidecar is asked after the application has ended; the fallback for the others is the delay.
#[test]
fn it_serves_through_the_delay_and_says_that_it_will_leave() {
    let mut proxy = Proxy::start(&["--drain-delay=600s", "--drain-deadline=600s"]);
    proxy.signal("-TERM");
    line_with(&mut proxy.log, "draining");
    let ready = proxy.ask("/ready");
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.ends_with("draining\n"),
        "{ready}"
    );
    assert!(proxy.ask("/live").starts_with("HTTP/1.1 200"));
    assert_eq!(proxy.process.0.try_wait().unwrap(), None);
}
