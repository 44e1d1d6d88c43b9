//! Real rules, real redirects, real `SO_ORIGINAL_DST`, in network namespaces that the test makes and removes. Needs root, `nft`, `ip`,
//! `setpriv` and `unshare`; without one of them it fails and says which.
//!
//! ```text
//!   pod namespace                              world namespace
//!   client --> proxy out --\    veth    /----> echo server
//!   echo server <-- proxy in <---------+------ client
//! ```
//!
//! The clients and servers inside the namespaces are this same test binary, started again (`helper`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

const PROXY: &str = env!("CARGO_BIN_EXE_aviary-proxy");

/// Runs a command to its end; its failure is the test's.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = output(program, arguments);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "`{program} {}` failed: {out}{err}",
        arguments.join(" ")
    );
    out.into_owned()
}

fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run `{program}`: {error}; this test needs root, nft, ip, setpriv and unshare"))
}

#[test]
fn nft_takes_the_rules_and_takes_them_again() {
    let script = format!(
        "{PROXY} init && {PROXY} init --skip-inbound-ports 22 --skip-outbound-cidrs 10.9.0.0/16,fd00::/8 && nft list ruleset"
    );
    let rules = run("unshare", &["--net", "sh", "-c", &script]);
    assert_eq!(rules.matches("table inet aviary").count(), 1, "{rules}");
    for (rule, count) in [
        ("redirect to :15006", 2),
        ("redirect to :15001", 1),
        ("meta skuid 2102 return", 1),
        ("fib daddr type != local return", 1),
        ("ip6 daddr fd00::/8 return", 1),
    ] {
        assert_eq!(rules.matches(rule).count(), count, "{rule} in {rules}");
    }
}

#[test]
fn without_the_capability_init_says_what_is_missing() {
    let output = output(
        "unshare",
        &[
            "--net",
            "setpriv",
            "--reuid=65534",
            "--clear-groups",
            PROXY,
            "init",
        ],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("NET_ADMIN"),
        "{said}"
    );
}

#[test]
fn connections_are_redirected_both_ways_and_reach_where_they_were_going() {
    for (family, pod, world) in [
        ("-4", "10.99.0.1", "10.99.0.2"),
        ("-6", "fd99::1", "fd99::2"),
    ] {
        let spaces = Namespaces::new(family, pod, world);
        run("ip", &["netns", "exec", &spaces.pod, PROXY, "init"]);
        let _proxy = spaces.proxy();
        let _echo = spaces.helper(&spaces.world, &["serve", &at(world, 7000)]);
        let _app = spaces.helper(&spaces.pod, &["serve", &at(pod, 8080)]);

        // Out: the server sees the connection come from the proxy, which knows only from the kernel where it was going.
        assert_eq!(spaces.call(&spaces.pod, &at(world, 7000)), "echo ping");
        assert_eq!(
            spaces.metric("aviary_passthrough_connections_total{reason=\"no_answer\"}"),
            1.0
        );
        // In: a request on the application's own port, counted under it.
        let answer = spaces.call(&spaces.world, &at(pod, 8080));
        assert_eq!(answer, "echo ping");
        let health = spaces.call_http(&spaces.world, &at(pod, 8080));
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
        assert_eq!(
            spaces.metric(
                "aviary_inbound_requests_total{namespace=\"\",workload=\"\",port=\"8080\",peer=\"outside\",class=\"success\"}"
            ),
            1.0
        );
        // The proxy to its own pod: by the front door if it says so, else to the application.
        let inbound = "aviary_inbound_requests_total{namespace=\"\",workload=\"\",port=\"8080\",peer=\"probe\",class=\"success\"}";
        for (priority, counted) in [("0", 0), ("6", 1)] {
            let answer = spaces.hairpin(&at(pod, 8080), priority);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let text = spaces.ask(&spaces.pod, &["metrics", "127.0.0.1:15020"]);
            let series = format!("{inbound} {counted}\n");
            assert!(
                text.contains(&series),
                "priority {priority}: no {series} in {text}"
            );
        }
        // From within the pod, as `kubectl port-forward` calls: past the proxy, to this very application.
        let answer = spaces.call_http(&spaces.pod, &at(pod, 8080));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let text = spaces.ask(&spaces.pod, &["metrics", "127.0.0.1:15020"]);
        let outside = inbound.replace("\"probe\"", "\"outside\"");
        assert!(text.contains(&format!("{outside} 1\n")), "{text}");
        // To somebody else's address, by way of the pod: the pod's kernel has the last word, as it has without a sidecar.
        let stranger = spaces.send_by_the_pod(family, pod);
        assert_eq!(spaces.ask(&spaces.world, &["reach", &stranger]), "no");
        assert_eq!(spaces.ask(&spaces.world, &["reach", &at(pod, 8080)]), "yes");
        // What the sidecar goes by is told within the pod alone.
        let dump = |space: &str, address: &str| spaces.ask(space, &["dump", &at(address, 15020)]);
        let (within, without) = (dump(&spaces.pod, "127.0.0.1"), dump(&spaces.world, pod));
        assert!(within.starts_with("HTTP/1.1 200"), "{within}");
        assert!(without.starts_with("HTTP/1.1 403"), "{without}");
        assert!(!without.contains("routes"), "{without}");
        // Directly to the proxy's own ports: refused, not looped.
        assert_eq!(spaces.call(&spaces.world, &at(pod, 15006)), "");
    }
}

