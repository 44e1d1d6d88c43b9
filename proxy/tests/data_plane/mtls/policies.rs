//! Who may call: by name, at a port.

use std::net::SocketAddr;

use aviary_proxy::control::Identify;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use traffic_core::config::{Inbound, Protocol};
use traffic_core::inbound::{Caller, Callers, Grant};
use traffic_core::spiffe::TrustDomain;

use super::authority::{self, Authority};
use super::strict::{refused, says, strict, tell};
use super::{Chosen, PATIENCE, Pair, SECRET};
use crate::client::{Client, eventually};
use crate::server::{Server, idle_times, opaque};

/// Only this ServiceAccount of `shop` may call, at these ports.
fn only(account: &str, ports: &[u16], app: SocketAddr) -> Inbound {
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let grant = Grant {
        ports: ports.to_vec(),
        from: vec![Caller::account(&domain, "shop", account).unwrap()],
    };
    Inbound {
        callers: Callers::Only(vec![grant]),
        probes: strict(app).probes,
        ..Inbound::default()
    }
}

/// `api` calls `web`, before `app`.
async fn pair(app: SocketAddr, protocol: Protocol) -> Pair {
    let chosen = Chosen {
        protocol,
        ..Chosen::default()
    };
    Pair::of_one_mesh(app, chosen).await
}

#[tokio::test]
async fn another_service_account_is_refused_and_the_one_that_is_allowed_is_not() {
    let app = Server::start("web").await;
    let pair = pair(app.address, Protocol::Http).await;
    let port = app.address.port();
    let (api, web) = (authority::id("api"), authority::id("web"));
    tell(&pair.called, only("other", &[port], app.address)).await;
    for mut client in Client::both(pair.calling.outbound).await {
        let answer = client.post("/echo", SECRET).await;
        assert_eq!(answer.status, 403);
        let text = &answer.text;
        assert!(
            text.contains(&api) && text.contains(&port.to_string()),
            "{text}"
        );
        super::assert_documented(text.trim_end(), app.address);
        assert_eq!(client.get("/healthz").await.status, 200);
    }
    let mut client = Client::http2(pair.calling.outbound).await;
    assert_eq!(client.grpc(0).await.headers["grpc-status"], "7");
    assert_eq!(app.requests(), 2, "probes");
    assert_eq!(refused(&pair.called, "not_granted", &api), 3);
    // Whoever has no identity has no name.
    let mut plain = Client::http1(pair.called.inbound).await;
    let answer = plain.get("/").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text.contains("CallerPolicy"), "{}", answer.text);
    super::assert_documented(answer.text.trim_end(), app.address);
    assert_eq!(plain.get("/healthz").await.status, 200);
    assert_eq!(refused(&pair.called, "plaintext", ""), 1);
    // By another port, and then by its own.
    tell(&pair.called, only("api", &[port ^ 1], app.address)).await;
    assert_eq!(client.get("/").await.status, 403);
    tell(&pair.called, only("api", &[port], app.address)).await;
    assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    tell(&pair.called, only("api", &[], app.address)).await;
    assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    assert!(!web.is_empty());
    pair.assert_secret();
}

#[tokio::test]
async fn a_request_on_an_old_connection_is_judged_by_the_new_policy() {
    let app = Server::start("web").await;
    let pair = pair(app.address, Protocol::Http).await;
    let begun = Instant::now();
    let mut clients = Client::both(pair.calling.outbound).await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.status, 200);
    }
    let connections = pair.tap.connections();
    for _ in 0..2 {
        tell(&pair.called, only("other", &[], app.address)).await;
        for client in &mut clients {
            assert_eq!(client.get("/").await.status, 403);
        }
        tell(&pair.called, only("api", &[], app.address)).await;
        for client in &mut clients {
            assert_eq!(client.get("/").await.status, 200);
        }
    }
    // However long this took: an idle one of HTTP/1.1 is closed after a while.
    let more = pair.tap.connections() - connections;
    assert!(
        more <= idle_times(begun),
        "they are the same ones: {more} more"
    );
}

#[tokio::test]
async fn bytes_are_carried_for_as_long_as_their_caller_may_send_them() {
    let app = opaque("").await;
    let pair = pair(app, Protocol::Opaque).await;
    let mut stream = pair.connect().await;
    let mut echo = vec![0; SECRET.len()];
    stream.write_all(SECRET.as_bytes()).await.unwrap();
    let read = timeout(PATIENCE, stream.read_exact(&mut echo));
    read.await.unwrap().unwrap();
    // What changes nothing for this caller ends nothing.
    tell(&pair.called, only("api", &[], app)).await;
    stream.write_all(SECRET.as_bytes()).await.unwrap();
    let read = timeout(PATIENCE, stream.read_exact(&mut echo));
    read.await.unwrap().unwrap();
    tell(&pair.called, only("other", &[], app)).await;
    let read = timeout(PATIENCE, stream.read(&mut echo)).await.unwrap();
    assert!(
        read.is_err(),
        "an end would say that all is there: {read:?}"
    );
    assert_eq!(says(pair.calling.outbound, SECRET.as_bytes()).await, b"");
    let api = authority::id("api");
    eventually("both are counted", || {
        refused(&pair.called, "not_granted", &api) == 2
    })
    .await;
    pair.assert_secret();
}

#[tokio::test]
async fn a_connection_that_has_left_http_is_judged_anew_as_well() {
    let app = Server::start("web").await;
    let pair = pair(app.address, Protocol::Http).await;
    tell(&pair.called, only("api", &[], app.address)).await;
    let mut stream = pair.upgraded().await;
    tell(&pair.called, only("other", &[], app.address)).await;
    let read = timeout(PATIENCE, stream.read_u8()).await.unwrap();
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn a_name_under_another_root_is_no_name() {
    let app = Server::start("web").await;
    let pair = Pair::before(app.address, Chosen::default()).await;
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let called = root.identity(1, "web", &[&root]);
    pair.called.data.identify(called).await;
    let forged = other.identity(1, "api", &[&root]);
    pair.calling.data.identify(forged).await;
    pair.calling.install(&pair.service).await;
    tell(&pair.called, only("api", &[], app.address)).await;
    for mut client in Client::both(pair.calling.outbound).await {
        let status = client.post("/echo", SECRET).await.status;
        assert!(status.is_server_error(), "{status}");
    }
    assert_eq!(app.requests(), 0);
}
