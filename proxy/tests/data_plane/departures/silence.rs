//! A node that goes away: no end, no reset, nothing any more. The tests are run again in a network namespace of their own, where the loopback interface drops
//! what goes to that node. Needs root, `unshare`, `ip` and `nft`; without one of them they fail and say which.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use aviary_proxy::limits::Limits;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{PATIENCE, Streams, opaque_pods, pods};
use crate::client::{Client, eventually, get, upgraded};
use crate::mesh::{Given, Mesh};
use crate::server::Server;

/// Set in the process that has a namespace of its own.
const INSIDE: &str = "AVIARY_TEST_IN_ITS_OWN_NETWORK";
const SHORT: Duration = Duration::from_millis(400);

/// Runs the test of this name again, in a network of its own. True there.
async fn is_inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]).await;
        return true;
    }
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("departures::silence::{name}")]);
    command
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(120), command.output()).await;
    let output = output.expect("it ends").unwrap_or_else(|error| {
        panic!("cannot run unshare: {error}; this test needs root, unshare, ip and nft")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{out}{error}"
    );
    false
}

async fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().await;
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {program}: {error}; this test needs root, unshare, ip and nft")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// From now on nothing reaches this server, nor comes from it.
async fn goes_away(server: &Server) {
    let port = server.address.port();
    let rules = format!(
        "add table inet gone; add chain inet gone input {{ type filter hook input priority 0; }}; \
         add rule inet gone input tcp dport {port} drop; add rule inet gone input tcp sport {port} drop"
    );
    run("nft", &[&rules]).await;
}

fn impatient() -> Given {
    Given {
        limits: Limits {
            connect: SHORT,
            silence: SHORT,
            ..Limits::default()
        },
        ..Given::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_goes_away_is_noticed_and_what_was_not_sent_goes_elsewhere() {
    if !is_inside("a_node_that_goes_away_is_noticed_and_what_was_not_sent_goes_elsewhere").await {
        return;
    }
    let (gone, other) = (Server::start("gone").await, Server::start("other").await);
    let mesh = Mesh::start(impatient());
    mesh.install(&pods(&[gone.address])).await;
    let mut clients = Client::both(mesh.outbound).await;
    for client in &mut clients {
        // Idle connections to it, of both versions.
        assert_eq!(client.get("/").await.text, "gone");
    }
    goes_away(&gone).await;
    mesh.install(&pods(&[gone.address, other.address])).await;
    let [one, two] = &mut clients;
    // On an idle connection what can be repeated is, elsewhere in the end; the rest is an error, soon.
    for _ in 0..10 {
        assert_eq!(one.get("/").await.text, "other");
        let answer = one.post("/echo", "money").await;
        assert!(answer.text == "money" || answer.status == 502, "{answer:?}");
        let answer = two.get("/").await;
        assert!(answer.text == "other" || answer.status == 502, "{answer:?}");
    }
    assert_eq!(gone.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_to_a_node_that_went_away_end_when_something_is_said_on_them() {
    if !is_inside("streams_to_a_node_that_went_away_end_when_something_is_said_on_them").await {
        return;
    }
    let gone = Server::start("gone").await;
    let (http, opaque) = (Mesh::start(impatient()), Mesh::start(impatient()));
    http.install(&pods(&[gone.address])).await;
    opaque.install(&opaque_pods(&[gone.address])).await;
    let Streams { grpc, .. } = Streams::open(&http, &opaque).await;
    goes_away(&gone).await;
    let (mut upload, mut download) = grpc;
    upload.send_data("anybody?".into(), false).unwrap();
    let end = timeout(Duration::from_secs(60), download.data()).await;
    let end = end.expect("it ends").expect("it ends with an error");
    assert!(end.is_err(), "{end:?}");
    let arm = http.arm("v1");
    eventually("it is counted", || {
        crate::mesh::counts(&arm.requests)[1] == 1
    })
    .await;
}

/// An endpoint that takes connections, upgrades them if it is asked to, and rests until it is told that it may read on. Its kernel has room for little meanwhile.
async fn resting(told: watch::Receiver<bool>) -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = socket.listen(16).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(rests(stream, told.clone()));
        }
    });
    address
}

async fn rests(mut stream: TcpStream, mut told: watch::Receiver<bool>) {
    let mut seen = Vec::new();
    let mut is_upgrade = false;
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
        is_upgrade |= seen.ends_with(b"GET /chat");
        if !is_upgrade && seen.ends_with(b"\r\n") {
            break;
        }
    }
    if is_upgrade {
        let head = b"HTTP/1.1 101 Upgraded\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(head).await.unwrap();
    }
    told.wait_for(|told| *told).await.unwrap();
    while !seen.ends_with(END) {
        // Those that were given up have no end.
        match stream.read_buf(&mut seen).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
    let head: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    let answer = [if is_upgrade { b"" } else { head }, b"all"].concat();
    stream.write_all(&answer).await.unwrap();
}

/// The last bytes for an endpoint that rests.
const END: &[u8] = b"the end";

/// The kernel does not tell an endpoint that rests from one that is gone.
#[tokio::test]
async fn an_endpoint_may_rest_before_a_large_body_or_what_is_no_http_any_more() {
    let (tell, told) = watch::channel(false);
    let mesh = Mesh::start(Given {
        limits: Limits {
            silence: SHORT,
            ..Limits::default()
        },
        ..Given::default()
    });
    mesh.install(&pods(&[resting(told).await])).await;
    let large = [&[b'x'; 100 * 1024], END].concat();
    let mut websocket = upgraded(mesh.outbound).await;
    websocket.write_all(&large).await.unwrap();
    let mut client = Client::http1(mesh.outbound).await;
    let upload = tokio::spawn(async move { client.post("/", large).await });
    // It would be as long ago for them as it is for these, of which it is known that they were not taken in time.
    for _ in 0..3 {
        let mut request = get("/");
        let name = "x".repeat(30 * 1024).parse().unwrap();
        request.headers_mut().insert("x-large", name);
        let mut client = Client::http1(mesh.outbound).await;
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    }
    tell.send_replace(true);
    let answer = timeout(PATIENCE, upload).await.expect("an answer");
    assert_eq!(answer.unwrap().text, "all");
    let mut answer = [0; 3];
    let read = timeout(PATIENCE, websocket.read_exact(&mut answer)).await;
    read.expect("an answer").expect("no reset");
    assert_eq!(&answer, b"all");
}