/// Two namespaces joined by a pair of interfaces; removed with everything in them when dropped.
struct Namespaces {
    pod: String,
    world: String,
}

/// `ip netns add` mounts this folder on itself, and leaves it so.
const NETNS: &str = "/run/netns";
/// Whether it was so before the first of these tests.
static MOUNTED_BEFORE: LazyLock<bool> = LazyLock::new(|| is_mounted(NETNS));

fn is_mounted(folder: &str) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(folder))
}

impl Namespaces {
    fn new(family: &str, pod_address: &str, world_address: &str) -> Namespaces {
        LazyLock::force(&MOUNTED_BEFORE);
        let id = format!("{}{}", std::process::id(), family.replace('-', "v"));
        let spaces = Namespaces {
            pod: format!("avpod{id}"),
            world: format!("avworld{id}"),
        };
        let (a, b) = (format!("ava{id}"), format!("avb{id}"));
        for name in [&spaces.pod, &spaces.world] {
            run("ip", &["netns", "add", name]);
            run("ip", &["-n", name, "link", "set", "lo", "up"]);
        }
        let pair = [
            "link",
            "add",
            &a,
            "netns",
            &spaces.pod,
            "type",
            "veth",
            "peer",
            "name",
            &b,
            "netns",
            &spaces.world,
        ];
        run("ip", &pair);
        let length = if family == "-4" { 24 } else { 64 };
        for (space, device, address) in [
            (&spaces.pod, &a, pod_address),
            (&spaces.world, &b, world_address),
        ] {
            let address = format!("{address}/{length}");
            let mut add = vec![
                family, "-n", space, "address", "add", &address, "dev", device,
            ];
            if family == "-6" {
                add.push("nodad");
            }
            run("ip", &add);
            run("ip", &["-n", space, "link", "set", device, "up"]);
        }
        spaces
    }

    /// Sends what the world has for an address that is nobody's to the pod, which forwards and has been told that there is no way. Where it is.
    fn send_by_the_pod(&self, family: &str, pod: &str) -> String {
        let (address, forwards) = match family {
            "-4" => ("10.98.0.9", "/proc/sys/net/ipv4/ip_forward"),
            _ => ("fd98::9", "/proc/sys/net/ipv6/conf/all/forwarding"),
        };
        let forward = format!("echo 1 > {forwards}");
        run("ip", &["netns", "exec", &self.pod, "sh", "-c", &forward]);
        for (space, way) in [
            (&self.pod, &["prohibit", address][..]),
            (&self.world, &[address, "via", pod]),
        ] {
            let add = [family, "-n", space, "route", "add"];
            run("ip", &[&add[..], way].concat());
        }
        at(address, 8080)
    }

    /// The proxy in the pod, as the user that the rules leave alone. Without a control plane it passes everything through.
    fn proxy(&self) -> Running {
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.pod,
                "setpriv",
                "--reuid=2102",
                "--clear-groups",
                PROXY,
                "run",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running::when(child, "listening", |child| {
            Box::new(child.stderr.take().unwrap())
        })
    }

