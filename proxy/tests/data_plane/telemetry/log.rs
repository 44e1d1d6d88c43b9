//! The access log.

use std::future::poll_fn;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use aviary_proxy::telemetry::Wanted;
use h2::Reason;
use http::Response;
use http::header::{AUTHORIZATION, COOKIE};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use traffic_core::bounds::Bounds;
use traffic_core::retry::methods::Method;
use traffic_core::retry::policy::Retries;
use traffic_core::telemetry::{AccessLog, AccessLogPath};

use super::{Written, logging};
use crate::client::{Client, eventually, get, whole};
use crate::mesh::{Given, Mesh, SERVICE, Service};
use crate::retries::{policy, with};
use crate::server::{Server, nobody, raw as raw_server};
use crate::streams::{caller, endpoint};
use crate::timeouts::{at_most, bounded, stalling};
use crate::withdrawal::{Grpc, open, quick};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// What of a line is the same each time.
pub(super) fn known(line: &Value, names: &[&str]) -> Value {
    let names = names.iter().map(|name| (*name, line[*name].clone()));
    names
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Sends these bytes on a connection of its own and gives the answer.
async fn raw(mesh: &Mesh, request: &str) -> String {
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn of_good_requests_nothing_is_logged_and_of_bad_ones_everything_that_helps() {
    let (v1, dead) = (Server::start("v1").await, nobody().await);
    let (given, written) = logging("errors");
    let mesh = Mesh::start(given);
    mesh.install(&Service::new(v1.address, v1.address, 0)).await;
    for mut client in Client::both(mesh.outbound).await {
        assert_eq!(client.get("/fine").await.status, 200);
        assert_eq!(client.get("/status/404").await.status, 404);
        assert_eq!(client.get("/status/500").await.status, 500);
    }
    let lines = written.lines(2).await;
    for (line, protocol) in lines.iter().zip(["HTTP/1.1", "HTTP/2"]) {
        let expected = json!({
            "direction": "outbound", "method": "GET", "path": "/status/500", "authority": "web", "protocol": protocol,
            "response_code": 500, "response_flags": "-", "outcome": "failure", "bytes_received": 0, "bytes_sent": 2,
            "upstream_host": v1.address.to_string(), "route_name": "shop/web/80", "revision": "v1",
        });
        let names: Vec<&str> = expected
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(known(line, &names), expected);
        assert!(line["duration"].is_u64() && line.get("trace_id").is_none());
        let started = line["start_time"].as_str().unwrap();
        assert!(
            started.starts_with("20") && started.ends_with('Z'),
            "{started}"
        );
    }
    mesh.install(&Service::new(dead, dead, 0)).await;
    let mut client = Client::http1(mesh.outbound).await;
    assert_eq!(client.get("/away").await.status, 503);
    let line = &written.lines(3).await[2];
    let why = line["response_code_details"].as_str().unwrap();
    assert!(why.contains("refused"), "{why}");
    let names = [
        "response_code",
        "response_flags",
        "outcome",
        "upstream_request_attempt_count",
        "upstream_host",
    ];
    assert_eq!(
        known(line, &names),
        json!({
            "response_code": 503, "response_flags": "UF", "outcome": "unsent", "upstream_request_attempt_count": 2,
            "upstream_host": dead.to_string(),
        })
    );
}

#[tokio::test]
async fn a_call_of_grpc_has_its_status_and_its_trace_and_a_retried_request_the_revision_that_answered()
 {
    let (v1, dead) = (Server::start("v1").await, nobody().await);
    let (given, written) = logging("all");
    let mesh = Mesh::start(given);
    mesh.install(&Service::new(v1.address, dead, 100)).await;
    let mut client = Client::http2(mesh.outbound).await;
    let mut call = crate::client::post("/grpc/13", "message");
    let headers = call.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    headers.insert("traceparent", parent.parse().unwrap());
    whole(client.send(call).await.unwrap()).await.unwrap();
    let line = &written.lines(1).await[0];
    let names = [
        "grpc_status",
        "response_code",
        "outcome",
        "trace_id",
        "revision",
        "upstream_request_attempt_count",
        "bytes_sent",
    ];
    assert_eq!(
        known(line, &names),
        json!({
            "grpc_status": 13, "response_code": 200, "outcome": "failure", "trace_id": TRACE, "revision": "v1",
            "upstream_request_attempt_count": 2, "bytes_sent": 7,
        })
    );
}

/// A failing answer that was given up for another one is nobody's: the line says what the caller got.
#[tokio::test]
async fn what_was_answered_before_a_request_was_sent_again_is_in_no_line() {
    let failing = endpoint(|_request, mut respond| async move {
        let head = Response::builder().status(500).body(()).unwrap();
        respond.send_response(head, true).unwrap();
    });
    let unavailable = endpoint(|_request, mut respond| async move {
        let head = Response::builder().header("content-type", "application/grpc");
        let head = head.header("grpc-status", "14").body(()).unwrap();
        respond.send_response(head, true).unwrap();
    });
    let mut call = crate::client::post("/held", "message");
    let kind = "application/grpc".parse().unwrap();
    call.headers_mut().insert("content-type", kind);
    let retries = || Retries {
        methods: [Method::Get, Method::Grpc].into_iter().collect(),
        ..policy("500,unavailable")
    };
    for (canary, request) in [(failing.await, get("/held")), (unavailable.await, call)] {
        let v1 = Server::start("v1").await;
        let (given, written) = logging("all");
        let mesh = Mesh::start(given);
        let service = Service::new(v1.address, canary, 100);
        mesh.install(&with(service, retries())).await;
        let mut client = Client::http2(mesh.outbound).await;
        let waiting = tokio::spawn(async move { drop(client.send(request).await) });
        eventually("it is sent again", || v1.requests() == 1).await;
        waiting.abort();
        let line = &written.lines(1).await[0];
        let names = [
            "response_code",
            "grpc_status",
            "response_flags",
            "revision",
            "upstream_request_attempt_count",
        ];
        assert_eq!(
            known(line, &names),
            json!({
                "response_code": 0, "grpc_status": null, "response_flags": "DC", "revision": "v1",
                "upstream_request_attempt_count": 2,
            })
        );
    }
}

#[tokio::test]
async fn secrets_do_not_get_in_and_nobody_writes_a_line_of_his_own() {
    let v1 = Server::start("v1").await;
    for with_query in [false, true] {
        let written = Written::default();
        let mesh = Mesh::start(Given {
            telemetry: Wanted {
                access_log: AccessLog::On(traffic_core::config::Weight::ALL),
                path: if with_query {
                    AccessLogPath::WithQuery
                } else {
                    AccessLogPath::Plain
                },
                ..Wanted::default()
            },
            output: Box::new(written.clone()),
            ..Given::default()
        });
        mesh.install(&Service::new(v1.address, v1.address, 0)).await;
        let mut request = get("/pay");
        let secret = "sesame";
        for name in [AUTHORIZATION, COOKIE] {
            request.headers_mut().insert(name, secret.parse().unwrap());
        }
        let mut client = Client::http1(mesh.outbound).await;
        whole(client.send(request).await.unwrap()).await.unwrap();
        // A quote, a backslash, and what a terminal would obey if it were not escaped.
        let target = "/a\"b\\c%0d%0a%1b[2J?token=open";
        let request = format!("GET {target} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
        assert!(raw(&mesh, &request).await.contains(" 200 "));
        let lines = written.lines(2).await;
        let text = written.text();
        assert!(!text.contains(secret), "{text}");
        assert!(
            text.bytes()
                .all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte))
        );
        let expected = if with_query {
            target
        } else {
            "/a\"b\\c%0d%0a%1b[2J"
        };
        assert_eq!(lines[1]["path"], expected);
    }
}

#[tokio::test]
async fn the_called_side_says_who_called_and_nothing_of_probes() {
    let app = Server::start("app").await;
    let (given, written) = logging("all");
    let mesh = Mesh::start(Given {
        inbound: app.address,
        ..given
    });
    let mut caller = Client::http1(mesh.inbound).await;
    assert_eq!(caller.post("/echo", "hello").await.text, "hello");
    let mut stream = TcpStream::connect(mesh.inbound).await.unwrap();
    let probe = format!(
        "GET /healthz HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        app.address
    );
    stream.write_all(probe.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 200 "));
    assert_eq!(caller.get("/last").await.status, 200);
    let lines = written.lines(2).await;
    let names = [
        "direction",
        "path",
        "bytes_received",
        "bytes_sent",
        "downstream_remote_address",
        "outcome",
        "upstream_host",
    ];
    assert_eq!(
        known(&lines[0], &names),
        json!({
            "direction": "inbound", "path": "/echo", "bytes_received": 5, "bytes_sent": 5,
            "downstream_remote_address": "127.0.0.1", "outcome": "success", "upstream_host": app.address.to_string(),
        })
    );
    assert_eq!(lines[1]["path"], "/last");
}

#[tokio::test]
async fn a_caller_that_leaves_is_no_error_and_what_has_no_route_has_a_line_too() {
    let v1 = Server::start("v1").await;
    let (given, written) = logging("all");
    let mesh = Mesh::start(given);
    mesh.install(&Service::new(v1.address, v1.address, 0)).await;
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    stream
        .write_all(b"GET /held HTTP/1.1\r\nhost: web\r\n\r\n")
        .await
        .unwrap();
    eventually("the request is there", || v1.requests() == 1).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let line = &written.lines(1).await[0];
    let names = ["response_code", "response_flags", "outcome"];
    assert_eq!(
        known(line, &names),
        json!({"response_code": 0, "response_flags": "DC", "outcome": "client_closed"})
    );
    assert_eq!(line["route_name"], "shop/web/80");
    let destination: std::net::SocketAddr = SERVICE.parse().unwrap();
    assert_eq!(destination.port(), 80);
}

#[tokio::test]
async fn nothing_is_written_where_nobody_has_asked() {
    let v1 = Server::start("v1").await;
    let (given, written) = logging("off");
    let mesh = Mesh::start(given);
    mesh.install(&Service::new(v1.address, v1.address, 0)).await;
    let mut client = Client::http1(mesh.outbound).await;
    assert_eq!(client.get("/status/500").await.status, 500);
    let text = mesh.metrics.render().unwrap();
    for result in ["written", "dropped"] {
        let line = format!("aviary_access_log_lines_total{{result=\"{result}\"}} 0\n");
        assert!(text.contains(&line), "{text}");
    }
    assert!(!text.contains("istio_"), "{text}");
    assert_eq!(written.text(), "");
}

/// Takes nothing until it is told to.
struct Stuck(Receiver<()>, Written);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn requests_go_on_while_nobody_reads_the_lines_and_what_is_dropped_is_counted() {
    let v1 = Server::start("v1").await;
    let (release, held) = mpsc::channel();
    let written = Written::default();
    let (given, _) = logging("all");
    let mesh = Mesh::start(Given {
        output: Box::new(Stuck(held, written.clone())),
        ..given
    });
    mesh.install(&Service::new(v1.address, v1.address, 0)).await;
    let mut client = Client::http1(mesh.outbound).await;
    // More than may wait.
    for _ in 0..1500 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let count = |result: &str| {
        let text = mesh.metrics.render().unwrap();
        let series = format!("aviary_access_log_lines_total{{result=\"{result}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap().parse::<u64>().unwrap()
    };
    assert!(count("dropped") > 0);
    drop(release);
    eventually("the others are written", || {
        count("written") + count("dropped") == 1500
    })
    .await;
    written
        .lines(usize::try_from(count("written")).unwrap())
        .await;
}

/// Of answers that have begun, in either version.
#[tokio::test]
async fn an_answer_that_breaks_off_says_why() {
    let broken = raw_server(|mut stream, _| async move {
        let part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
        stream.write_all(part).await.unwrap();
    });
    let reset = endpoint(|_request, mut respond| async move {
        let mut sender = respond.send_response(Response::new(()), false).unwrap();
        sender.send_data("hello".into(), false).unwrap();
        tokio::task::yield_now().await;
        sender.send_reset(Reason::INTERNAL_ERROR);
    });
    let stalling_too = endpoint(|_request, mut respond| async move {
        let mut sender = respond.send_response(Response::new(()), false).unwrap();
        sender.send_data("hello".into(), false).unwrap();
        let _ = poll_fn(|cx| sender.poll_reset(cx)).await;
    });
    // As long as it takes an answer to begin.
    let short = || at_most(Duration::from_secs(2));
    for (address, bounds, version, flag) in [
        (broken.await, Bounds::default(), 0, "UC"),
        (reset.await, Bounds::default(), 1, "UR"),
        (stalling().await, short(), 0, "UT"),
        (stalling_too.await, short(), 1, "UT"),
    ] {
        let (given, written) = logging("errors");
        let mesh = Mesh::start(given);
        mesh.install(&bounded(address, bounds)).await;
        let client = &mut Client::both(mesh.outbound).await[version];
        assert!(client.try_get("/").await.is_err());
        let line = &written.lines(1).await[0];
        let names = ["response_code", "response_flags", "outcome"];
        assert_eq!(
            known(line, &names),
            json!({"response_code": 200, "response_flags": flag, "outcome": "failure"})
        );
    }
}

#[tokio::test]
async fn a_stream_that_a_rollback_has_ended_says_so() {
    let (v1, v2) = (Grpc::start("v1").await, Grpc::start("v2").await);
    let (given, written) = logging("all");
    let mesh = Mesh::start(Given {
        limits: quick(),
        ..given
    });
    let service = Service::new(v1.address, v2.address, 100);
    mesh.install(&service).await;
    let mut sender = caller(&mesh).await;
    let mut stream = open(&mut sender).await;
    mesh.install(&service.at(0)).await;
    stream.ends_with("14").await;
    let line = &written.lines(1).await[0];
    let names = ["response_flags", "outcome", "revision"];
    assert_eq!(
        known(line, &names),
        json!({"response_flags": "LR", "outcome": "client_closed", "revision": "v2"})
    );
}
