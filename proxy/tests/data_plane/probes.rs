//! The kubelet's probes and hooks, each kind of which has to tell a living application from a dead one. `exec` runs in the container and meets no
//! proxy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use traffic_core::inbound::Inbound;
use traffic_core::peer::Peer;

use crate::client::{Client, eventually, whole};
use crate::mesh::{Given, Mesh, counts};
use crate::server::{Server, closed, nobody, opaque};

/// The first bytes of a ClientHello that no sidecar sends.
const CLIENT_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x31, 0x01, 0x00, 0x00, 0x2d, 0x03, 0x03, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
    0x00, 0x00, 0x02, 0x13, 0x01, 0x01, 0x00, 0x00, 0x02, 0x00, 0x00,
];

#[tokio::test]
async fn a_tcp_probe_says_whether_the_application_takes_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mesh = Mesh::start(Given {
        tcp_probes: vec![port],
        ..Given::default()
    });
    let mut kubelet = Client::http1(mesh.admin).await;
    let path = format!("/probe/tcp/{port}");
    let alive = kubelet.get(&path).await;
    assert_eq!(alive.status, StatusCode::OK, "{}", alive.text);
    listener.accept().await.unwrap();
    // Nobody reads and nobody writes: connections are all that it is about.
    assert_eq!(kubelet.get(&path).await.status, StatusCode::OK);
    let address = listener.local_addr().unwrap();
    drop(listener);
    let _closed = closed(address).await;
    let dead = kubelet.get(&path).await;
    assert_eq!(dead.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(dead.text.contains("cannot connect"), "{}", dead.text);
}

#[tokio::test]
async fn nobody_can_look_through_a_pod_for_its_open_ports() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Given {
        tcp_probes: vec![1],
        ..Given::default()
    });
    let mut scanner = Client::http1(mesh.admin).await;
    let (open, shut) = (app.address.port(), nobody().await.port());
    for port in [open, shut] {
        let answer = scanner.get(&format!("/probe/tcp/{port}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert!(
            answer.text.starts_with("no tcpSocket probe of this pod"),
            "{}",
            answer.text
        );
    }
    for bad in ["", "0", "web", "65536", "10.0.0.1:80"] {
        let answer = scanner.get(&format!("/probe/tcp/{bad}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{bad}");
    }
    assert_eq!(app.connections(), 0);
}

/// As the kubelet asks: at the pod's address, each time on a connection of its own.
async fn asked(mesh: &Mesh, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(mesh.inbound).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.chars().skip("HTTP/1.1 ".len()).take(3).collect()
}

#[tokio::test]
async fn an_http_probe_is_answered_by_the_application_or_fails() {
    let app = Server::start("app").await;
    let own = app.address.to_string();
    let mesh = Mesh::start(Given {
        inbound: app.address,
        ..Given::default()
    });
    for (path, status) in [("/", "200"), ("/status/404", "404"), ("/status/500", "500")] {
        assert_eq!(asked(&mesh, &own, path).await, status);
    }
    let port = mesh.metrics.port(app.address.port());
    eventually("all count as probes", || {
        counts(port.requests(Peer::Probe)) == [2, 1, 0, 0]
    })
    .await;
    let dead = Mesh::start(Given {
        inbound: nobody().await,
        ..Given::default()
    });
    assert_eq!(asked(&dead, &own, "/").await, "503");
}

#[tokio::test]
async fn a_probe_under_another_name_is_one_by_its_path() {
    let app = Server::start("app").await;
    let declared = format!("{}/status/204", app.address.port());
    let mesh = Mesh::start(Given {
        inbound: app.address,
        probe_paths: vec![declared.leak()],
        ..Given::default()
    });
    for path in ["/status/204", "/status/204?x", "/"] {
        asked(&mesh, "web.example", path).await;
    }
    let mut client = Client::http2(mesh.inbound).await;
    let request = Request::builder().uri("http://web.example/status/204");
    let request = request.body(Default::default()).unwrap();
    whole(client.send(request).await.unwrap()).await.unwrap();
    let port = mesh.metrics.port(app.address.port());
    let by_peer = || Peer::ALL.map(|peer| counts(port.requests(peer))[0]);
    eventually("each counts once", || by_peer() == [0, 2, 2]).await;
}

#[tokio::test]
async fn a_grpc_probe_is_answered_by_the_application_or_fails() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Given {
        inbound: app.address,
        ..Given::default()
    });
    let mut kubelet = Client::http2(mesh.inbound).await;
    for code in [0, 12, 14] {
        let answer = kubelet.grpc(code).await;
        let status = answer.trailers.unwrap()["grpc-status"].clone();
        assert_eq!(status, code.to_string());
    }
    let dead = Mesh::start(Given {
        inbound: nobody().await,
        ..Given::default()
    });
    let refused = Client::http2(dead.inbound).await.try_get("/").await;
    assert!(refused.is_err());
}

