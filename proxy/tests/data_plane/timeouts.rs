//! Calls that take too long, or are too many.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use aviary_proxy::limits::Limits;
use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use traffic_core::bounds::Bounds;
use traffic_core::contract::header;

use crate::client::{Client, eventually, get, post, whole};
use crate::mesh::{Given, Mesh, Service, counts, refused};
use crate::server::{Server, raw};
use crate::streams::endpoint;

const SHORT: Duration = Duration::from_millis(300);
/// Where something has to come before the time is over.
const ENOUGH: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(600);

/// All requests to v2, at this address.
pub(crate) fn bounded(address: SocketAddr, bounds: Bounds) -> Service {
    Service {
        bounds,
        ..Service::new(address, address, 100)
    }
}

pub(crate) fn at_most(request: Duration) -> Bounds {
    Bounds {
        request: Some(request),
        ..Bounds::default()
    }
}

fn idle_at_most(idle: Duration) -> Bounds {
    Bounds {
        idle: Some(idle),
        ..Bounds::default()
    }
}

fn grpc<B>(mut request: Request<B>, timeout: &'static str) -> Request<B> {
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-timeout", HeaderValue::from_static(timeout));
    request
}

/// [success, failure, client_closed, unsent] of the canary's first attempts.
fn ended(mesh: &Mesh) -> [u64; 4] {
    counts(&mesh.arm("v2").first_attempts)
}

#[tokio::test]
async fn what_is_not_answered_in_time_is_a_504_that_says_who_says_so_and_the_canarys_failure() {
    let server = Server::start("v2").await;
    let mesh = Mesh::with(&bounded(server.address, at_most(SHORT))).await;
    for client in &mut Client::both(mesh.outbound).await {
        for request in [get("/held"), post("/held", "a body")] {
            let answer = whole(client.send(request).await.unwrap()).await.unwrap();
            assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
            let says = "no answer within 300ms, which is how long a call to this Service may take";
            assert_eq!(answer.text, format!("aviary-proxy: {says}\n"));
            assert_eq!(answer.headers[header::ERROR], says);
        }
    }
    assert_eq!(ended(&mesh), [0, 4, 0, 0]);
    // The proxy may be done with one before its server has looked at it.
    eventually("they arrive", || server.requests() == 4).await;
    // The connections go on.
    mesh.install(&bounded(server.address, at_most(LONG))).await;
    for client in &mut Client::both(mesh.outbound).await {
        assert_eq!(client.get("/").await.text, "v2");
    }
    assert_eq!(server.requests(), 6, "nothing is sent twice");
}

#[tokio::test]
async fn a_call_of_grpc_that_its_caller_gives_a_time_ends_with_deadline_exceeded() {
    let server = Server::start("v2").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 100)).await;
    let mut client = Client::http2(mesh.outbound).await;
    let call = grpc(post("/held", "message"), "300m");
    let answer = whole(client.send(call).await.unwrap()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["grpc-status"], "4", "trailers only");
    let says = "no answer within 300ms, which is how long the caller waits";
    assert_eq!(answer.headers["grpc-message"], says);
    assert_eq!((answer.text.as_str(), answer.trailers), ("", None));
    assert_eq!(ended(&mesh), [0, 1, 0, 0]);
    // What is no time is passed on and nothing else.
    let call = grpc(post("/grpc/0", "message"), "soon");
    let answer = whole(client.send(call).await.unwrap()).await.unwrap();
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn an_endpoint_reads_the_deadline_too() {
    let server = Server::start("v2").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 100)).await;
    let mut client = Client::http2(mesh.outbound).await;
    let call = grpc(get("/headers"), "600S");
    let answer = whole(client.send(call).await.unwrap()).await.unwrap();
    assert!(answer.text.lines().any(|name| name == "grpc-timeout"));
}

