//! Callers must show who they are: whoever does not is refused, but for the kubelet's probes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aviary_proxy::control::{Identify, Install};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use traffic_core::config::{Expected, Inbound, Protocol, Snapshot};
use traffic_core::inbound::{HEALTH_CHECK, Mtls, Probe};

use super::authority::{self, Authority};
use super::detection::with_tls;
use super::{Chosen, PATIENCE, Pair, SECRET};
use crate::client::{Client, eventually, get, post};
use crate::mesh::{Given, Mesh};
use crate::server::{Server, opaque};

/// What `/healthz` of `app`, and its gRPC health, are let through with.
pub(super) fn strict(app: SocketAddr) -> Inbound {
    Inbound {
        mtls: Mtls::Strict,
        probes: vec![
            Probe::Grpc { port: app.port() },
            Probe::http(app.port(), "/healthz").unwrap(),
        ],
        ..Inbound::default()
    }
}

/// All workers do as `inbound` says.
pub(super) async fn tell(mesh: &Mesh, inbound: Inbound) {
    let snapshot = Snapshot {
        inbound: Some(Arc::new(inbound)),
        ..Snapshot::default()
    };
    mesh.data.install(Arc::new(snapshot)).await;
}

/// The sidecar of `web`, with an identity, before `app`.
pub(super) async fn sidecar(app: SocketAddr) -> Mesh {
    let mesh = Mesh::start(Given {
        inbound: app,
        ..Given::default()
    });
    let root = Authority::new("root");
    let identity = root.identity(1, "web", &[&root]);
    mesh.data.identify(identity).await;
    mesh
}

/// How often callers were refused, by this series.
pub(super) fn refused(mesh: &Mesh, reason: &str, caller: &str) -> u64 {
    let text = mesh.metrics.render().unwrap();
    let called = authority::id("web");
    let series = format!(
        "aviary_inbound_refused_total{{reason=\"{reason}\",caller=\"{caller}\",called=\"{called}\"}} "
    );
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.map_or(0, |count| count.parse().unwrap())
}

fn is_idle(mesh: &Mesh) -> bool {
    mesh.metrics.streams.load(Ordering::Relaxed) == 0
}

/// What comes back when `bytes` are sent, until the end or a reset.
pub(super) async fn says(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.write_all(bytes).await;
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("it is left open");
    answer
}

