//! HTTP/2, cut between frames and inside them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{CUTS, Cut, Ended, PATIENCE, STILL, Seen, Tally, cut_off, parse, read};
use crate::client::{Client, eventually, post, whole};
use crate::frames::{self, END_STREAM, HEADERS, PREFACE, data, headers, settings};
use crate::mesh::{Mesh, Service};
use crate::protocols::detected;
use crate::server::accepting;

/// A whole answer on the first stream.
fn answer() -> Vec<u8> {
    let parts = [
        settings(),
        headers(0, 1, frames::OK),
        data(0, 1, b"hello"),
        data(END_STREAM, 1, b" world"),
    ];
    parts.concat()
}

/// Answers one connection after the other, each cut as the next of `orders` says. Tells when one is cut, and when the other side has let go of it, how
/// many requests came on it.
async fn endpoint(
    mut orders: mpsc::Receiver<(Cut, usize)>,
    tell: mpsc::Sender<usize>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some((cut, at)) = orders.recv().await {
            let (mut stream, mut bytes) = used(&listener).await;
            let mut buffer = [0; 4096];
            while !bytes.windows(5).any(|w| w == b"money") {
                let read = stream.read(&mut buffer).await.unwrap();
                assert_ne!(read, 0, "at {at}");
                bytes.extend_from_slice(&buffer[..read]);
            }
            let _ = stream.write_all(&answer()[..at]).await;
            if cut == Cut::Stall {
                let seen = read(&mut stream, Duration::from_millis(30)).await;
                assert_eq!(seen.ended, Ended::Open, "at {at}");
                bytes.extend_from_slice(&seen.bytes);
            }
            tell.send(heads(&bytes)).await.unwrap();
            // The next request is not to meet a connection that is about to go.
            if cut == Cut::Reset {
                cut_off(stream, cut);
                sleep(Duration::from_millis(20)).await;
            } else {
                let _ = stream.shutdown().await;
                let seen = read(&mut stream, Duration::from_secs(1)).await;
                bytes.extend_from_slice(&seen.bytes);
            }
            tell.send(heads(&bytes)).await.unwrap();
        }
    });
    address
}

/// The next connection on which something comes, and that. One that was made in vain ends before.
async fn used(listener: &TcpListener) -> (TcpStream, Vec<u8>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        if stream.read_buf(&mut bytes).await.unwrap() > 0 {
            return (stream, bytes);
        }
    }
}

fn heads(bytes: &[u8]) -> usize {
    let sent = frames::parse(bytes.strip_prefix(PREFACE).unwrap());
    sent.iter().filter(|frame| frame.kind == HEADERS).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_frames_that_is_cut_anywhere_is_whole_or_an_error() {
    for cut in CUTS {
        let (order, orders) = mpsc::channel(1);
        let (tell, mut told) = mpsc::channel(2);
        let address = endpoint(orders, tell).await;
        let mesh = Mesh::with(&Service::new(address, address, 50)).await;
        for at in 0..=answer().len() {
            let what = format!("{cut:?} at {at}");
            order.send((cut, at)).await.unwrap();
            let mut client = Client::http2(mesh.outbound).await;
            let exchange = async { whole(client.send(post("/", "money")).await?).await };
            let mut exchange = Box::pin(timeout(PATIENCE, exchange));
            let is_whole = at == answer().len();
            // While the endpoint stalls, the caller waits.
            let early = match cut {
                Cut::Stall => tokio::select! {
                    biased;
                    heads = told.recv() => {
                        assert_eq!(heads, Some(1), "{what}");
                        None
                    }
                    got = &mut exchange => Some(got),
                },
                Cut::Close | Cut::Reset => None,
            };
            assert!(early.is_none() || is_whole, "{what}: {early:?}");
            // Once for the cut, if that was not told yet, and once for the end.
            let mut left = if early.is_some() || cut != Cut::Stall {
                2
            } else {
                1
            };
            let got = match early {
                Some(got) => got,
                None => exchange.as_mut().await,
            };
            match got.unwrap_or_else(|_| panic!("{what} hangs")) {
                Ok(answer) if answer.status == 200 => {
                    assert!(is_whole, "{what}: {answer:?}");
                    assert_eq!(answer.text, "hello world", "{what}");
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 502, "{what}");
                    assert!(!is_whole || cut == Cut::Reset, "{what}: {answer:?}");
                }
                Err(error) => assert!(!is_whole || cut == Cut::Reset, "{what}: {error}"),
            }
            drop(exchange);
            drop(client);
            while left > 0 {
                let heads = timeout(PATIENCE, told.recv()).await;
                let heads = heads.unwrap_or_else(|_| panic!("{what} never arrived"));
                assert_eq!(heads, Some(1), "{what}: sent so many times");
                left -= 1;
            }
        }
    }
}

