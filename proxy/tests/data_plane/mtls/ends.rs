//! How connections end is passed on through TLS as it is without.

use std::net::SocketAddr;
use std::sync::Arc;

use aviary_proxy::control::Identify;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use traffic_core::config::Protocol;

use super::authority::{self, Authority};
use super::{Chosen, PATIENCE, Pair};
use crate::server::{Server, accepting, raw};
use crate::withdrawal::{GOING_AWAY, GOODBYE, ends, quick, reads, websocket};

fn opaque() -> Chosen {
    Chosen {
        protocol: Protocol::Opaque,
        ..Chosen::default()
    }
}

/// What an application hears on a connection.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Bytes(usize),
    End,
    Reset,
}

/// An application that tells what it hears.
async fn listening() -> (SocketAddr, mpsc::UnboundedReceiver<Heard>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = accepting(move |mut stream: TcpStream| {
        let tell = tell.clone();
        async move {
            let mut bytes = [0; 4096];
            loop {
                let heard = match stream.read(&mut bytes).await {
                    Ok(0) => Heard::End,
                    Ok(read) => Heard::Bytes(read),
                    Err(_) => Heard::Reset,
                };
                let goes_on = matches!(heard, Heard::Bytes(_));
                tell.send(heard).unwrap();
                if !goes_on {
                    break;
                }
            }
            let _ = stream.write_all(b"I have heard you").await;
        }
    })
    .await;
    (address, told)
}

/// How a connection ends after this, and with how many bytes.
async fn end(told: &mut mpsc::UnboundedReceiver<Heard>) -> (usize, Heard) {
    let mut total = 0;
    loop {
        match timeout(PATIENCE, told.recv()).await.unwrap().unwrap() {
            Heard::Bytes(more) => total += more,
            end => return (total, end),
        }
    }
}

#[tokio::test]
async fn a_caller_that_says_no_more_still_hears() {
    let (app, mut told) = listening().await;
    let pair = Pair::of_one_mesh(app, opaque()).await;
    let mut stream = pair.connect().await;
    let large = vec![b'x'; 200_000];
    stream.write_all(&large).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(end(&mut told).await, (large.len(), Heard::End));
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(text, "I have heard you");
}

#[tokio::test]
async fn a_callers_reset_does_not_look_like_its_end() {
    let (app, mut told) = listening().await;
    let pair = Pair::of_one_mesh(app, opaque()).await;
    let mut stream = pair.connect().await;
    stream.write_all(b"half").await.unwrap();
    let heard = timeout(PATIENCE, told.recv()).await.unwrap();
    assert!(matches!(heard, Some(Heard::Bytes(_))), "{heard:?}");
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(end(&mut told).await.1, Heard::Reset);
}

#[tokio::test]
async fn a_servers_reset_does_not_look_like_its_end() {
    let app = raw(|mut stream, _| async move {
        stream.write_all(b"half an answer").await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let pair = Pair::of_one_mesh(app, opaque()).await;
    let mut stream = pair.connect().await;
    stream.write_all(b"\0").await.unwrap();
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let read = timeout(PATIENCE, read).await.unwrap();
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn an_answer_that_only_its_connections_end_ends_is_whole_or_broken() {
    for is_whole in [true, false] {
        let app = raw(move |mut stream, _| async move {
            let body = "x".repeat(100_000);
            let answer = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if !is_whole {
                stream.set_zero_linger().unwrap();
            }
        })
        .await;
        let pair = Pair::of_one_mesh(app, Chosen::default()).await;
        let mut stream = pair.connect().await;
        stream
            .write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let read = timeout(PATIENCE, read).await.unwrap();
        if is_whole {
            let body = answer
                .windows(4)
                .position(|end| end == b"\r\n\r\n")
                .unwrap()
                + 4;
            assert_eq!((read.is_ok(), answer.len() - body), (true, 100_000));
        } else {
            assert!(read.is_err() || answer.starts_with(b"HTTP/1.0 502"));
        }
    }
}

#[tokio::test]
async fn a_sidecar_whose_application_refuses_says_so_by_a_reset() {
    let nobody = crate::server::nobody().await;
    let pair = Pair::of_one_mesh(nobody, opaque()).await;
    let mut stream = pair.connect().await;
    stream.write_all(b"\0").await.unwrap();
    let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    assert!(read.is_err(), "{read:?}");
}

/// A sidecar's call to `pair`'s called side, made by hand.
async fn call(pair: &Pair, root: &Authority, request: &str) -> std::io::Result<Vec<u8>> {
    let identity = root.identity(2, "api", &[root]);
    let config = identity.client(authority::id("web").into());
    let tcp = TcpStream::connect(pair.tap.address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .with_alpn(vec![b"aviary/h1".to_vec()])
        .connect(name, tcp)
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    timeout(PATIENCE, read).await.unwrap().map(|_| answer)
}

#[tokio::test]
async fn whoever_reads_to_the_end_of_a_connection_is_told_that_it_is_one() {
    let app = Server::start("web").await;
    let pair = Pair::before(app.address, Chosen::default()).await;
    let root = Authority::new("root");
    let called = root.identity(1, "web", &[&root]);
    pair.called.data.identify(called).await;
    for request in [
        "GET / HTTP/1.0\r\nHost: web\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n",
        "this is no HTTP\r\n\r\n",
    ] {
        let answer = call(&pair, &root, request).await;
        let answer = answer.expect("an end that is one");
        assert!(answer.starts_with(b"HTTP/1."), "{request}");
    }
}

#[tokio::test]
async fn a_canary_s_tunnels_end_in_order_when_its_weight_goes() {
    let (app, mut told) = listening().await;
    let chosen = Chosen {
        limits: quick(),
        ..opaque()
    };
    let pair = Pair::of_one_mesh(app, chosen).await;
    pair.calling.install(&pair.service.at(100)).await;
    let mut stream = pair.connect().await;
    stream.write_all(b"to the canary").await.unwrap();
    let heard = timeout(PATIENCE, told.recv()).await.unwrap();
    assert!(matches!(heard, Some(Heard::Bytes(_))), "{heard:?}");
    pair.calling.install(&pair.service).await;
    ends(&mut stream).await;
    assert_eq!(end(&mut told).await, (0, Heard::End));

    let app = websocket(|mut stream| async move {
        stream.write_all(b"\x82\x02hi").await.unwrap();
        let mut goodbye = [0; GOODBYE.len()];
        stream.read_exact(&mut goodbye).await.unwrap();
        assert_eq!(goodbye, GOODBYE);
        stream.write_all(GOING_AWAY).await.unwrap();
    })
    .await;
    let chosen = Chosen {
        limits: quick(),
        ..Chosen::default()
    };
    let pair = Pair::of_one_mesh(app, chosen).await;
    pair.calling.install(&pair.service.at(100)).await;
    let mut stream = pair.upgraded().await;
    reads(&mut stream, b"\x82\x02hi").await;
    pair.calling.install(&pair.service).await;
    reads(&mut stream, GOING_AWAY).await;
    stream.write_all(GOODBYE).await.unwrap();
    ends(&mut stream).await;
}
