//! What is no HTTP, whichever way it goes: by a route whose port says so, by one whose port says nothing, to an address without a route (a headless Service, a
//! pod of a StatefulSet, whatever is outside), and in from outside. TLS between sidecars is in `mtls`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aviary_proxy::control::Install;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use traffic_core::config::{Protocol, Snapshot};

use crate::mesh::{Given, Mesh, Service};
use crate::server::{accepting, opaque, raw};

const PATIENCE: Duration = Duration::from_secs(10);
/// More than one buffer, and no HTTP.
const LARGE: usize = 300_000;

#[derive(Clone, Copy, Debug)]
enum Way {
    Route(Protocol),
    /// Its control plane has said that there is none.
    NoRoute,
    In,
}

const WAYS: [Way; 4] = [
    Way::Route(Protocol::Opaque),
    Way::Route(Protocol::Detect),
    Way::NoRoute,
    Way::In,
];

/// A caller's connection, and what carries it to `app`.
async fn connect(way: Way, app: SocketAddr) -> (TcpStream, Mesh) {
    let mesh = Mesh::start(match way {
        Way::Route(_) => Given::default(),
        Way::NoRoute => Given {
            outbound: app,
            ..Given::default()
        },
        Way::In => Given {
            inbound: app,
            ..Given::default()
        },
    });
    let listener = match way {
        Way::Route(protocol) => {
            let service = Service::new(app, app, 0);
            mesh.install(&Service {
                protocol,
                ..service
            })
            .await;
            mesh.outbound
        }
        Way::NoRoute => {
            let known = Snapshot {
                routes: [(app, None)].into(),
                ..Snapshot::default()
            };
            mesh.data.install(Arc::new(known)).await;
            mesh.outbound
        }
        Way::In => mesh.inbound,
    };
    (TcpStream::connect(listener).await.unwrap(), mesh)
}

async fn read_all(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    read.expect("an end").map(|_| bytes)
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_by_a_caller_that_never_speaks() {
    let app = opaque("220 mail\n").await;
    for way in WAYS {
        let (mut stream, _mesh) = connect(way, app).await;
        let mut greeting = [0; 9];
        let read = timeout(PATIENCE, stream.read_exact(&mut greeting)).await;
        read.expect("a greeting").unwrap();
        assert_eq!(greeting, *b"220 mail\n", "{way:?}");
    }
}

#[tokio::test]
async fn a_caller_that_says_no_more_is_answered() {
    let app = accepting(|mut stream| async move {
        let heard = read_all(&mut stream).await.unwrap();
        let answer = format!("{} bytes", heard.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    for way in WAYS {
        let (mut stream, _mesh) = connect(way, app).await;
        stream.write_all(&vec![0; LARGE]).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_all(&mut stream).await.unwrap();
        assert_eq!(answer, format!("{LARGE} bytes").as_bytes(), "{way:?}");
    }
}

#[tokio::test]
async fn a_server_that_says_no_more_still_hears() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let app = accepting(move |mut stream| {
        let tell = tell.clone();
        async move {
            stream.write_all(b"\0all").await.unwrap();
            stream.shutdown().await.unwrap();
            let heard = read_all(&mut stream).await.unwrap();
            tell.send(heard.len()).unwrap();
        }
    })
    .await;
    for way in WAYS {
        let (mut stream, _mesh) = connect(way, app).await;
        assert_eq!(read_all(&mut stream).await.unwrap(), b"\0all", "{way:?}");
        stream.write_all(&vec![0; LARGE]).await.unwrap();
        stream.shutdown().await.unwrap();
        let heard = timeout(PATIENCE, told.recv()).await.unwrap();
        assert_eq!(heard, Some(LARGE), "{way:?}");
    }
}

#[tokio::test]
async fn a_reset_is_passed_on_either_way() {
    let app = raw(|stream, _| async move { stream.set_zero_linger().unwrap() }).await;
    for way in WAYS {
        let (mut stream, _mesh) = connect(way, app).await;
        stream.write_all(b"\0").await.unwrap();
        let read = read_all(&mut stream).await;
        assert!(read.is_err(), "{way:?}: {read:?}");
    }
    let (tell, mut told) = mpsc::unbounded_channel();
    let app = raw(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            stream.write_all(b"\0").await.unwrap();
            let end = read_all(&mut stream).await;
            tell.send(end.is_err()).unwrap();
        }
    })
    .await;
    for way in WAYS {
        let (mut stream, _mesh) = connect(way, app).await;
        stream.write_all(b"\0").await.unwrap();
        timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
        let is_reset = timeout(PATIENCE, told.recv()).await.unwrap();
        assert_eq!(is_reset, Some(true), "{way:?}");
    }
}