    /// This binary again, inside a namespace.
    fn helper(&self, space: &str, arguments: &[&str]) -> Running {
        let child = self
            .again(space, arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Running::when(child, "serving", |child| {
            Box::new(child.stdout.take().unwrap())
        })
    }

    fn again(&self, space: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", space])
            .arg(std::env::current_exe().unwrap())
            .args(["helper", "--exact", "--ignored", "--nocapture"])
            .env("AVIARY_TEST_HELPER", arguments.join(" "));
        command
    }

    /// What a connection from `space` to `address` is told.
    fn call(&self, space: &str, address: &str) -> String {
        self.ask(space, &["call", address])
    }

    fn call_http(&self, space: &str, address: &str) -> String {
        self.ask(space, &["http", address])
    }

    /// What the proxy's user is told by the pod's own `address`.
    fn hairpin(&self, address: &str, priority: &str) -> String {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.pod])
            .args(["setpriv", "--reuid=2102", "--clear-groups"])
            .arg(std::env::current_exe().unwrap())
            .args(["helper", "--exact", "--ignored", "--nocapture"])
            .env("AVIARY_TEST_HELPER", format!("hairpin {address}"))
            .env("AVIARY_TEST_PRIORITY", priority);
        said(&command.output().unwrap())
    }

    fn ask(&self, space: &str, arguments: &[&str]) -> String {
        said(&self.again(space, arguments).output().unwrap())
    }

    /// A series of the proxy's, when it is no longer 0.
    fn metric(&self, series: &str) -> f64 {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = self.ask(&self.pod, &["metrics", "127.0.0.1:15020"]);
            let line = text.lines().find_map(|line| line.strip_prefix(series));
            let value: f64 = line.map_or(0.0, |value| value.trim().parse().unwrap());
            if value > 0.0 {
                return value;
            }
            assert!(Instant::now() < deadline, "{series} never rises in {text}");
        }
    }
}

/// What a helper has heard.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text
        .split("said<")
        .nth(1)
        .and_then(|rest| rest.split(">said").next());
    said.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
        .to_owned()
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.pod, &self.world] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
        // Not under the namespaces of somebody else, another test's included: the last one takes it away.
        let empty = std::fs::read_dir(NETNS).is_ok_and(|mut left| left.next().is_none());
        if !*MOUNTED_BEFORE && empty {
            let _ = Command::new("umount").arg(NETNS).status();
        }
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    /// Waits until it says `word`, then goes on reading what it says, so that it never blocks on it.
    fn when(
        mut child: Child,
        word: &str,
        output: impl FnOnce(&mut Child) -> Box<dyn Read + Send>,
    ) -> Running {
        let mut lines = BufReader::new(output(&mut child)).lines();
        let mut said = String::new();
        for line in lines.by_ref() {
            let line = line.unwrap();
            if line.contains(word) {
                std::thread::spawn(move || lines.for_each(drop));
                return Running(child);
            }
            said.push_str(&line);
        }
        panic!("ended before it said `{word}`: {said}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn at(ip: &str, port: u16) -> String {
    SocketAddr::new(ip.parse().unwrap(), port).to_string()
}

/// Not a test: what the tests start inside a namespace.
#[test]
#[ignore = "started by the other tests, inside a namespace"]
fn helper() {
    let Ok(arguments) = std::env::var("AVIARY_TEST_HELPER") else {
        return;
    };
    let (command, address) = arguments.split_once(' ').unwrap();
    match command {
        "serve" => serve(address),
        "call" => println!("said<{}>said", call(address, b"ping")),
        "http" => println!(
            "said<{}>said",
            call(
                address,
                b"GET / HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n"
            )
        ),
        "dump" => println!(
            "said<{}>said",
            call(
                address,
                b"GET /config_dump HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n"
            )
        ),
        "reach" => {
            let reached = TcpStream::connect(address).is_ok();
            println!("said<{}>said", if reached { "yes" } else { "no" });
        }
        "hairpin" => println!("said<{}>said", hairpin(address)),
        "metrics" => {
            println!(
                "said<{}>said",
                call(
                    address,
                    b"GET /metrics HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n"
                )
            );
        }
        other => panic!("no such helper: {other}"),
    }
}

/// Answers HTTP with HTTP, and anything else with itself.
fn serve(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("serving");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).unwrap();
        let answer = if bytes.starts_with(b"GET ") {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_vec()
        } else {
            [b"echo ", &bytes[..read]].concat()
        };
        stream.write_all(&answer).unwrap();
    }
}

fn call(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset is an answer too: nothing.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// As the proxy connects to its own pod: with the priority that the rules know such connections by.
fn hairpin(address: &str) -> String {
    let priority = std::env::var("AVIARY_TEST_PRIORITY").unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_priority(priority.parse().unwrap()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
