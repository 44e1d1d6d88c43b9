//! HTTP/2 as frames: resets, windows, and answers of the proxy's own.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, client, server};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Client, eventually, post, whole, within};
use crate::frames::{END_STREAM, HEADERS, OK, PREFACE, RESET, headers, parse, settings};
use crate::mesh::{Mesh, Service, counts};
use crate::server::{accepting, nobody, raw};

const PATIENCE: Duration = Duration::from_secs(10);

/// An endpoint that does `serve` with every stream.
pub(crate) async fn endpoint<F>(
    serve: impl Fn(Request<h2::RecvStream>, server::SendResponse<Bytes>) -> F
    + Send
    + Sync
    + Clone
    + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    accepting(move |stream| {
        let serve = serve.clone();
        async move {
            stream.set_nodelay(true).unwrap();
            // Room for all streams, and patience with those that end before it has looked at them: what stalls or breaks is the proxy or nothing.
            let handshake = server::Builder::new()
                .initial_connection_window_size(64 << 20)
                .max_pending_accept_reset_streams(usize::MAX)
                .handshake(stream);
            let Ok(mut connection) = handshake.await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(serve(request, respond));
            }
        }
    })
    .await
}

pub(crate) async fn caller(mesh: &Mesh) -> client::SendRequest<Bytes> {
    caller_at(mesh.outbound).await
}

pub(crate) async fn caller_at(address: SocketAddr) -> client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(
        HeaderName::from_static("checksum"),
        HeaderValue::from_static("17"),
    )])
}

fn request(path: &str) -> Request<()> {
    Request::post(format!("http://web{path}")).body(()).unwrap()
}

#[tokio::test]
async fn a_reset_before_the_answer_passes_with_its_code() {
    let address = endpoint(|request, mut respond| async move {
        let code: u32 = request.uri().path()[1..].parse().unwrap();
        respond.send_reset(Reason::from(code));
    })
    .await;
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let mut sender = caller(&mesh).await;
    for reason in [
        Reason::CANCEL,
        Reason::INTERNAL_ERROR,
        Reason::ENHANCE_YOUR_CALM,
        Reason::REFUSED_STREAM,
    ] {
        let path = format!("/{}", u32::from(reason));
        let (answer, _) = sender.send_request(request(&path), true).unwrap();
        let error = timeout(PATIENCE, answer).await.unwrap().unwrap_err();
        assert_eq!((error.is_reset(), error.reason()), (true, Some(reason)));
    }
    // Refused twice: the one that was sent again counts as unsent both times.
    assert_eq!(counts(&mesh.arm("v1").requests), [0, 3, 0, 1]);
}

#[tokio::test]
async fn what_was_sent_before_a_reset_arrives_before_it() {
    // SETTINGS, their acknowledgement, and then at once: HEADERS (:status 200), DATA, RST_STREAM (INTERNAL_ERROR).
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    const HEADERS: &[u8] = &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];
    const DATA: &[u8] = b"\0\0\x05\0\0\0\0\0\x01begun";
    const RESET: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    let address = raw(|mut stream, mut seen| async move {
        stream.write_all(SETTINGS).await.unwrap();
        // The request is the first HEADERS on stream 1.
        while !seen
            .windows(6)
            .any(|part| part[0] == 1 && part[2..] == [0, 0, 0, 1])
        {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
        }
        let answer = [HEADERS, DATA, RESET].concat();
        stream.write_all(&answer).await.unwrap();
        let _ = stream.read_to_end(&mut seen).await;
    })
    .await;
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let (answer, _) = caller(&mesh)
        .await
        .send_request(request("/"), true)
        .unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let data = timeout(PATIENCE, body.data()).await.unwrap();
    assert_eq!(data.unwrap().unwrap(), "begun");
    let end = timeout(PATIENCE, body.data()).await.unwrap();
    let error = end.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    assert_eq!(counts(&mesh.arm("v1").requests), [0, 1, 0, 0]);
}