/// It knows best when it is over, and leaves then: a moment before this proxy would say so.
#[tokio::test]
async fn a_caller_that_leaves_at_the_end_of_its_own_time_was_not_answered() {
    let server = Server::start("v2").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 100)).await;
    let mut client = Client::http2(mesh.outbound).await;
    let call = grpc(post("/held", "message"), "2S");
    let left = timeout(Duration::from_millis(1_990), client.send(call)).await;
    drop(left);
    eventually("it counts", || ended(&mesh) == [0, 1, 0, 0]).await;
    let call = grpc(post("/held", "message"), "600S");
    let left = timeout(SHORT, client.send(call)).await;
    assert!(left.is_err());
    eventually("it says nothing", || ended(&mesh) == [0, 1, 1, 0]).await;
    // The same once the answer has begun.
    let begins = endpoint(|_request, mut respond| async move {
        let mut sender = respond.send_response(Response::new(()), false).unwrap();
        let _ = std::future::poll_fn(|cx| sender.poll_reset(cx)).await;
    });
    let begins = begins.await;
    mesh.install(&Service::new(begins, begins, 100)).await;
    let call = grpc(get("/"), "2S");
    let response = client.send(call).await.unwrap();
    sleep(Duration::from_millis(1_990)).await;
    drop(response);
    eventually("it counts", || ended(&mesh) == [0, 2, 1, 0]).await;
}

/// Answers with a part of what it says it will, and nothing more.
pub(crate) async fn stalling() -> SocketAddr {
    raw(|mut stream, _| async move {
        let part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
        stream.write_all(part).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn an_answer_that_stops_half_way_never_looks_whole() {
    let address = stalling().await;
    for bounds in [at_most(ENOUGH), idle_at_most(ENOUGH)] {
        let mesh = Mesh::with(&bounded(address, bounds)).await;
        let before = ended(&mesh)[1];
        let mut client = Client::http1(mesh.outbound).await;
        let response = client.send(get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(whole(response).await.is_err());
        eventually("it counts", || ended(&mesh)[1] == before + 1).await;
    }
}

#[tokio::test]
async fn a_stream_of_grpc_that_is_over_in_time_or_says_nothing_ends_with_its_status() {
    let server = Server::start("v2").await;
    for (bounds, time) in [(Bounds::default(), "2S"), (idle_at_most(ENOUGH), "600S")] {
        let mesh = Mesh::with(&bounded(server.address, bounds)).await;
        let mut client = Client::http2(mesh.outbound).await;
        // One message, which is echoed, and then nothing.
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"message")))]);
        let body = StreamBody::new(futures::StreamExt::chain(first, stream::pending()));
        let call = Request::post("/grpc/0")
            .body(UnsyncBoxBody::new(body))
            .unwrap();
        let response = client.send(grpc(call, time)).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "4");
        assert_eq!(body.to_bytes(), "message");
        assert_eq!(ended(&mesh), [0, 1, 0, 0]);
    }
}

#[tokio::test]
async fn what_moves_is_not_idle_however_long_it_takes() {
    const IDLE: Duration = Duration::from_secs(2);
    let address = raw(|mut stream, _| async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
        stream.write_all(head).await.unwrap();
        for _ in 0..10 {
            sleep(IDLE / 7).await;
            stream.write_all(b"x").await.unwrap();
        }
        std::future::pending::<()>().await;
    })
    .await;
    let mesh = Mesh::with(&bounded(address, idle_at_most(IDLE))).await;
    let mut client = Client::http1(mesh.outbound).await;
    assert_eq!(client.get("/").await.text, "x".repeat(10));
    assert_eq!(ended(&mesh), [1, 0, 0, 0]);
}

fn one_at_once(service: Service) -> Service {
    let bounds = Bounds {
        requests: Some(NonZeroU32::MIN),
        ..Bounds::default()
    };
    Service { bounds, ..service }
}

/// A request that is in progress at `server` until a permit is added.
async fn held(mesh: &Mesh, server: &Server) -> tokio::task::JoinHandle<StatusCode> {
    let (outbound, before) = (mesh.outbound, server.requests());
    let held = tokio::spawn(async move {
        let mut client = Client::http1(outbound).await;
        client.get("/held").await.status
    });
    eventually("it is held", || server.requests() > before).await;
    held
}

