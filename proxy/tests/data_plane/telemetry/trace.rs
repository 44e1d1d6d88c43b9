//! W3C Trace Context passes two sidecars as it is: it is the applications' own.

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::logging;
use crate::mesh::{Given, Mesh, Service};
use crate::server::raw;
use crate::streams;

/// A parent of a version to come, states of several vendors in two fields, and what is no context at all.
const CONTEXT: [(&str, &str); 5] = [
    (
        "TraceParent",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-brings",
    ),
    (
        "tracestate",
        "rojo=00f067aa0ba902b7,,congo=t61rcWkgMzE ,a@b=~!#$",
    ),
    ("tracestate", "last=1"),
    ("baggage", "user=alice;p=1, session=%20x"),
    ("b3", "0"),
];

/// A calling sidecar and a called one, both with everything that can be asked for.
async fn two(app: std::net::SocketAddr) -> (Mesh, Mesh) {
    let mut given = logging("all").0;
    given.telemetry.names = "istio".parse().unwrap();
    let called = Mesh::start(Given {
        inbound: app,
        ..given
    });
    let mut given = logging("all").0;
    given.telemetry.names = "istio".parse().unwrap();
    let calling = Mesh::start(given);
    calling
        .install(&Service::new(called.inbound, called.inbound, 0))
        .await;
    (calling, called)
}

#[tokio::test]
async fn over_http_1_it_arrives_byte_for_byte() {
    let app = raw(|mut stream, seen| async move {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", seen.len());
        let answer = [head.as_bytes(), &seen].concat();
        stream.write_all(&answer).await.unwrap();
    })
    .await;
    let (calling, _called) = two(app).await;
    let fields: String = CONTEXT
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .concat();
    let mut stream = TcpStream::connect(calling.outbound).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(&fields), "{answer}");
}

#[tokio::test]
async fn over_http_2_it_arrives_byte_for_byte() {
    let app = streams::endpoint(|request: Request<h2::RecvStream>, mut respond| async move {
        let fields = request.headers().iter().map(|(name, value)| {
            [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat()
        });
        let fields = fields.collect::<Vec<_>>().concat();
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        let _ = body.send_data(Bytes::from(fields), true);
    })
    .await;
    let (calling, _called) = two(app).await;
    let mut request = Request::get("http://web/").body(()).unwrap();
    for (name, value) in CONTEXT {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let mut sender = streams::caller(&calling).await;
    let (answer, _) = sender.send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let seen = body.data().await.unwrap().unwrap();
    let seen = String::from_utf8(seen.to_vec()).unwrap();
    let fields: String = CONTEXT
        .map(|(name, value)| format!("{}: {value}\n", name.to_lowercase()))
        .concat();
    assert!(seen.contains(&fields), "{seen}");
}
