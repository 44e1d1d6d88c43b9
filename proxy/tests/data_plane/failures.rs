//! What goes wrong, who sees it, and what it counts as.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, eventually, get, streamed};
use crate::mesh::{Given, ITSELF, Mesh, Service, counts};
use crate::server::{Server, nobody, raw};

#[tokio::test]
async fn a_canary_that_refuses_connections_costs_no_request_and_is_counted_against_it() {
    let stable = Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(stable.address, nobody().await, 10)).await;
    for client in &mut Client::both(mesh.outbound).await {
        for _ in 0..50 {
            assert_eq!(client.get("/").await.text, "v1");
            assert_eq!(client.post("/echo", "body").await.text, "body");
        }
    }
    let (stable, canary) = (mesh.arm("v1"), mesh.arm("v2"));
    assert_eq!(counts(&canary.first_attempts), [0, 0, 0, 20]);
    assert_eq!(counts(&canary.requests), [0, 0, 0, 0]);
    assert_eq!(counts(&stable.first_attempts), [180, 0, 0, 0]);
    assert_eq!(counts(&stable.requests), [200, 0, 0, 0]);
}

#[tokio::test]
async fn a_stable_endpoint_that_refuses_is_replaced_by_another() {
    let stable = Server::start("v1").await;
    let service = Service {
        stable: vec![nobody().await, stable.address],
        ..Service::default()
    };
    let mesh = Mesh::with(&service).await;
    for client in &mut Client::both(mesh.outbound).await {
        for _ in 0..20 {
            assert_eq!(client.get("/").await.text, "v1");
        }
    }
}

#[tokio::test]
async fn a_canary_without_endpoints_leaves_its_share_to_stable() {
    let stable = Server::start("v1").await;
    let service = Service {
        stable: vec![stable.address],
        ..Service::default()
    }
    .at(50);
    let mesh = Mesh::with(&service).await;
    for client in &mut Client::both(mesh.outbound).await {
        for _ in 0..10 {
            assert_eq!(client.get("/").await.text, "v1");
        }
    }
    assert_eq!(counts(&mesh.arm("v2").first_attempts), [0, 0, 0, 10]);
}

#[tokio::test]
async fn nobody_at_all_is_a_503_that_says_why() {
    let mesh = Mesh::with(&Service::default()).await;
    for client in &mut Client::both(mesh.outbound).await {
        let answer = client.get("/").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            answer.headers["x-aviary-error"]
                .to_str()
                .unwrap()
                .contains("no healthy endpoint of shop/web/80")
        );
        assert!(answer.text.contains("revision v1"), "{}", answer.text);
    }
    assert_eq!(counts(&mesh.arm("v1").requests), [0, 0, 0, 2]);
}

#[tokio::test]
async fn a_request_whose_fate_is_unknown_is_never_sent_again() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let dies = raw(move |stream, _request| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { drop(stream) }
    })
    .await;
    let mesh = Mesh::with(&Service::new(dies, dies, 50)).await;
    for _ in 0..10 {
        let answer = Client::http1(mesh.outbound).await.post("/", "money").await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    }
    assert_eq!(hits.load(Ordering::SeqCst), 10);
    assert_eq!(counts(&mesh.arm("v2").first_attempts), [0, 5, 0, 0]);
}

#[tokio::test]
async fn server_errors_are_failures_and_caller_errors_are_not() {
    let server = Server::start("v2").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 100)).await;
    for client in &mut Client::both(mesh.outbound).await {
        for status in ["200", "404", "429", "500", "503"] {
            assert_eq!(
                client
                    .get(&format!("/status/{status}"))
                    .await
                    .status
                    .as_str(),
                status
            );
        }
    }
    assert_eq!(counts(&mesh.arm("v2").requests), [6, 4, 0, 0]);
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_a_failure_and_reaches_the_caller_as_one() {
    let cuts = raw(|mut stream, _request| async move {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot all")
            .await
            .unwrap();
    })
    .await;
    let mesh = Mesh::with(&Service::new(cuts, cuts, 100)).await;
    assert!(
        Client::http1(mesh.outbound)
            .await
            .try_get("/")
            .await
            .is_err()
    );
    assert_eq!(counts(&mesh.arm("v2").first_attempts), [0, 1, 0, 0]);
}

#[tokio::test]
async fn a_caller_that_leaves_speaks_against_nobody() {
    let server = Server::start("v2").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 100)).await;
    for mut client in Client::both(mesh.outbound).await {
        // Before the head of the answer, and in the middle of its body.
        let held = server.requests() + 1;
        let waiting = tokio::spawn(async move {
            let _ = client.try_get("/held").await;
        });
        eventually("the request arrives", || server.requests() == held).await;
        waiting.abort();
    }
    eventually("both are counted", || {
        counts(&mesh.arm("v2").requests)[2] == 2
    })
    .await;
    for mut client in Client::both(mesh.outbound).await {
        let response = client.send(get("/endless")).await.unwrap();
        drop(response);
    }
    eventually("all are counted", || {
        counts(&mesh.arm("v2").requests) == [0, 0, 4, 0]
    })
    .await;
}

#[tokio::test]
async fn a_connection_to_the_proxys_own_listeners_is_refused() {
    let mesh = Mesh::start(Given {
        outbound: ITSELF,
        inbound: ITSELF,
        ..Given::default()
    });
    for listener in [mesh.outbound, mesh.inbound] {
        let mut stream = TcpStream::connect(listener).await.unwrap();
        let read = stream.read(&mut [0; 1]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    let text = mesh.metrics.render().unwrap();
    assert!(
        text.contains("aviary_passthrough_connections_total{reason=\"no_answer\"} 0"),
        "{text}"
    );
}

#[tokio::test]
async fn a_streamed_body_passes_and_is_not_sent_twice() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(server.address, nobody().await, 50)).await;
    for client in &mut Client::both(mesh.outbound).await {
        for _ in 0..10 {
            let response = client
                .send(streamed("/echo", vec!["one ", "two ", "three"]))
                .await
                .unwrap();
            assert_eq!(
                crate::client::whole(response).await.unwrap().text,
                "one two three"
            );
        }
    }
    assert_eq!(server.requests(), 20);
}