#[tokio::test]
async fn the_callers_reset_passes_with_its_code() {
    let (told, mut tell) = tokio::sync::mpsc::unbounded_channel();
    let address = endpoint(move |_request, mut respond| {
        let told = told.clone();
        async move {
            let mut sender = respond.send_response(Response::new(()), false).unwrap();
            let reset = std::future::poll_fn(|cx| sender.poll_reset(cx)).await;
            told.send(reset.unwrap()).unwrap();
        }
    })
    .await;
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let mut sender = caller(&mesh).await;
    let (answer, mut body) = sender.send_request(request("/"), false).unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    body.send_reset(Reason::STREAM_CLOSED);
    let reason = timeout(PATIENCE, tell.recv()).await.unwrap();
    assert_eq!(reason, Some(Reason::STREAM_CLOSED));
    drop(answer);
    eventually("it is counted", || {
        counts(&mesh.arm("v1").requests) == [0, 0, 1, 0]
    })
    .await;
}

#[tokio::test]
async fn a_stalled_upload_does_not_hold_up_the_others_of_its_connection() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&arrived);
    let address = endpoint(move |request, mut respond| {
        let count = Arc::clone(&count);
        async move {
            if request.uri().path() == "/stalled" {
                count.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            let mut body = request.into_body();
            let mut size = 0;
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                size += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            let mut sender = respond.send_response(Response::new(()), false).unwrap();
            sender
                .send_data(Bytes::from(size.to_string()), true)
                .unwrap();
        }
    })
    .await;
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let mut client = Client::http2(mesh.outbound).await;
    let Client::Http2(sender) = &client else {
        unreachable!()
    };
    // More than any window: each of them fills all it can get.
    for _ in 0..20 {
        let mut stalled = Client::Http2(sender.clone());
        tokio::spawn(async move {
            let _ = stalled.send(post("/stalled", vec![0; 4 << 20])).await;
        });
    }
    eventually("all of them upload", || {
        arrived.load(Ordering::Relaxed) == 20
    })
    .await;
    let answer = timeout(PATIENCE, client.post("/", vec![0; 1 << 20])).await;
    assert_eq!(answer.expect("it gets through").text, (1 << 20).to_string());
}

