//! HTTP/1.1 as bytes on the wire: what the engine does that no well-behaved client shows.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aviary_proxy::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use traffic_core::config::Protocol;

use crate::client::{Client, eventually};
use crate::mesh::{Given, Mesh, Service, counts};
use crate::protocols::detected;
use crate::server::{Server, raw};

const PATIENCE: Duration = Duration::from_secs(10);

/// What the endpoint has read, on all of its connections.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<String>>);

impl Seen {
    fn add(&self, bytes: &[u8]) {
        self.0
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(bytes));
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    async fn has(&self, what: &str) {
        eventually(what, || self.text().contains(what)).await;
    }
}

/// An endpoint that answers every connection's first bytes with `answer` and reads on.
async fn answering(answer: &'static str) -> (std::net::SocketAddr, Seen) {
    let seen = Seen::default();
    let record = seen.clone();
    let address = raw(move |mut stream, first| {
        let record = record.clone();
        async move {
            record.add(&first);
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                record.add(&bytes[..read]);
            }
        }
    })
    .await;
    (address, seen)
}

async fn connect(mesh: &Mesh) -> TcpStream {
    let stream = TcpStream::connect(mesh.outbound).await.unwrap();
    // It fails on one that was reset already.
    let _ = stream.set_nodelay(true);
    stream
}

/// Reads until `end` has come.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let read = async {
        let mut bytes = [0; 4096];
        while !text.ends_with(end) {
            match stream.read(&mut bytes).await {
                Ok(read @ 1..) => text.push_str(&String::from_utf8_lossy(&bytes[..read])),
                ended => panic!("{ended:?} after {text:?}, without {end:?}"),
            }
        }
    };
    let done = timeout(PATIENCE, read).await;
    assert!(done.is_ok(), "never {end:?}");
    text
}

async fn ask(mesh: &Mesh, request: &str) -> String {
    let mut stream = connect(mesh).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text))
        .await
        .expect("the connection ends")
        .unwrap();
    text
}

