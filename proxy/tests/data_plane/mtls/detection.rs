//! A sidecar's TLS is found out, in whatever pieces it comes; an application's own is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aviary_proxy::control::Identify;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use traffic_core::config::Protocol;

use super::authority::Authority;
use super::tap::{Manner, Tap};
use super::{Chosen, PATIENCE, Pair, SECRET, handshakes};
use crate::client::{Client, eventually, post};
use crate::mesh::{Given, Mesh, counts};
use crate::server::{Server, accepting};

#[tokio::test]
async fn a_hello_in_pieces_or_after_a_silence_never_reaches_the_application() {
    let app = Server::start("web").await;
    for manner in [
        Manner {
            // Not each byte alone: a handshake has no more than 2 s.
            pieces: Some(7),
            ..Manner::default()
        },
        Manner {
            delay: Duration::from_millis(100),
            ..Manner::default()
        },
    ] {
        let chosen = Chosen {
            manner,
            ..Chosen::default()
        };
        let pair = Pair::of_one_mesh(app.address, chosen).await;
        for mut client in Client::both(pair.calling.outbound).await {
            assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
        }
        pair.assert_secret();
        assert_eq!(handshakes(&pair.called, "inbound", "failure"), 0);
    }
    assert_eq!(app.requests(), 4);
}

/// A caller that is silent at first may mean that the server speaks first, so there is a connection to it before anybody knows.
#[tokio::test]
async fn a_connection_that_was_made_in_vain_is_not_kept() {
    let vain = Arc::new(AtomicUsize::new(0));
    let counter = vain.clone();
    let app = accepting(move |mut stream| {
        let counter = counter.clone();
        async move {
            let (mut bytes, mut is_used) = ([0; 4096], false);
            while let Ok(1..) = stream.read(&mut bytes).await {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                is_used = true;
            }
            counter.fetch_add(usize::from(!is_used), Ordering::SeqCst);
        }
    })
    .await;
    let manner = Manner {
        delay: Duration::from_millis(100),
        ..Manner::default()
    };
    let chosen = Chosen {
        manner,
        ..Chosen::default()
    };
    let pair = Pair::of_one_mesh(app, chosen).await;
    let mut client = Client::http1(pair.calling.outbound).await;
    assert_eq!(client.get("/").await.text, "ok");
    eventually("it is closed", || vain.load(Ordering::SeqCst) == 1).await;
}

/// An application with TLS of its own, and what a client of it believes.
pub(super) async fn with_tls() -> (std::net::SocketAddr, RootCertStore) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["app.example".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap().der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = accepting(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut bytes = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                stream.write_all(&bytes[..read]).await.unwrap();
            }
            let _ = stream.shutdown().await;
        }
    })
    .await;
    (address, roots)
}

#[tokio::test]
async fn an_applications_own_tls_passes_untouched() {
    let (app, roots) = with_tls().await;
    let called = Mesh::start(Given {
        inbound: app,
        ..Given::default()
    });
    let root = Authority::new("root");
    for is_late in [false, true] {
        if is_late {
            let identity = root.identity(1, "web", &[&root]);
            called.data.identify(identity).await;
        }
        for (pieces, alpn) in [
            (None, vec![]),
            (Some(1), vec![b"h2".to_vec(), b"http/1.1".to_vec()]),
            (Some(100), vec![vec![b'x'; 250]; 80]),
        ] {
            let manner = Manner {
                pieces,
                ..Manner::default()
            };
            let tap = Tap::before(called.inbound, manner).await;
            let mut config = ClientConfig::builder()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = alpn;
            let tcp = TcpStream::connect(tap.address).await.unwrap();
            let name = "app.example".try_into().unwrap();
            let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
            let mut stream = timeout(PATIENCE, handshake).await.unwrap().unwrap();
            stream.write_all(SECRET.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut echo = String::new();
            let read = stream.read_to_string(&mut echo);
            timeout(PATIENCE, read).await.unwrap().unwrap();
            assert_eq!(echo, SECRET);
        }
    }
    assert_eq!(handshakes(&called, "inbound", "success"), 0);
    assert_eq!(handshakes(&called, "inbound", "failure"), 0);
}

/// By the sidecar of its caller, which speaks mutual TLS with the other one: TLS within TLS.
#[tokio::test]
async fn an_applications_own_tls_passes_two_sidecars() {
    let (app, roots) = with_tls().await;
    for protocol in [Protocol::Detect, Protocol::Opaque] {
        let chosen = Chosen {
            protocol,
            ..Chosen::default()
        };
        let pair = Pair::of_one_mesh(app, chosen).await;
        let config = ClientConfig::builder()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let name = "app.example".try_into().unwrap();
        let tcp = pair.connect().await;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let mut stream = timeout(PATIENCE, handshake).await.unwrap().unwrap();
        stream.write_all(SECRET.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut echo = String::new();
        let read = stream.read_to_string(&mut echo);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        assert_eq!(echo, SECRET);
        assert_eq!(handshakes(&pair.called, "inbound", "success"), 1);
        assert_eq!(counts(&pair.calling.arm("v1").connections), [1, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_sidecars_hello_to_an_application_that_is_away_is_answered_all_the_same() {
    let nobody = crate::server::nobody().await;
    let pair = Pair::of_one_mesh(nobody, Chosen::default()).await;
    for mut client in Client::both(pair.calling.outbound).await {
        // By a status or by the stream's reset, as without TLS.
        if let Ok(answer) = client.send(post("/echo", SECRET)).await {
            assert_eq!(answer.status(), 503);
        }
    }
    eventually("what its sidecar says is understood", || {
        counts(&pair.calling.arm("v1").requests) == [0, 0, 0, 2]
    })
    .await;
    assert_eq!(handshakes(&pair.calling, "outbound", "failure"), 0);
    pair.assert_secret();
}