/// Small frames cost whoever keeps them more than their bytes, and h2 ends a connection on which too many lie unread.
#[tokio::test]
async fn callers_that_do_not_read_small_messages_do_not_cost_the_others_their_connection() {
    const MESSAGES: usize = 60_000;
    const STALLED: usize = 3;
    let message = |number: usize| Bytes::from(vec![u8::try_from(number % 251).unwrap()]);
    let (sent, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, made) = (Arc::clone(&sent), Arc::clone(&connections));
    let address = accepting(move |stream| {
        made.fetch_add(1, Ordering::Relaxed);
        let count = Arc::clone(&count);
        async move {
            let mut connection = server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let count = Arc::clone(&count);
                let is_stalled = request.uri().path() == "/stalled";
                tokio::spawn(async move {
                    let mut sender = respond.send_response(Response::new(()), false).unwrap();
                    for number in 0..if is_stalled { MESSAGES } else { 1 } {
                        sender.reserve_capacity(1);
                        if poll_fn(|cx| sender.poll_capacity(cx)).await.is_none() {
                            return;
                        }
                        sender.send_data(message(number), false).unwrap();
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    sender.send_trailers(trailers()).unwrap();
                });
            }
        }
    })
    .await;
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let stream = TcpStream::connect(mesh.outbound).await.unwrap();
    // Of each answer there is room for hardly anything.
    let mut narrow = client::Builder::new();
    let (sender, connection) = narrow
        .initial_window_size(8)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let (answer, _) = sender.send_request(request("/stalled"), true).unwrap();
        stalled.push(answer.await.unwrap().into_body());
    }
    within(Duration::from_secs(60), "all of it is on its way", || {
        sent.load(Ordering::Relaxed) == STALLED * MESSAGES
    })
    .await;
    let (answer, _) = sender.send_request(request("/"), true).unwrap();
    let answer = timeout(PATIENCE, answer).await.expect("it gets through");
    assert_eq!(answer.unwrap().status(), 200);
    for mut body in stalled {
        let mut read = 0;
        while let Some(data) = body.data().await {
            let data = data.expect("nobody has reset it");
            for byte in &data {
                assert_eq!(*byte, message(read)[0], "message {read}");
                read += 1;
            }
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        assert_eq!(read, MESSAGES);
        assert_eq!(body.trailers().await.unwrap(), Some(trailers()));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// What waited for room at the first endpoint, trailers included, goes to the other one once.
#[tokio::test]
async fn an_upload_that_an_endpoint_without_room_refuses_goes_to_the_other_one_whole() {
    let canary = accepting(|stream| async move {
        let mut narrow = server::Builder::new();
        let handshake = narrow.initial_window_size(8).handshake::<_, Bytes>(stream);
        let mut connection = handshake.await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                if request.uri().path() == "/first" {
                    let _ = respond.send_response(Response::new(()), true);
                    return;
                }
                let mut body = request.into_body();
                let mut room = 8;
                while room > 0 {
                    room -= body.data().await.unwrap().unwrap().len();
                }
                respond.send_reset(Reason::REFUSED_STREAM);
            });
        }
    })
    .await;
    let stable = endpoint(|request, mut respond| async move {
        let mut body = request.into_body();
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            text.extend_from_slice(&data.unwrap());
        }
        let mut sender = respond.send_response(Response::new(()), false).unwrap();
        sender.send_data(text.into(), false).unwrap();
        let trailers = body.trailers().await.unwrap().unwrap_or_default();
        sender.send_trailers(trailers).unwrap();
    })
    .await;
    let mesh = Mesh::with(&Service::new(stable, canary, 100)).await;
    let mut sender = caller(&mesh).await;
    // From then on its window is known.
    let (answer, _) = sender.send_request(request("/first"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let (answer, mut upload) = sender.send_request(request("/"), false).unwrap();
    let mut expected = Vec::new();
    for piece in ["first ", "second ", "third "] {
        expected.extend_from_slice(piece.as_bytes());
        upload.send_data(piece.into(), false).unwrap();
    }
    upload.send_trailers(trailers()).unwrap();
    let answer = timeout(PATIENCE, answer).await.expect("it gets through");
    let mut body = answer.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data.unwrap());
    }
    assert_eq!(text, expected);
    assert_eq!(body.trailers().await.unwrap(), Some(trailers()));
}

#[tokio::test]
async fn a_grpc_call_that_nobody_takes_gets_a_status_it_understands() {
    let dead = nobody().await;
    let mesh = Mesh::with(&Service::new(dead, dead, 0)).await;
    let mut client = Client::http2(mesh.outbound).await;
    let answer = client.grpc(0).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.headers["grpc-status"], "14");
    assert!(answer.headers.contains_key("grpc-message"));
    assert_eq!(answer.text, "");
    // Others get an answer of HTTP.
    let answer = whole(client.send(post("/", "x")).await.unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(counts(&mesh.arm("v1").requests), [0, 0, 0, 2]);
}

