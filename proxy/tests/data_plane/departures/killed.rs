//! Applications that are gone at once: an OOM kill, a crash. The kernel resets what was open and refuses what comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use traffic_core::config::Protocol;

use super::{PATIENCE, opaque_pods, pods};
use crate::client::{Client, eventually, upgraded};
use crate::frames::{HEADERS, PREFACE, parse, settings};
use crate::mesh::{Mesh, Service, counts};
use crate::server::{Server, closed};
use crate::streams::caller;

/// An application that takes requests, answers none, and is killed.
struct Victim {
    address: SocketAddr,
    /// Requests and opaque connections.
    arrived: Arc<AtomicUsize>,
    /// Of those, POSTs of HTTP/1.1.
    posts: Arc<AtomicUsize>,
    kill: watch::Sender<bool>,
}

impl Victim {
    async fn start() -> Victim {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, posts) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (kill, mut killed) = watch::channel(false);
        let (all, counted) = (arrived.clone(), posts.clone());
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    taken = listener.accept() => taken.unwrap().0,
                    _ = killed.wait_for(|killed| *killed) => return,
                };
                let (all, counted) = (all.clone(), counted.clone());
                tokio::spawn(serve(stream, all, counted, killed.clone()));
            }
        });
        Victim {
            address,
            arrived,
            posts,
            kill,
        }
    }

    async fn has(&self, requests: usize) {
        eventually("they have arrived", || {
            self.arrived.load(Ordering::SeqCst) == requests
        })
        .await;
    }

    /// Nobody listens there for as long as what this gives is held.
    async fn die(&self) -> Socket {
        self.kill.send_replace(true);
        closed(self.address).await
    }
}

/// Reads what comes, and resets it at the end.
async fn serve(
    mut stream: TcpStream,
    arrived: Arc<AtomicUsize>,
    posts: Arc<AtomicUsize>,
    mut killed: watch::Receiver<bool>,
) {
    let (mut bytes, mut known) = (Vec::new(), 0);
    loop {
        let read = tokio::select! {
            read = stream.read_buf(&mut bytes) => read.unwrap_or(0),
            _ = killed.wait_for(|killed| *killed) => break,
        };
        if read == 0 {
            break;
        }
        let is_first = bytes.len() == read;
        let requests = if bytes.starts_with(PREFACE) {
            let frames = parse(&bytes[PREFACE.len()..]);
            frames.iter().filter(|it| it.kind == HEADERS).count()
        } else {
            1
        };
        let text = String::from_utf8_lossy(&bytes);
        let answer = if !is_first {
            Vec::new()
        } else if text.starts_with("PRI ") {
            settings()
        } else if text.contains("Upgrade: websocket") {
            SWITCHED.to_vec()
        } else {
            Vec::new()
        };
        posts.fetch_add(
            usize::from(is_first && text.starts_with("POST")),
            Ordering::SeqCst,
        );
        stream.write_all(&answer).await.unwrap();
        arrived.fetch_add(requests - known, Ordering::SeqCst);
        known = requests;
    }
    let _ = stream.set_zero_linger();
}

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

#[tokio::test]
async fn what_was_sent_to_an_application_that_is_killed_is_a_502_and_is_sent_nowhere_else() {
    let (victim, other) = (Victim::start().await, Server::start("other").await);
    // A canary's: whatever is sent again goes to stable.
    let service = Service::new(other.address, victim.address, 100);
    let mesh = Mesh::with(&service).await;
    let mut waiting = Vec::new();
    for method in ["GET", "POST"] {
        let outbound = mesh.outbound;
        waiting.push(tokio::spawn(async move {
            let mut client = Client::http1(outbound).await;
            match method {
                "GET" => client.get("/").await.status,
                _ => client.post("/", "money").await.status,
            }
        }));
    }
    victim.has(2).await;
    let mut two = Client::http2(mesh.outbound).await;
    let post = tokio::spawn(async move { two.post("/", "money").await.status });
    victim.has(3).await;
    let mut grpc = Client::http2(mesh.outbound).await;
    let grpc = tokio::spawn(async move { grpc.grpc(0).await });
    victim.has(4).await;
    let mut socket = upgraded(mesh.outbound).await;
    victim.has(5).await;
    let tcp = Mesh::with(&Service {
        protocol: Protocol::Opaque,
        ..service
    })
    .await;
    let mut opaque = TcpStream::connect(tcp.outbound).await.unwrap();
    opaque.write_all(b"\0").await.unwrap();
    victim.has(6).await;
    let _closed = victim.die().await;
    for status in waiting {
        assert_eq!(status.await.unwrap(), 502);
    }
    assert_eq!(post.await.unwrap(), 502);
    assert_eq!(grpc.await.unwrap().headers["grpc-status"], "14");
    for stream in [&mut socket, &mut opaque] {
        let read = timeout(PATIENCE, stream.read(&mut [0])).await.unwrap();
        assert!(read.is_err(), "an end would look like one: {read:?}");
    }
    assert_eq!(victim.posts.load(Ordering::SeqCst), 1);
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn an_application_that_is_gone_costs_no_request_from_then_on() {
    let (victim, other) = (Victim::start().await, Server::start("other").await);
    let _closed = victim.die().await;
    let mesh = Mesh::with(&pods(&[victim.address, other.address])).await;
    for client in &mut Client::both(mesh.outbound).await {
        for _ in 0..20 {
            assert_eq!(client.get("/").await.text, "other");
            assert_eq!(client.post("/echo", "money").await.text, "money");
        }
    }
    let mut client = Client::http2(mesh.outbound).await;
    assert_eq!(client.grpc(0).await.trailers.unwrap()["grpc-status"], "0");
    let mut sender = caller(&mesh).await;
    let request = http::Request::get("http://web/").body(()).unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    // 40 of each version of HTTP, and two more.
    let [success, failure, ..] = counts(&mesh.arm("v1").requests);
    assert_eq!((success, failure), (82, 0));
    let tcp = Mesh::with(&Service {
        stable: vec![victim.address, crate::server::opaque("other").await],
        ..opaque_pods(&[])
    })
    .await;
    for _ in 0..10 {
        let mut stream = TcpStream::connect(tcp.outbound).await.unwrap();
        let mut name = [0; 5];
        let read = timeout(PATIENCE, stream.read_exact(&mut name)).await;
        read.unwrap().unwrap();
        assert_eq!(name, *b"other");
    }
}
