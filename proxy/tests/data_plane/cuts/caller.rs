//! The caller's request is cut.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::message::whole;
use super::{CUTS, Cut, Ended, PATIENCE, STILL, Seen, Tally, cut_off, parse, read};
use crate::client::eventually;
use crate::mesh::{Mesh, Service};
use crate::protocols::detected;
use crate::server::accepting;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// So many bytes make a first line HTTP's. Fewer of them are nobody's business, and go on as they are.
const FIRST: usize = "POST /".len();

fn request(message: usize, cut: Cut, at: usize) -> String {
    let framed = match message {
        0 => "Content-Length: 11\r\n\r\nhello world",
        _ => "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
    };
    format!("POST /{message}/{cut:?}/{at:03} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framed}")
}

/// An endpoint that answers whole requests and counts them by path. A connection that ends before is counted as `half`.
async fn endpoint(tally: Tally) -> SocketAddr {
    accepting(move |stream| serve(stream, tally.clone())).await
}

async fn serve(mut stream: TcpStream, tally: Tally) {
    tally.add("open");
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(request) = whole(&bytes) {
            assert_eq!(request.body, b"hello world");
            tally.add(request.path());
            bytes.clear();
            if stream.write_all(ANSWER).await.is_err() {
                break;
            }
        }
    }
    tally.add("gone");
}

async fn send(mesh: &Mesh, message: usize, cut: Cut, at: usize) -> Seen {
    let request = request(message, cut, at);
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    stream.write_all(&request.as_bytes()[..at]).await.unwrap();
    let head = request.find("\r\n\r\n").unwrap() + 4;
    match cut {
        Cut::Close => {
            stream.shutdown().await.unwrap();
            read(&mut stream, PATIENCE).await
        }
        Cut::Reset => {
            // What went may be on its way to the endpoint, or still with the proxy.
            tokio::time::sleep(Duration::from_millis(at as u64 % 3)).await;
            cut_off(stream, cut);
            Seen {
                bytes: Vec::new(),
                ended: Ended::Reset,
            }
        }
        // In a head the proxy's patience ends; a body may come as slowly as it likes.
        Cut::Stall if (FIRST..head).contains(&at) => read(&mut stream, PATIENCE).await,
        // The answer to a whole one ends its connection.
        Cut::Stall if at == request.len() => read(&mut stream, PATIENCE).await,
        Cut::Stall => read(&mut stream, STILL).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_cut_anywhere_reaches_nobody_as_a_whole_one() {
    let tally = Tally::default();
    let address = endpoint(tally.clone()).await;
    let mesh = Mesh::with(&detected(Service::new(address, address, 50))).await;
    let all = (0..2).flat_map(|message| {
        CUTS.into_iter().flat_map(move |cut| {
            let length = request(message, cut, 0).len();
            (0..=length).map(move |at| (message, cut, at))
        })
    });
    let judged = stream::iter(all).map(|(message, cut, at)| {
        let (mesh, tally) = (&mesh, &tally);
        async move {
            let seen = send(mesh, message, cut, at).await;
            judge(&request(message, cut, at), &seen, tally);
        }
    });
    let count = judged.buffer_unordered(512).count().await;
    assert!(count > 500, "{count}");
    // What broke off here is gone there too; what was whole leaves an idle connection for a few seconds.
    eventually("nothing is left at the endpoint", || {
        tally.of("open") == tally.of("gone")
    })
    .await;
    eventually("no request is in progress", || {
        mesh.metrics.streams.load(Ordering::Relaxed) == 0
    })
    .await;
}

fn judge(request: &str, seen: &Seen, tally: &Tally) {
    let path = request.split(' ').nth(1).unwrap();
    let (_, cut, at) = parse(path);
    let head = request.find("\r\n\r\n").unwrap() + 4;
    let text = String::from_utf8_lossy(&seen.bytes);
    if at == request.len() && cut != Cut::Reset {
        let got = whole(&seen.bytes).unwrap_or_else(|| panic!("{path}: {seen:?}"));
        assert_eq!(
            (got.status(), got.body.as_slice()),
            (200, &b"ok"[..]),
            "{path}"
        );
        assert_eq!(tally.of(path), 1, "{path}");
        return;
    }
    assert!(!text.starts_with("HTTP/1.1 200"), "{path}: {text}");
    assert!(
        tally.of(path) <= usize::from(at == request.len()),
        "{path} arrived"
    );
    match cut {
        Cut::Close => assert_ne!(seen.ended, Ended::Open, "{path}"),
        Cut::Reset => {}
        Cut::Stall if (FIRST..head).contains(&at) => {
            assert!(text.starts_with("HTTP/1.1 408 "), "{path}: {text}");
        }
        Cut::Stall => assert_eq!((text.as_ref(), seen.ended), ("", Ended::Open), "{path}"),
    }
}