#[tokio::test]
async fn interim_answers_pass() {
    let address = endpoint(|_request, mut respond| async move {
        let hints = Response::builder().status(103).header("link", "</a>");
        respond.send_informational(hints.body(()).unwrap()).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let mut sender = caller(&mesh).await;
    let (mut answer, _) = sender.send_request(request("/"), true).unwrap();
    let interim = timeout(
        PATIENCE,
        std::future::poll_fn(|cx| answer.poll_informational(cx)),
    );
    let interim = interim.await.unwrap().unwrap().unwrap();
    assert_eq!(
        (interim.status().as_u16(), &interim.headers()["link"]),
        (103, &"</a>".parse().unwrap())
    );
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn resets_without_end_close_the_connection_and_are_counted() {
    let server = crate::server::Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 0)).await;
    let mut sender = caller(&mesh).await;
    let flood = async {
        loop {
            let Ok(ready) = sender.clone().ready().await else {
                return;
            };
            sender = ready;
            match sender.send_request(request("/held"), true) {
                Ok((_answer, mut body)) => body.send_reset(Reason::CANCEL),
                Err(_) => return,
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), flood)
        .await
        .expect("the flood is ended");
    eventually("it is counted", || {
        let text = mesh.metrics.render().unwrap();
        text.contains("aviary_refused_total{reason=\"frames\"} 1")
    })
    .await;
}

#[tokio::test]
async fn callers_that_leave_many_requests_behind_do_not_cost_the_others_theirs() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&arrived);
    let (end, ended) = tokio::sync::watch::channel(false);
    let address = endpoint(move |request, mut respond| {
        let (count, mut ended) = (Arc::clone(&count), ended.clone());
        async move {
            if request.uri().path() == "/long" {
                let _ = ended.wait_for(|ended| *ended).await;
            } else {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let _ = respond.send_response(Response::new(()), true);
        }
    })
    .await;
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let (long, _) = caller(&mesh)
        .await
        .send_request(request("/long"), true)
        .unwrap();
    for round in 1..=4 {
        let stream = TcpStream::connect(mesh.outbound).await.unwrap();
        let (mut sender, connection) = client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let before = arrived.load(Ordering::Relaxed);
        let mut answers = Vec::new();
        for _ in 0..400 {
            sender = sender.ready().await.unwrap();
            answers.push(sender.send_request(request("/"), true).unwrap());
        }
        eventually("many of them are under way", || {
            arrived.load(Ordering::Relaxed) >= before + 50
        })
        .await;
        connection.abort();
        eventually("they are counted", || {
            let [success, _, left, _] = counts(&mesh.arm("v1").requests);
            success + left == 400 * round
        })
        .await;
    }
    end.send_replace(true);
    let answer = timeout(PATIENCE, long).await.unwrap();
    assert_eq!(answer.expect("it is not reset").status(), 200);
    assert_eq!(counts(&mesh.arm("v1").requests)[1], 0);
}

/// What was said to a caller that is gone was under way when its stream was reset: it is nobody's fault, however much of it there is.
#[tokio::test]
async fn late_answers_to_callers_that_have_left_do_not_cost_the_others_theirs() {
    const ROUND: usize = 400;
    const ROUNDS: usize = 4;
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&arrived);
    // The first request gets its answer after all the late ones.
    let address = accepting(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            stream.write_all(&settings()).await.unwrap();
            let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
            let (mut seen, mut late) = (0, 0);
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                bytes.extend_from_slice(&buffer[..read]);
                let frames = parse(bytes.get(PREFACE.len()..).unwrap_or_default());
                let mut answers = Vec::new();
                for frame in &frames[seen..] {
                    match frame.kind {
                        HEADERS => drop(count.fetch_add(1, Ordering::Relaxed)),
                        RESET => {
                            late += 1;
                            answers.extend(headers(END_STREAM, frame.stream, OK));
                        }
                        _ => continue,
                    }
                    if late == ROUND * ROUNDS {
                        answers.extend(headers(END_STREAM, 1, OK));
                    }
                }
                seen = frames.len();
                if stream.write_all(&answers).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let mut first = caller(&mesh).await;
    let (first, _body) = first.send_request(request("/"), true).unwrap();
    for round in 1..=ROUNDS {
        let stream = TcpStream::connect(mesh.outbound).await.unwrap();
        let (mut sender, connection) = client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut answers = Vec::new();
        for _ in 0..ROUND {
            sender = sender.ready().await.unwrap();
            answers.push(sender.send_request(request("/"), true).unwrap());
        }
        eventually("they have arrived", || {
            arrived.load(Ordering::Relaxed) == 1 + ROUND * round
        })
        .await;
        connection.abort();
    }
    let answer = timeout(PATIENCE, first).await.expect("an answer");
    assert_eq!(answer.expect("it is not reset").status(), 200);
}