/// A whole request, by hand.
fn request(path: &str) -> Vec<u8> {
    let parts = [
        PREFACE.to_vec(),
        settings(),
        headers(0, 1, &frames::post(path)),
        data(0, 1, b"hello"),
        data(END_STREAM, 1, b" world"),
    ];
    parts.concat()
}

/// Counts whole requests by path.
async fn counting(tally: Tally) -> SocketAddr {
    accepting(move |stream| {
        let tally = tally.clone();
        async move {
            let service = service_fn(|request: Request<Incoming>| {
                let tally = tally.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    if let Ok(body) = request.collect().await {
                        assert_eq!(body.to_bytes(), "hello world", "{path}");
                        tally.add(&path);
                    }
                    Ok::<_, Infallible>(Response::new("ok".to_owned()))
                }
            });
            // All callers share one connection to here, and most of them leave.
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_pending_accept_reset_streams(Some(10_000))
                .max_local_error_reset_streams(None)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

async fn send(mesh: &Mesh, path: &str, tally: &Tally) -> Seen {
    let (_, cut, at) = parse(path);
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    stream.write_all(&request(path)[..at]).await.unwrap();
    match cut {
        Cut::Close => {
            stream.shutdown().await.unwrap();
            read(&mut stream, PATIENCE).await
        }
        Cut::Reset => {
            sleep(Duration::from_millis(at as u64 % 3)).await;
            cut_off(stream, cut);
            Seen {
                bytes: Vec::new(),
                ended: Ended::Reset,
            }
        }
        Cut::Stall => {
            if at == request(path).len() {
                eventually(path, || tally.of(path) > 0).await;
            }
            read(&mut stream, STILL).await
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_frames_that_is_cut_anywhere_reaches_nobody_as_a_whole_one() {
    let tally = Tally::default();
    let address = counting(tally.clone()).await;
    let mesh = Mesh::with(&detected(Service::new(address, address, 50))).await;
    let all = CUTS.into_iter().flat_map(|cut| {
        let path = move |at: usize| format!("/0/{cut:?}/{at:03}");
        (0..=request(&path(0)).len()).map(path)
    });
    let judged = stream::iter(all).map(|path| {
        let (mesh, tally) = (&mesh, &tally);
        async move {
            let seen = send(mesh, &path, tally).await;
            let (_, cut, at) = parse(&path);
            let is_whole = at == request(&path).len();
            match cut {
                Cut::Close => assert_ne!(seen.ended, Ended::Open, "{path}"),
                Cut::Reset => {}
                Cut::Stall => assert_eq!(seen.ended, Ended::Open, "{path}"),
            }
            let arrived = tally.of(&path);
            assert!(arrived <= usize::from(is_whole), "{path} arrived");
            assert!(
                arrived == 1 || !is_whole || cut != Cut::Stall,
                "{path} is lost"
            );
        }
    });
    let count = judged.buffer_unordered(128).count().await;
    assert!(count > 300, "{count}");
}