#[tokio::test]
async fn http_in_the_clear_is_told_why_it_is_refused_and_probes_are_let_through() {
    let app = Server::start("web").await;
    let mesh = sidecar(app.address).await;
    for mut client in Client::both(mesh.inbound).await {
        assert_eq!(
            client.get("/").await.status,
            200,
            "nobody demands anything yet"
        );
    }
    tell(&mesh, strict(app.address)).await;
    let before = app.requests();
    for mut client in Client::both(mesh.inbound).await {
        for path in ["/", "/healthz/", "/healthy"] {
            let answer = client.get(path).await;
            assert_eq!(answer.status, 403, "{path}");
            assert!(
                answer.text.contains("demands mutual TLS"),
                "{}",
                answer.text
            );
            assert!(answer.headers.contains_key("x-aviary-error"));
            super::assert_documented(answer.text.trim_end(), app.address);
        }
        // On the same connection, and in between.
        assert_eq!(client.get("/healthz").await.text, "web");
        assert_eq!(client.get("/").await.status, 403);
        assert_eq!(client.post(HEALTH_CHECK, "").await.status, 200);
        assert_eq!(client.post("/healthz", "x").await.status, 403);
    }
    let mut client = Client::http1(mesh.inbound).await;
    assert_eq!(
        client.get("/healthz?x=1").await.status,
        403,
        "to the letter"
    );
    let mut upgrade = get("/healthz");
    let headers = upgrade.headers_mut();
    headers.insert("connection", "Upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    let answer = client.send(upgrade).await.unwrap();
    assert_eq!(answer.status(), 403, "a probe does not leave HTTP");
    let mut client = Client::http2(mesh.inbound).await;
    let answer = client.grpc(0).await;
    assert_eq!(answer.headers["grpc-status"], "7");
    let message = answer.headers["grpc-message"].to_str().unwrap();
    assert!(message.contains("mutual TLS"), "{message}");
    assert_eq!(app.requests(), before + 4, "probes and nothing else");
    assert_eq!(refused(&mesh, "plaintext", ""), 13);
}

#[tokio::test]
async fn bytes_in_the_clear_never_reach_the_application_nor_does_it_speak_to_whoever_is_silent() {
    let app = opaque("a greeting that is nobody's business").await;
    let mesh = sidecar(app).await;
    tell(&mesh, strict(app)).await;
    assert_eq!(says(mesh.inbound, b"\x00\x01\x02\x03binary").await, b"");
    // Silent, and then with something to say: longer than anybody waits to connect for it.
    let mut stream = TcpStream::connect(mesh.inbound).await.unwrap();
    let mut byte = [0];
    let silence = timeout(Duration::from_millis(200), stream.read(&mut byte)).await;
    assert!(silence.is_err(), "somebody spoke");
    stream.write_all(b"\x00\x01\x02\x03").await.unwrap();
    let read = timeout(PATIENCE, stream.read(&mut byte)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert_eq!(refused(&mesh, "plaintext", ""), 2);
    tell(&mesh, Inbound::default()).await;
    let mut stream = TcpStream::connect(mesh.inbound).await.unwrap();
    let mut greeting = [0; 10];
    let read = timeout(PATIENCE, stream.read_exact(&mut greeting));
    read.await.unwrap().unwrap();
    assert_eq!(&greeting, b"a greeting");
}

#[tokio::test]
async fn tls_that_is_no_sidecars_is_refused() {
    let (app, roots) = with_tls().await;
    let mesh = sidecar(app).await;
    let connect = async || {
        let config = ClientConfig::builder()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let tcp = TcpStream::connect(mesh.inbound).await.unwrap();
        let name = "app.example".try_into().unwrap();
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        timeout(PATIENCE, handshake).await.unwrap()
    };
    drop(connect().await.unwrap());
    eventually("it is over", || is_idle(&mesh)).await;
    tell(&mesh, strict(app)).await;
    connect().await.unwrap_err();
    assert_eq!(refused(&mesh, "own_tls", ""), 1);
    assert_eq!(refused(&mesh, "plaintext", ""), 0);
}

#[tokio::test]
async fn a_sidecar_that_shows_who_it_is_is_let_in_whatever_it_speaks() {
    let app = Server::start("web").await;
    let pair = Pair::of_one_mesh(app.address, Chosen::default()).await;
    tell(&pair.called, strict(app.address)).await;
    for mut client in Client::both(pair.calling.outbound).await {
        assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    }
    pair.assert_secret();
    let app = opaque("hello").await;
    let pair = Pair::of_one_mesh(app, Chosen::speaking(Protocol::Detect)).await;
    tell(&pair.called, strict(app)).await;
    let mut stream = pair.connect().await;
    let mut greeting = [0; 5];
    let read = timeout(PATIENCE, stream.read_exact(&mut greeting));
    read.await.unwrap().unwrap();
    assert_eq!(&greeting, b"hello");
    pair.assert_secret();
}

#[tokio::test]
async fn a_pod_that_has_not_heard_yet_who_may_call_lets_in_probes_and_nobody_else() {
    let app = Server::start("web").await;
    let called = Mesh::start(Given {
        inbound: app.address,
        until_told: Inbound::closed(strict(app.address).probes),
        ..Given::default()
    });
    let denied = async || {
        for mut client in Client::both(called.inbound).await {
            let answer = client.get("/").await;
            assert_eq!(answer.status, 403);
            assert!(answer.text.contains("has not heard yet"), "{}", answer.text);
            super::assert_documented(answer.text.trim_end(), app.address);
            assert_eq!(client.get("/healthz").await.status, 200);
        }
        assert_eq!(says(called.inbound, b"\x00\x01\x02\x03").await, b"");
    };
    denied().await;
    let root = Authority::new("root");
    let identity = root.identity(1, "web", &[&root]);
    called.data.identify(identity).await;
    denied().await;
    // A table that says nothing of it changes nothing.
    called.data.install(Arc::new(Snapshot::default())).await;
    denied().await;
    tell(&called, Inbound::default()).await;
    let mut client = Client::http1(called.inbound).await;
    assert_eq!(client.get("/").await.status, 200);
    // And one that is told nothing any more goes on with what it knows.
    tell(&called, strict(app.address)).await;
    called.data.install(Arc::new(Snapshot::default())).await;
    assert_eq!(client.get("/").await.status, 403);
}

#[tokio::test]
async fn whoever_calls_without_an_identity_is_remembered_and_probes_and_sidecars_are_not() {
    let app = Server::start("web").await;
    let pair = Pair::of_one_mesh(app.address, Chosen::default()).await;
    let seen = || pair.called.data.unidentified();
    let mut early = Client::http1(pair.called.inbound).await;
    early.get("/").await;
    assert_eq!(seen(), [], "probes cannot be told from others yet");
    let permissive = Inbound {
        mtls: Mtls::Permissive,
        ..strict(app.address)
    };
    tell(&pair.called, permissive).await;
    for mut client in Client::both(pair.called.inbound).await {
        client.get("/healthz").await;
    }
    let mut mesh = Client::http1(pair.calling.outbound).await;
    assert_eq!(mesh.get("/").await.status, 200);
    assert_eq!(seen(), []);
    // A connection that is older than the rules as well.
    early.get("/").await;
    let [(caller, age)] = seen()[..] else {
        panic!("{:?}", seen());
    };
    assert_eq!(caller.address.to_string(), "127.0.0.1");
    assert_eq!(caller.port, app.address.port());
    assert_eq!(age, Duration::ZERO, "it is still there");
}

/// An endpoint in a namespace that refuses plaintext, whatever its sidecar has said.
fn demanding() -> Chosen {
    Chosen {
        expects: authority::accepting("web").map(|it| Expected {
            accepts: false,
            demands: true,
            ..it
        }),
        ..Chosen::default()
    }
}

#[tokio::test]
async fn a_caller_without_an_identity_waits_for_it_where_nothing_goes_in_the_clear() {
    let app = Server::start("web").await;
    let pair = Pair::before(app.address, demanding()).await;
    let root = Authority::new("root");
    let called = root.identity(1, "web", &[&root]);
    pair.called.data.identify(called).await;
    pair.calling.install(&pair.service).await;
    let clients = Client::both(pair.calling.outbound).await;
    let asking = clients.map(|mut client| async move {
        let answer = client.post("/echo", SECRET).await;
        (answer.status, answer.text)
    });
    let identity = root.identity(1, "api", &[&root]);
    let arrives = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((pair.tap.bytes(), app.requests()), (0, 0), "it waits");
        pair.calling.data.identify(identity).await;
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(asking), arrives);
    for answer in answers {
        assert_eq!(answer, (http::StatusCode::OK, SECRET.to_owned()));
    }
    pair.assert_secret();
    let mut client = Client::http1(pair.calling.outbound).await;
    assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    pair.assert_secret();
}

#[tokio::test]
async fn a_caller_that_gets_no_identity_sends_nothing_where_nothing_goes_in_the_clear() {
    let app = Server::start("web").await;
    let pair = Pair::before(app.address, demanding()).await;
    pair.calling.install(&pair.service).await;
    for mut client in Client::both(pair.calling.outbound).await {
        let answer = client.send(post("/echo", SECRET)).await.unwrap();
        assert_eq!(answer.status(), 503);
        let error = answer.headers()["x-aviary-error"].to_str().unwrap();
        assert!(error.contains("no certificate yet"), "{error}");
    }
    assert_eq!((pair.tap.bytes(), app.requests()), (0, 0));
}

#[tokio::test]
async fn an_open_connection_in_the_clear_is_judged_anew() {
    let app = Server::start("web").await;
    let mesh = sidecar(app.address).await;
    let mut clients = Client::both(mesh.inbound).await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.status, 200);
    }
    let echo = opaque("").await;
    let bytes = sidecar(echo).await;
    let mut stream = TcpStream::connect(bytes.inbound).await.unwrap();
    let mut echoed = [0; 4];
    stream.write_all(b"\x00\x01\x02\x03").await.unwrap();
    let read = timeout(PATIENCE, stream.read_exact(&mut echoed));
    read.await.unwrap().unwrap();
    tell(&mesh, strict(app.address)).await;
    tell(&bytes, strict(echo)).await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.status, 403);
        assert_eq!(client.get("/healthz").await.status, 200);
    }
    let read = timeout(PATIENCE, stream.read(&mut echoed)).await.unwrap();
    assert!(
        read.is_err(),
        "an end would say that all is there: {read:?}"
    );
    tell(&mesh, Inbound::default()).await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.status, 200);
    }
    eventually("nothing is left open", || is_idle(&bytes)).await;
}
