//! Callers that take more than there is for them: each is refused, each refusal is counted, and the others do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aviary_proxy::limits::Limits;
use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Client, eventually, get, whole};
use crate::frames::{
    CONTINUATION, Frame, GOAWAY, HEADERS, PREFACE, RESET, data, frame, headers, literal, parse,
    post, settings,
};
use crate::mesh::{Given, Mesh, Service, refused};
use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(10);
const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

async fn given(limits: Limits) -> (Server, Mesh) {
    let server = Server::start("v1").await;
    let mesh = Mesh::start(Given {
        limits,
        ..Given::default()
    });
    mesh.install(&Service::new(server.address, server.address, 0))
        .await;
    (server, mesh)
}

async fn others_are_served(mesh: &Mesh) {
    for client in &mut Client::both(mesh.outbound).await {
        assert_eq!(client.get("/").await.text, "v1");
    }
}

fn count(frames: &[Frame], kind: u8) -> usize {
    frames.iter().filter(|frame| frame.kind == kind).count()
}

/// Writes `bytes` as a connection of HTTP/2, without reading, and then reads to its end or until `so`.
async fn flood(mesh: &Mesh, bytes: &[u8], so: impl Fn(&[Frame]) -> bool) -> Vec<Frame> {
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    let start = [PREFACE, &settings()].concat();
    stream.write_all(&start).await.unwrap();
    // It may be reset before it has all been sent.
    let _ = timeout(PATIENCE, stream.write_all(bytes)).await;
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !so(&parse(&seen)) {
        match timeout(PATIENCE, stream.read(&mut buffer)).await {
            Ok(Ok(read @ 1..)) => seen.extend_from_slice(&buffer[..read]),
            Ok(Ok(0) | Err(_)) | Err(_) => break,
        }
    }
    parse(&seen)
}

fn codes(frames: &[Frame]) -> Vec<u32> {
    frames.iter().filter_map(Frame::code).collect()
}

#[tokio::test]
async fn heads_with_too_many_fields_are_refused_in_either_version() {
    let (_server, mesh) = given(Limits::default()).await;
    for (number, client) in Client::both(mesh.outbound).await.iter_mut().enumerate() {
        let mut request = get("/");
        for field in 0..140 {
            let name: http::HeaderName = format!("x-{field}").parse().unwrap();
            request.headers_mut().insert(name, "y".parse().unwrap());
        }
        let answer = whole(client.send(request).await.unwrap()).await.unwrap();
        assert_eq!(answer.status, 431, "{answer:?}");
        assert_eq!(refused(&mesh, "head"), number as u64 + 1);
    }
    others_are_served(&mesh).await;
}

#[tokio::test]
async fn limits_are_what_was_set() {
    let head = aviary_http1::Limits {
        bytes: 2_000,
        fields: 5,
    };
    let (_server, mesh) = given(Limits {
        head,
        ..Limits::default()
    })
    .await;
    for (fields, length, expected) in [(3, 100, 200), (6, 1, 431), (1, 4_000, 431)] {
        for client in &mut Client::both(mesh.outbound).await {
            let mut request = get("/");
            for field in 0..fields {
                let name: http::HeaderName = format!("x-{field}").parse().unwrap();
                let value = "y".repeat(length).parse().unwrap();
                request.headers_mut().insert(name, value);
            }
            let answer = whole(client.send(request).await.unwrap()).await.unwrap();
            assert_eq!(answer.status, expected, "{fields} fields of {length}");
        }
    }
}

#[tokio::test]
async fn a_head_in_pieces_without_end_is_the_end_of_its_connection() {
    let (server, mesh) = given(Limits::default()).await;
    let mut bytes = frame(HEADERS, 0, 1, &post("/"));
    for _ in 0..10_000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &literal(b"x", b"y")));
    }
    let seen = flood(&mesh, &bytes, |seen| count(seen, GOAWAY) > 0).await;
    assert_eq!(codes(&seen), [ENHANCE_YOUR_CALM], "{seen:?}");
    eventually("it is counted", || refused(&mesh, "frames") == 1).await;
    assert_eq!(server.requests(), 0);
    others_are_served(&mesh).await;
}

/// Decoded it is over the limit, so that it is not kept; and then it has a field whose end does not come.
#[tokio::test]
async fn a_field_without_end_in_a_head_that_is_too_large_is_the_end_of_its_connection() {
    let (server, mesh) = given(Limits::default()).await;
    // `accept-encoding: gzip, deflate` of the static table, 60 bytes for one; then a value of 200000 bytes.
    let value = [0, 1, b'x', 127, 0xc1, 0x99, 0x0c];
    let begin = [post("/"), vec![0x90; 1_200], value.to_vec()].concat();
    let mut bytes = frame(HEADERS, 0, 1, &begin);
    for _ in 0..5 {
        bytes.extend(frame(CONTINUATION, 0, 1, &[b'y'; 16 * 1024]));
    }
    let seen = flood(&mesh, &bytes, |seen| count(seen, GOAWAY) > 0).await;
    assert_eq!(codes(&seen), [COMPRESSION_ERROR], "{seen:?}");
    eventually("it is counted", || refused(&mesh, "head") == 1).await;
    assert_eq!(server.requests(), 0);
    others_are_served(&mesh).await;
}

