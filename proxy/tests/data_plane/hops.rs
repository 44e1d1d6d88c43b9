//! Heads through two sidecars. What the calling one has just room for, the called one has room for too, with whatever the first one has added to it.

use std::net::SocketAddr;
use std::time::Duration;

use aviary_proxy::limits::Limits;
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::mesh::{Given, Mesh, Service, refused};
use crate::server::accepting;
use crate::streams;

const PATIENCE: Duration = Duration::from_secs(10);

/// A caller's sidecar, and the one of the application at `app`.
async fn hops(app: SocketAddr) -> (Mesh, Mesh) {
    let called = Mesh::start(Given {
        inbound: app,
        ..Given::default()
    });
    let calling = Mesh::with(&Service::new(called.inbound, called.inbound, 0)).await;
    (calling, called)
}

/// An application of HTTP/1.1 that answers each head with what `answer` makes of it, and ends the connection.
async fn app(answer: impl Fn(&str) -> String + Clone + Send + Sync + 'static) -> SocketAddr {
    accepting(move |mut stream| {
        let answer = answer.clone();
        async move {
            let head = until(&mut stream, "\r\n\r\n").await;
            let _ = stream.write_all(answer(&head).as_bytes()).await;
        }
    })
    .await
}

/// Reads until `end` has come, or to the end of the connection.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !text.ends_with(end) {
        match timeout(PATIENCE, stream.read(&mut bytes)).await.unwrap() {
            Ok(read @ 1..) => text.push_str(&String::from_utf8_lossy(&bytes[..read])),
            Ok(0) | Err(_) => break,
        }
    }
    text
}

async fn ask(mesh: &Mesh, request: &str) -> String {
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    until(&mut stream, "\0").await
}

fn fields(head: &str) -> usize {
    head.lines().skip(1).filter(|line| !line.is_empty()).count()
}

/// A head with so many fields, and so many bytes if they are more than it needs.
fn head(first: &str, count: usize, bytes: usize) -> String {
    let mut head = format!("{first}\r\n");
    for number in fields(&head)..count - 1 {
        head.push_str(&format!("x{number}:y\r\n"));
    }
    let rest = bytes.saturating_sub(head.len() + "pad:\r\n\r\n".len());
    format!("{head}pad:{}\r\n\r\n", "z".repeat(rest))
}

/// The two meshes have refused so many heads.
fn assert_refused((calling, called): &(Mesh, Mesh), count: u64) {
    assert_eq!(
        (refused(calling, "head"), refused(called, "head")),
        (count, 0),
        "only the caller's sidecar refuses"
    );
}

#[tokio::test]
async fn a_request_of_http_1_at_the_limits_passes_both_sidecars() {
    let length = |head: &str| format!("HTTP/1.1 200 OK\r\n\r\n{} fields", fields(head));
    let hops = hops(app(length).await).await;
    let most = Limits::default().head;
    // The third one gets a Host as well.
    let firsts = [
        ("GET / HTTP/1.1\r\nhost:web\r\nconnection:close", 128),
        ("GET / HTTP/1.0\r\nhost:web", 128),
        ("GET / HTTP/1.0", 129),
    ];
    for (number, (first, arrive)) in firsts.into_iter().enumerate() {
        for bytes in [0, most.bytes] {
            let answer = ask(&hops.0, &head(first, most.fields, bytes)).await;
            assert!(answer.contains(" 200 OK\r\n"), "{first:?}: {answer}");
            // `Connection` ends at its hop.
            let arrive = arrive - usize::from(first.contains("connection"));
            assert!(answer.contains(&format!("{arrive} fields")), "{answer}");
        }
        let count = 2 * number as u64;
        assert_refused(&hops, count);
        for (fields, bytes) in [(most.fields + 1, 0), (most.fields, most.bytes + 1)] {
            let answer = ask(&hops.0, &head(first, fields, bytes)).await;
            assert!(answer.contains(" 431 "), "{first:?}: {answer}");
        }
        assert_refused(&hops, count + 2);
    }
}

#[tokio::test]
async fn a_request_of_http_2_at_the_limits_passes_both_sidecars() {
    let app = streams::endpoint(|request: Request<h2::RecvStream>, mut respond| async move {
        let count = request.headers().len().to_string();
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        let _ = body.send_data(Bytes::from(count), true);
    })
    .await;
    let hops = hops(app).await;
    let most = Limits::default().head;
    // A name, a value and 32 each (RFC 9113, 6.5.2).
    let size = |name: &str, value: &str| name.len() + value.len() + 32;
    let list = most.bytes + 32 * most.fields;
    let request = |count: usize, bytes: usize| {
        let mut request = Request::get("http://web/").body(()).unwrap();
        let mut left = bytes.saturating_sub(
            size(":method", "GET")
                + size(":scheme", "http")
                + size(":path", "/")
                + size(":authority", "web"),
        );
        for number in 1..count {
            let name: HeaderName = format!("x{number}").parse().unwrap();
            left = left.saturating_sub(size(name.as_str(), "y"));
            request.headers_mut().insert(name, "y".parse().unwrap());
        }
        let rest = "z".repeat(left.saturating_sub(size("pad", "")));
        request.headers_mut().insert("pad", rest.parse().unwrap());
        request
    };
    let mut sender = streams::caller(&hops.0).await;
    for (count, bytes, expected) in [
        (most.fields, 0, 200),
        (most.fields, list - 1, 200),
        (most.fields + 1, 0, 431),
        (most.fields, list, 431),
    ] {
        sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(request(count, bytes), true).unwrap();
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), expected, "{count} fields, {bytes} bytes");
        if expected == 200 {
            let body = answer.into_body().data().await.unwrap().unwrap();
            assert_eq!(body, count.to_string(), "without the sidecar's own");
        }
    }
    crate::client::eventually("both are counted", || refused(&hops.0, "head") == 2).await;
    assert_refused(&hops, 2);
}

#[tokio::test]
async fn an_answer_at_the_limits_passes_both_sidecars() {
    let most = Limits::default().head;
    // Without a length: the called sidecar adds a coding, and the end of the connection for a caller that wants one.
    let answer = move |asked: &str| {
        let bytes = if asked.starts_with("GET /long ") {
            most.bytes
        } else {
            0
        };
        head("HTTP/1.1 200 OK", 128, bytes) + "whole"
    };
    let hops = hops(app(answer).await).await;
    for path in ["/many", "/long"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
        let answer = ask(&hops.0, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("5\r\nwhole\r\n0\r\n\r\n"), "{answer}");
    }
}