#[tokio::test]
async fn one_more_request_than_there_may_be_is_refused_at_once() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&one_at_once(Service::new(
        server.address,
        server.address,
        0,
    )))
    .await;
    let held = held(&mesh, &server).await;
    for client in &mut Client::both(mesh.outbound).await {
        let answer = client.get("/").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let says = "shop/web/80 revision v1 has 1 requests of this proxy's in progress, as many as there may be";
        assert_eq!(answer.text, format!("aviary-proxy: {says}\n"));
    }
    assert_eq!(server.requests(), 1);
    assert!(refused(&mesh, "overflow") >= 2);
    server.state.held.add_permits(1);
    assert_eq!(held.await.unwrap(), StatusCode::OK);
    for client in &mut Client::both(mesh.outbound).await {
        assert_eq!(client.get("/").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_canary_that_is_full_leaves_the_rest_to_stable_and_it_speaks_against_it() {
    let (stable, canary) = (Server::start("v1").await, Server::start("v2").await);
    let mesh = Mesh::with(&one_at_once(Service::new(
        stable.address,
        canary.address,
        100,
    )))
    .await;
    let held = held(&mesh, &canary).await;
    for client in &mut Client::both(mesh.outbound).await {
        assert_eq!(client.get("/").await.text, "v1");
    }
    assert_eq!(ended(&mesh), [0, 0, 0, 2]);
    canary.state.held.add_permits(1);
    assert_eq!(held.await.unwrap(), StatusCode::OK);
}

/// Where nobody accepts, and no more connections wait to be accepted.
async fn full() -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) = timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
    }
    (socket, waiting)
}

#[tokio::test]
async fn an_endpoint_that_does_not_take_the_connection_is_not_waited_for_longer_than_was_set() {
    let (socket, _waiting) = full().await;
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let limits = Limits {
        connect: SHORT,
        ..Limits::default()
    };
    let mesh = Mesh::start(Given {
        limits,
        ..Given::default()
    });
    mesh.install(&Service::new(address, address, 0)).await;
    for client in &mut Client::both(mesh.outbound).await {
        let answer = client.get("/").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let says = format!("cannot connect to {address}: no answer in 300ms");
        assert_eq!(answer.text, format!("aviary-proxy: {says}\n"));
    }
}

/// Nothing comes back until all of it is there.
#[tokio::test]
async fn an_upload_is_not_idle_either() {
    const IDLE: Duration = Duration::from_secs(2);
    let one = raw(|mut stream, mut seen| async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while !seen.ends_with(b"\r\n0\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
        }
        stream.write_all(b"all").await.unwrap();
        std::future::pending::<()>().await;
    });
    let two = endpoint(|request, mut respond| async move {
        let mut sender = respond.send_response(Response::new(()), false).unwrap();
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            data.unwrap();
        }
        sender.send_data("all".into(), true).unwrap();
    });
    for (version, address) in [one.await, two.await].into_iter().enumerate() {
        let mesh = Mesh::with(&bounded(address, idle_at_most(IDLE))).await;
        let pieces = stream::unfold(0, |sent| async move {
            sleep(IDLE / 7).await;
            let piece = Ok(Frame::data(Bytes::from_static(b"x")));
            (sent < 10).then_some((piece, sent + 1))
        });
        let upload = Request::post("/").body(UnsyncBoxBody::new(StreamBody::new(pieces)));
        let client = &mut Client::both(mesh.outbound).await[version];
        let response = client.send(upload.unwrap()).await.unwrap();
        assert_eq!(whole(response).await.unwrap().text, "all");
    }
}

#[tokio::test]
async fn an_application_that_does_not_take_the_connection_is_not_waited_for_longer_either() {
    let (socket, _waiting) = full().await;
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mesh = Mesh::start(Given {
        inbound: address,
        limits: Limits {
            connect: SHORT,
            ..Limits::default()
        },
        ..Given::default()
    });
    let answer = Client::http1(mesh.inbound).await.get("/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let says = format!("cannot connect to {address}: no answer in 300ms");
    assert!(answer.text.contains(&says), "{}", answer.text);
}

/// What is no HTTP goes there by another way.
#[tokio::test]
async fn nor_is_one_that_is_called_in_bytes() {
    let (socket, _waiting) = full().await;
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let called = async |connect: Duration| {
        let mesh = Mesh::start(Given {
            inbound: address,
            limits: Limits {
                connect,
                ..Limits::default()
            },
            ..Given::default()
        });
        let mut stream = TcpStream::connect(mesh.inbound).await.unwrap();
        stream.write_all(b"\0").await.unwrap();
        assert!(stream.read(&mut [0]).await.is_err(), "nobody has taken it");
    };
    tokio::select! {
        biased;
        () = called(SHORT) => {}
        () = called(Limits::default().connect) => panic!("it was waited for as long as ever"),
    }
}
