//! How a proxy leaves.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aviary_proxy::net::untaken;
use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::client::{Client, eventually, within};
use crate::control_plane::PATIENCE;
use crate::frames::{self, END_STREAM, PREFACE, headers, open_windows, parse, room, settings};
use crate::mesh::{Given, Mesh, Service};
use crate::server::Server;
use crate::streams::endpoint;

async fn held(mesh: &Mesh, app: &Server) -> [tokio::task::JoinHandle<String>; 2] {
    let before = app.requests();
    let requests = Client::both(mesh.inbound)
        .await
        .map(|mut client| tokio::spawn(async move { client.get("/held").await.text }));
    eventually("both requests are in flight", || {
        app.requests() == before + 2
    })
    .await;
    requests
}

#[tokio::test]
async fn requests_in_flight_are_finished_before_the_proxy_leaves() {
    let app = Server::start("app").await;
    let mut mesh = Mesh::start(Given {
        inbound: app.address,
        ..Given::default()
    });
    let idle = Client::both(mesh.inbound).await;
    let requests = held(&mesh, &app).await;
    mesh.stop();
    let mut health = Client::http1(mesh.admin).await;
    while health.get("/ready").await.text != "draining\n" {
        tokio::task::yield_now().await;
    }
    assert!(!mesh.has_ended());
    app.state.held.add_permits(2);
    for request in requests {
        assert_eq!(request.await.unwrap(), "app");
    }
    eventually("the proxy leaves", || mesh.has_ended()).await;
    drop(idle);
}

#[tokio::test]
async fn new_connections_are_served_through_the_delay_and_told_to_close() {
    let app = Server::start("app").await;
    let given = Given {
        inbound: app.address,
        drain_delay: Duration::from_secs(60),
        ..Given::default()
    };
    let mut mesh = Mesh::start(Given {
        drain_deadline: Duration::from_secs(60),
        ..given
    });
    let [mut old, _] = Client::both(mesh.inbound).await;
    assert!(!old.get("/").await.headers.contains_key("connection"));
    mesh.stop();
    let mut health = Client::http1(mesh.admin).await;
    while health.get("/ready").await.text != "draining\n" {
        tokio::task::yield_now().await;
    }
    assert_eq!(old.get("/").await.headers["connection"], "close");
    let [mut one, mut two] = Client::both(mesh.inbound).await;
    let answer = one.get("/").await;
    assert_eq!(
        (
            answer.text.as_str(),
            answer.headers["connection"].as_bytes()
        ),
        ("app", &b"close"[..])
    );
    assert_eq!(two.get("/").await.text, "app");
    // GOAWAY follows the first answer: sooner or later the connection takes no more requests.
    eventually("GOAWAY", || match &two {
        Client::Http2(sender) => sender.is_closed(),
        Client::Http1(_) => unreachable!(),
    })
    .await;
}

#[tokio::test]
async fn the_deadline_ends_what_does_not_end() {
    let app = Server::start("app").await;
    let deadline = Duration::from_millis(200);
    let mut mesh = Mesh::start(Given {
        inbound: app.address,
        drain_deadline: deadline,
        ..Given::default()
    });
    let requests = held(&mesh, &app).await;
    mesh.stop();
    eventually("the proxy leaves", || mesh.has_ended()).await;
    for request in requests {
        assert!(request.await.is_err());
    }
}

/// The application may need the network to finish its own work.
#[tokio::test]
async fn calls_of_the_application_are_served_to_the_very_end() {
    let server = Server::start("v1").await;
    let mut mesh = Mesh::start(Given {
        inbound: server.address,
        drain_deadline: Duration::from_secs(60),
        ..Given::default()
    });
    mesh.install(&Service::new(server.address, server.address, 0))
        .await;
    let requests = held(&mesh, &server).await;
    mesh.stop();
    // Nobody is taken in any more: the proxy is closing.
    while TcpStream::connect(mesh.inbound).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        for client in &mut Client::both(mesh.outbound).await {
            assert_eq!(client.get("/").await.text, "v1");
        }
    }
    server.state.held.add_permits(2);
    for request in requests {
        assert_eq!(request.await.unwrap(), "v1");
    }
}

/// A caller that has asked for so many bytes, and has not read anything yet.
async fn asked(length: usize, given: Given) -> (Mesh, TcpStream) {
    let app = endpoint(move |_, mut respond| async move {
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from(vec![b'x'; length]), true)
            .unwrap();
    })
    .await;
    let mesh = Mesh::start(Given {
        inbound: app,
        ..given
    });
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut caller = socket.connect(mesh.inbound).await.unwrap();
    let request = headers(END_STREAM, 1, &frames::post("/"));
    let bytes = [PREFACE, &settings(), &open_windows(), &request].concat();
    caller.write_all(&bytes).await.unwrap();
    (mesh, caller)
}

/// A caller whose answer is longer than what the kernel takes of it, and that reads the end of it when the proxy is leaving. No request is in progress
/// any more by then. It may go on to tell how much it has read.
async fn reads_slowly(tells: bool) {
    const LENGTH: usize = 8 << 20;
    const PART: usize = 256 << 10;
    let (mut mesh, mut caller) = asked(LENGTH, Given::default()).await;
    let streams = || mesh.metrics.streams.load(Ordering::Relaxed);
    eventually("the request comes", || streams() == 1).await;
    let mut read = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    // As much as it takes, and slower than the proxy writes: there is always more than that.
    while streams() > 0 {
        eventually("the proxy writes more", || {
            untaken::bytes(&[mesh.inbound]) > 2 * PART as u64 || streams() == 0
        })
        .await;
        let before = read.len();
        while read.len() < before + PART {
            let length = caller.read(&mut piece).await.unwrap();
            read.extend(&piece[..length]);
        }
    }
    assert!(data_of(&read) < LENGTH);
    mesh.stop();
    while TcpStream::connect(mesh.inbound).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let rest = async {
        while let length @ 1.. = caller.read(&mut piece).await.unwrap() {
            read.extend(&piece[..length]);
            if tells {
                caller.write_all(&room(length)).await.unwrap();
            }
        }
    };
    timeout(PATIENCE, rest)
        .await
        .expect("the proxy ends the connection");
    assert_eq!(data_of(&read), LENGTH);
    eventually("the proxy leaves", || mesh.has_ended()).await;
}

/// It is gone with its node, or might as well be.
#[tokio::test]
async fn a_caller_that_takes_nothing_is_not_waited_for() {
    let given = Given {
        drain_deadline: Duration::from_secs(3600),
        ..Given::default()
    };
    let (mut mesh, _caller) = asked(1 << 20, given).await;
    let is_written = || {
        let streams = mesh.metrics.streams.load(Ordering::Relaxed);
        streams == 0 && untaken::bytes(&[mesh.inbound]) > 1 << 19
    };
    eventually("the kernel has all of it", is_written).await;
    mesh.stop();
    within(PATIENCE, "the proxy leaves", || mesh.has_ended()).await;
}

#[tokio::test]
async fn a_caller_that_reads_slowly_gets_all_of_its_answer() {
    reads_slowly(false).await;
}

/// What comes on a connection that is closed is answered with a reset, and that would be the end of what is on its way.
#[tokio::test]
async fn a_caller_that_tells_how_much_it_has_read_gets_all_of_its_answer() {
    reads_slowly(true).await;
}

/// How much of a body has come in whole frames.
fn data_of(read: &[u8]) -> usize {
    let frames = parse(read);
    let data = frames.iter().filter(|frame| frame.is_data());
    data.map(|frame| frame.payload.len()).sum()
}