/// It is the caller that speaks of abuse, and nothing was refused.
#[tokio::test]
async fn a_caller_that_asks_for_calm_is_not_counted_as_one_that_was_refused() {
    let (_server, mesh) = given(Limits::default()).await;
    let bytes = frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]);
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    let start = [PREFACE, &settings(), &bytes].concat();
    stream.write_all(&start).await.unwrap();
    stream.shutdown().await.unwrap();
    let end = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    end.expect("an end").unwrap();
    assert_eq!(refused(&mesh, "frames"), 0);
}

#[tokio::test]
async fn empty_frames_without_end_are_the_end_of_their_connection() {
    let (_server, mesh) = given(Limits::default()).await;
    let mut bytes = headers(0, 1, &post("/echo"));
    for _ in 0..20_000 {
        bytes.extend(data(0, 1, b""));
    }
    let seen = flood(&mesh, &bytes, |seen| count(seen, GOAWAY) > 0).await;
    assert!(codes(&seen).contains(&ENHANCE_YOUR_CALM), "{seen:?}");
    eventually("it is counted", || refused(&mesh, "frames") == 1).await;
    others_are_served(&mesh).await;
}

#[tokio::test]
async fn streams_above_the_limit_are_refused_and_the_rest_are_served() {
    let (server, mesh) = given(Limits {
        streams: 3,
        ..Limits::default()
    })
    .await;
    let bytes: Vec<u8> = (0..5)
        .flat_map(|number| headers(1, 2 * number + 1, &post("/held")))
        .collect();
    let waiting = flood(&mesh, &bytes, |seen| {
        count(seen, RESET) + count(seen, HEADERS) == 5
    });
    let freed = async {
        eventually("three arrive", || server.requests() == 3).await;
        server.state.held.add_permits(3);
    };
    let (seen, ()) = tokio::join!(waiting, freed);
    let reset: Vec<u32> = seen
        .iter()
        .filter(|frame| frame.kind == RESET)
        .map(|frame| frame.stream)
        .collect();
    assert_eq!((reset, codes(&seen)), (vec![7, 9], vec![REFUSED_STREAM; 2]));
    assert_eq!(count(&seen, HEADERS), 3);
    eventually("both are counted", || refused(&mesh, "streams") == 2).await;
    others_are_served(&mesh).await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for_longer_than_was_set() {
    let (_server, mesh) = given(Limits {
        head_time: Duration::from_secs(1),
        ..Limits::default()
    })
    .await;
    let begun = Instant::now();
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut text = String::new();
    let end = timeout(PATIENCE, stream.read_to_string(&mut text)).await;
    end.expect("it is not waited for").unwrap();
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(text.contains("longer than 1 s"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(refused(&mesh, "head_time"), 1);
    others_are_served(&mesh).await;
}

/// A caller that does not read costs a window, not what it has asked for.
#[tokio::test]
async fn an_answer_that_nobody_reads_is_not_read_from_the_endpoint_either() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let address =
        crate::streams::endpoint(move |_request: Request<h2::RecvStream>, mut respond| {
            let count = count.clone();
            async move {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                loop {
                    body.reserve_capacity(16 * 1024);
                    let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
                    let Some(Ok(room)) = room else { return };
                    count.fetch_add(room, Ordering::Relaxed);
                    if body.send_data(Bytes::from(vec![0; room]), false).is_err() {
                        return;
                    }
                }
            }
        })
        .await;
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let mut sender = crate::streams::caller(&mesh).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        sender = sender.ready().await.unwrap();
        let request = Request::get("http://web/").body(()).unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        answers.push(timeout(PATIENCE, answer).await.unwrap().unwrap());
    }
    // Until no more is taken.
    let mut before = 0;
    while before == 0 || before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        sleep(Duration::from_millis(300)).await;
    }
    let each = before / answers.len();
    assert!(
        each > 0 && each <= 256 * 1024,
        "{each} bytes for each of them"
    );
    // They have one connection to the endpoint in common with whoever comes now.
    let mut other = crate::streams::caller(&mesh).await;
    let request = Request::get("http://web/").body(()).unwrap();
    let (answer, _) = other.send_request(request, true).unwrap();
    let mut body = timeout(PATIENCE, answer)
        .await
        .unwrap()
        .unwrap()
        .into_body();
    let data = timeout(PATIENCE, body.data()).await;
    let data = data.expect("it does not wait for the others");
    assert!(!data.unwrap().unwrap().is_empty());
}