/// An application with a certificate of its own making, which answers each request with the status of its first path segment; what it was asked.
async fn secure() -> (SocketAddr, mpsc::UnboundedReceiver<Parts>) {
    let issued = rcgen::generate_simple_self_signed(["web.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, asked) = (acceptor.clone(), asked.clone());
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| {
                    let (head, _) = request.into_parts();
                    let status = head.uri.path().trim_start_matches('/').parse();
                    asked.send(head).ok();
                    let mut answer = Response::new(String::new());
                    *answer.status_mut() = status.unwrap();
                    async move { Ok::<_, Infallible>(answer) }
                });
                let tls = acceptor.accept(tcp).await.unwrap();
                let served = http1::Builder::new().serve_connection(TokioIo::new(tls), answer);
                served.await.ok();
            });
        }
    });
    (address, received)
}

#[tokio::test]
async fn a_probe_by_https_is_asked_by_the_sidecar_wherever_callers_must_show_who_they_are() {
    let (app, mut received) = secure().await;
    let declare = |path: &str| -> &'static str { format!("{}{path}", app.port()).leak() };
    let silent: &'static str = format!("{}/200", nobody().await.port()).leak();
    let mesh = Mesh::start(Given {
        inbound: app,
        https_probes: vec![
            declare("/200?deep"),
            declare("/302"),
            declare("/500"),
            silent,
        ],
        until_told: Inbound::closed(vec![]),
        ..Given::default()
    });
    let ask = async |asked: &str| {
        let mut kubelet = Client::http1(mesh.admin).await;
        kubelet.get(&format!("/probe/https/{asked}")).await
    };
    for (path, status) in [("/200?deep", 200), ("/302", 302), ("/500", 500)] {
        let answer = ask(declare(path)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let head = received.recv().await.unwrap();
        assert_eq!(head.uri.to_string(), path);
        // As the kubelet names it.
        assert_eq!(head.headers["host"], "web");
    }
    let dead = ask(silent).await;
    assert_eq!(dead.status, 503);
    assert!(dead.text.contains("cannot connect"), "{}", dead.text);
    for undeclared in ["/200", "/"] {
        assert_eq!(ask(declare(undeclared)).await.status, 404);
    }
    assert!(received.try_recv().is_err(), "nobody else was asked");
}

/// The kubelet speaks TLS to the application itself, and looks at no certificate.
#[tokio::test]
async fn an_https_probe_reaches_the_application_or_fails() {
    let mesh = Mesh::start(Given {
        inbound: opaque("").await,
        ..Given::default()
    });
    let mut kubelet = TcpStream::connect(mesh.inbound).await.unwrap();
    kubelet.write_all(CLIENT_HELLO).await.unwrap();
    let mut echo = vec![0; CLIENT_HELLO.len()];
    kubelet.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, CLIENT_HELLO);

    let dead = Mesh::start(Given {
        inbound: nobody().await,
        ..Given::default()
    });
    let mut kubelet = TcpStream::connect(dead.inbound).await.unwrap();
    kubelet.write_all(CLIENT_HELLO).await.unwrap();
    let mut answer = Vec::new();
    // A reset is a failure too.
    let _ = kubelet.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
}
