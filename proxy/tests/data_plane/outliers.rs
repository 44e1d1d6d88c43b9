//! Endpoints that fail again and again, beside others that do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use traffic_core::config::Protocol;
use traffic_core::outlier::CONSECUTIVE;

use crate::client::{Client, eventually};
use crate::mesh::{Mesh, Service, counts};
use crate::retries::{policy, with};
use crate::server::{Server, nobody, opaque, raw};
use crate::withdrawal::reads;

/// A proxy whose Service has these two endpoints.
async fn between(one: &Server, other: &Server) -> Mesh {
    let service = Service {
        stable: vec![one.address, other.address],
        ..Service::default()
    };
    Mesh::with(&service).await
}

/// How many of so many requests fail, over both versions of HTTP.
async fn failed(mesh: &Mesh, path: &str, requests: usize) -> usize {
    let mut clients = Client::both(mesh.outbound).await;
    let mut failed = 0;
    for number in 0..requests {
        let answer = clients[number % 2].get(path).await;
        failed += usize::from(answer.status == StatusCode::INTERNAL_SERVER_ERROR);
    }
    failed
}

#[tokio::test]
async fn one_that_fails_gets_no_more_than_a_few_requests() {
    let (bad, good) = (Server::start("bad").await, Server::start("good").await);
    let mesh = between(&bad, &good).await;
    let failed = failed(&mesh, "/fails-at/bad", 200).await;
    assert!(failed <= usize::from(CONSECUTIVE), "{failed}");
    assert_eq!(good.requests(), 200 - failed);
}

/// The cost alone would choose it: it fails quickly, and the other one has just been slow.
#[tokio::test]
async fn one_that_fails_is_out_although_it_is_the_quicker_one() {
    let (bad, good) = (Server::start("bad").await, Server::start("good").await);
    let mesh = between(&bad, &good).await;
    loop {
        let (outbound, asked) = (mesh.outbound, [bad.requests(), good.requests()]);
        let held = tokio::spawn(async move { Client::http1(outbound).await.get("/held").await });
        let is_held = || [bad.requests(), good.requests()] != asked;
        eventually("a request is held", is_held).await;
        let server = if bad.requests() > asked[0] {
            &bad
        } else {
            &good
        };
        if server.address == good.address {
            sleep(Duration::from_secs(3)).await;
        }
        server.state.held.add_permits(1);
        held.await.unwrap();
        if server.address == good.address {
            break;
        }
    }
    let failed = failed(&mesh, "/fails-at/bad", 100).await;
    assert!(failed <= usize::from(CONSECUTIVE), "{failed}");
}

#[tokio::test]
async fn what_fails_everywhere_is_asked_everywhere() {
    let (one, other) = (Server::start("v1").await, Server::start("v1").await);
    let mesh = between(&one, &other).await;
    assert_eq!(failed(&mesh, "/fails-at/v1", 100).await, 100);
    let asked = [one.requests(), other.requests()];
    assert!(asked.iter().all(|n| *n > 20), "{asked:?}");
}

#[tokio::test]
async fn a_call_of_grpc_fails_by_what_it_says_at_its_end() {
    let (bad, good) = (Server::start("bad").await, Server::start("good").await);
    let mesh = between(&bad, &good).await;
    let mut client = Client::http2(mesh.outbound).await;
    let mut unavailable = 0;
    for _ in 0..100 {
        let answer = client.grpc_at("/grpc-at/bad/14").await;
        unavailable += usize::from(answer.trailers.unwrap()["grpc-status"] == "14");
    }
    assert!(unavailable <= usize::from(CONSECUTIVE), "{unavailable}");
    assert!(good.requests() >= 95);
}

/// As if each took the same time: only requests in progress decide, and how long an endpoint is known.
#[tokio::test]
async fn one_that_is_new_beside_an_older_one_begins_with_a_part_of_its_share() {
    const REQUESTS: usize = 100;
    let (older, newer) = (Server::start("v1").await, Server::start("v1").await);
    let service = Service {
        stable: vec![older.address],
        ..Service::default()
    };
    let mesh = Mesh::with(&service).await;
    sleep(Duration::from_secs(4)).await;
    let both = Service {
        stable: vec![older.address, newer.address],
        ..service
    };
    mesh.install(&both).await;
    let mut held = Vec::new();
    for _ in 0..REQUESTS {
        let mut client = Client::http1(mesh.outbound).await;
        held.push(tokio::spawn(async move { client.get("/held").await }));
    }
    let asked = || older.requests() + newer.requests();
    eventually("all are in flight", || asked() == REQUESTS).await;
    // Without that it would be half of them, to within one.
    assert!(newer.requests() < REQUESTS / 2 - 2, "{}", newer.requests());
    for server in [&older, &newer] {
        server.state.held.add_permits(REQUESTS);
    }
    for request in held {
        request.await.unwrap();
    }
}

/// Answers with half of what it says it will.
async fn breaking() -> (SocketAddr, Arc<AtomicUsize>) {
    let broken = Arc::<AtomicUsize>::default();
    let count = broken.clone();
    let address = raw(move |mut stream, _| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
            stream.write_all(part).await.unwrap();
        }
    })
    .await;
    (address, broken)
}

#[tokio::test]
async fn one_whose_answers_break_off_is_out_although_their_heads_are_well() {
    let (bad, broken) = breaking().await;
    let good = Server::start("good").await;
    let service = Service {
        stable: vec![bad, good.address],
        ..Service::default()
    };
    let mesh = Mesh::with(&service).await;
    for _ in 0..100 {
        // A connection of a caller's ends with an answer that breaks off.
        let _ = Client::http1(mesh.outbound).await.try_get("/").await;
    }
    let broken = broken.load(Ordering::SeqCst);
    assert!(broken <= usize::from(CONSECUTIVE), "{broken}");
    assert_eq!(good.requests(), 100 - broken);
}

#[tokio::test]
async fn one_whose_failures_no_caller_sees_is_out_too() {
    let (bad, good) = (Server::start("bad").await, Server::start("good").await);
    let service = Service {
        stable: vec![bad.address, good.address],
        ..Service::default()
    };
    let mesh = Mesh::with(&with(service, policy("500"))).await;
    assert_eq!(failed(&mesh, "/fails-at/bad", 100).await, 0);
    assert!(
        bad.requests() <= usize::from(CONSECUTIVE),
        "{}",
        bad.requests()
    );
}

#[tokio::test]
async fn one_that_takes_no_connection_is_out() {
    let good = Server::start("good").await;
    let service = Service {
        stable: vec![nobody().await, good.address],
        ..Service::default()
    };
    let mesh = Mesh::with(&service).await;
    assert_eq!(failed(&mesh, "/", 100).await, 0);
    assert_eq!(good.requests(), 100);
    let [.., unsent] = counts(&mesh.arm("v1").first_attempts);
    assert!(unsent <= u64::from(CONSECUTIVE), "{unsent}");
}

#[tokio::test]
async fn one_that_takes_no_connection_is_out_for_bytes_that_nobody_reads_too() {
    let service = Service {
        protocol: Protocol::Opaque,
        stable: vec![nobody().await, opaque("v1").await],
        ..Service::default()
    };
    let mesh = Mesh::with(&service).await;
    for _ in 0..50 {
        let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
        reads(&mut stream, b"v1").await;
    }
    let [.., unsent] = counts(&mesh.arm("v1").connections);
    assert!(unsent <= u64::from(CONSECUTIVE), "{unsent}");
}