async fn mesh(address: std::net::SocketAddr) -> Mesh {
    Mesh::with(&Service::new(address, address, 0)).await
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_get_with_a_chunked_body_keeps_it() {
    let (address, seen) = answering(OK).await;
    let mesh = mesh(address).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
    let mut stream = connect(&mesh).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    until(&mut stream, "ok").await;
    seen.has("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n").await;
}

#[tokio::test]
async fn the_application_decides_whether_a_body_is_to_come() {
    let seen = Seen::default();
    let record = seen.clone();
    let address = raw(move |mut stream, first| {
        let record = record.clone();
        async move {
            record.add(&first);
            sleep(Duration::from_millis(50)).await;
            stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await
                .unwrap();
            let mut body = [0; 2];
            stream.read_exact(&mut body).await.unwrap();
            record.add(&body);
            stream.write_all(OK.as_bytes()).await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.ok();
        }
    })
    .await;
    let mesh = mesh(address).await;
    let mut stream = connect(&mesh).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let interim = until(&mut stream, "\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100 Continue"), "{interim}");
    // It came from the application, not from the proxy.
    assert!(seen.text().contains("Expect: 100-continue\r\n"));
    stream.write_all(b"hi").await.unwrap();
    until(&mut stream, "ok").await;
    assert!(seen.text().ends_with("hi"));
    // And the connection goes on.
    assert_eq!(counts(&mesh.arm("v1").requests), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_refused_expectation_ends_the_connection_and_loses_no_answer() {
    let (address, _) =
        answering("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
    let mesh = mesh(address).await;
    let answer = ask(
        &mesh,
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 417") && answer.ends_with("no"),
        "{answer}"
    );
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn an_old_caller_that_wants_to_stay_may() {
    let (address, seen) = answering(OK).await;
    let mesh = mesh(address).await;
    let mut stream = connect(&mesh).await;
    let request = "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = until(&mut stream, "ok").await;
    assert!(
        answer.starts_with("HTTP/1.0 200") && answer.contains("Connection: keep-alive\r\n"),
        "{answer}"
    );
    seen.has("\r\nHost: 10.96.0.7:80\r\n").await;
    assert!(seen.text().starts_with("GET /1 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_caller_that_has_nothing_more_to_ask_is_still_answered() {
    let address = raw(|mut stream, _| async move {
        sleep(Duration::from_millis(200)).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let mesh = mesh(address).await;
    let mut stream = connect(&mesh).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let answer = until(&mut stream, "ok").await;
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
    eventually("it is counted", || {
        counts(&mesh.arm("v1").requests) == [1, 0, 0, 0]
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_was_sent_arrives_whole() {
    let address = raw(|mut stream, _| async move {
        let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large";
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Closing with unread bytes resets the connection.
    })
    .await;
    let mesh = mesh(address).await;
    for _ in 0..20 {
        let mut stream = connect(&mesh).await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        let upload = async {
            while write.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            read = timeout(PATIENCE, read.read_to_end(&mut answer)) => {
                read.expect("an end").expect("no reset before the answer is read");
            }
            () = upload => {}
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.ends_with("too large"), "{answer}");
    }
}

#[tokio::test]
async fn two_readings_of_one_request_are_a_400_that_says_why() {
    let (address, seen) = answering(OK).await;
    let mesh = mesh(address).await;
    for (request, status) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            "501",
        ),
        ("GET / HTTP/1.7\r\nHost: a\r\n\r\n", "505"),
    ] {
        let answer = ask(&mesh, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("x-aviary-error: ") && answer.contains("Connection: close\r\n"));
    }
    assert_eq!(seen.text(), "");
}

#[tokio::test]
async fn a_bad_chunk_in_a_body_ends_both_connections_and_speaks_against_nobody() {
    let address = raw(|mut stream, _| async move {
        stream.read_to_end(&mut Vec::new()).await.ok();
    })
    .await;
    let mesh = mesh(address).await;
    let answer = ask(
        &mesh,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nXX\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(counts(&mesh.arm("v1").requests), [0, 0, 1, 0]);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_a_431_and_counted() {
    let (address, _) = answering(OK).await;
    let mesh = mesh(address).await;
    let large = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "y".repeat(62_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    for request in [large, many] {
        let answer = ask(&mesh, &request).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let text = mesh.metrics.render().unwrap();
    assert!(
        text.contains("aviary_refused_total{reason=\"head\"} 2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_head_that_does_not_end_is_a_408_and_an_idle_connection_is_not() {
    let (address, _) = answering(OK).await;
    let mesh = mesh(address).await;
    let mut idle = connect(&mesh).await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    until(&mut idle, "ok").await;
    let mut slow = connect(&mesh).await;
    slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(30), slow.read_to_string(&mut answer))
        .await
        .expect("it is not waited for")
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let text = mesh.metrics.render().unwrap();
    assert!(
        text.contains("aviary_refused_total{reason=\"head_time\"} 1"),
        "{text}"
    );
    let more = timeout(Duration::from_millis(100), idle.read(&mut [0; 1])).await;
    assert!(more.is_err(), "the idle one is still open: {more:?}");
}

#[tokio::test]
async fn more_connections_than_there_may_be_are_reset_and_counted() {
    let server = Server::start("v1").await;
    let mesh = Mesh::start(Given {
        limits: Limits {
            connections: 2,
            ..Limits::default()
        },
        ..Given::default()
    });
    mesh.install(&Service::new(server.address, server.address, 0))
        .await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::http1(mesh.outbound).await;
        assert_eq!(client.get("/").await.text, "v1");
        clients.push(client);
    }
    assert!(!is_served(&mesh).await);
    let text = mesh.metrics.render().unwrap();
    assert!(
        text.contains("aviary_refused_total{reason=\"connections\"} 1"),
        "{text}"
    );
    clients.pop();
    let deadline = Instant::now() + PATIENCE;
    while !is_served(&mesh).await {
        assert!(Instant::now() < deadline, "never room again");
    }
}

async fn is_served(mesh: &Mesh) -> bool {
    // A reset may come before the connection is looked at for the first time.
    let Ok(mut stream) = TcpStream::connect(mesh.outbound).await else {
        return false;
    };
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    if stream.write_all(request).await.is_err() {
        return false;
    }
    let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await;
    matches!(read.expect("an answer or a reset"), Ok(1))
}

#[tokio::test]
async fn a_marker_of_anybody_but_a_sidecar_is_not_believed_and_a_post_is_sent_once() {
    for answer in [
        "HTTP/1.1 200 OK\r\nx-aviary-unsent: 1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 503 Service Unavailable\r\nx-aviary-unsent: 1\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let (canary, seen) = answering(answer).await;
        let stable = Server::start("v1").await;
        let mesh = Mesh::with(&Service::new(stable.address, canary, 100)).await;
        let mut client = Client::http1(mesh.outbound).await;
        let got = client.post("/", "money").await;
        assert_eq!(got.text, "ok");
        assert!(!got.headers.contains_key("x-aviary-unsent"));
        assert_eq!(stable.requests(), 0);
        assert_eq!(seen.text().matches("money").count(), 1);
    }
}

#[tokio::test]
async fn a_safe_request_on_a_connection_that_was_just_closed_is_sent_once_more() {
    // Reads a second request and closes without a word, as a server does whose idle time is over at that very moment.
    let seen = Seen::default();
    let record = seen.clone();
    let address = raw(move |mut stream, first| {
        let record = record.clone();
        async move {
            record.add(&first);
            stream.write_all(OK.as_bytes()).await.unwrap();
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await.unwrap_or(0);
            record.add(&bytes[..read]);
        }
    })
    .await;
    let mesh = mesh(address).await;
    let mut client = Client::http1(mesh.outbound).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text, "ok");
    }
    assert_eq!(counts(&mesh.arm("v1").requests), [10, 0, 0, 0]);
    // What is not safe is never sent twice, whatever becomes of it.
    let mut sent = Vec::new();
    loop {
        sent.push(format!("<{}>", sent.len()));
        assert_eq!(client.get("/").await.text, "ok");
        let answer = client.post("/", sent.last().unwrap().clone()).await;
        if answer.status == 502 {
            break;
        }
        assert!(sent.len() < 100, "no POST ever met a closing connection");
    }
    for body in sent {
        assert_eq!(seen.text().matches(&body).count(), 1, "{}", seen.text());
    }
}

#[tokio::test]
async fn an_endpoint_that_names_its_idle_time_is_not_used_after_it() {
    let answer = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok";
    let server = Arc::new(Mutex::new(0));
    let counted = server.clone();
    let address = raw(move |mut stream, _| {
        *counted.lock().unwrap() += 1;
        async move {
            loop {
                stream.write_all(answer.as_bytes()).await.unwrap();
                match stream.read(&mut [0; 4096]).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                }
            }
        }
    })
    .await;
    let mesh = mesh(address).await;
    let mut client = Client::http1(mesh.outbound).await;
    for _ in 0..3 {
        let answer = client.get("/").await;
        assert_eq!(answer.text, "ok");
        assert!(!answer.headers.contains_key("keep-alive"));
    }
    assert_eq!(*server.lock().unwrap(), 3);
}

#[tokio::test]
async fn a_reset_of_opaque_bytes_does_not_look_like_their_end() {
    let address = raw(|stream, _| async move {
        stream.set_zero_linger().unwrap();
    })
    .await;
    let mesh = Mesh::with(&Service {
        protocol: Protocol::Opaque,
        ..Service::new(address, address, 0)
    })
    .await;
    let mut stream = connect(&mesh).await;
    stream.write_all(b"\x00").await.unwrap();
    let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn a_connection_that_is_opened_long_before_its_first_request_is_split_request_by_request() {
    let (stable, canary) = (Server::start("v1").await, Server::start("v2").await);
    let mesh = Mesh::with(&detected(Service::new(stable.address, canary.address, 50))).await;
    let mut picked = 0;
    for _ in 0..3 {
        let mut client = Client::http1(mesh.outbound).await;
        sleep(Duration::from_millis(300)).await;
        for _ in 0..10 {
            picked += usize::from(client.get("/").await.text == "v2");
        }
    }
    assert_eq!(picked, 15);
    assert_eq!(counts(&mesh.arm("v1").connections), [0; 4]);
}

#[tokio::test]
async fn inbound_connections_to_other_addresses_are_refused() {
    let mesh = Mesh::start(Given {
        inbound: "192.0.2.1:80".parse().unwrap(),
        ..Given::default()
    });
    let mut stream = TcpStream::connect(mesh.inbound).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}
