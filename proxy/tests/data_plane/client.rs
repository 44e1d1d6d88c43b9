//! An application that calls: one connection, either version of HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

pub(crate) enum Client {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub trailers: Option<HeaderMap>,
}

impl Client {
    pub(crate) async fn http1(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Client::Http1(sender)
    }

    pub(crate) async fn http2(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Client::Http2(sender)
    }

    pub(crate) async fn both(address: SocketAddr) -> [Client; 2] {
        [Client::http1(address).await, Client::http2(address).await]
    }

    pub(crate) async fn send(
        &mut self,
        mut request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Client::Http1(sender) => {
                sender.ready().await?;
                request.headers_mut().insert(HOST, "web".parse().unwrap());
                sender.send_request(request).await
            }
            Client::Http2(sender) => {
                let path = request.uri().path().to_owned();
                *request.uri_mut() = format!("http://web{path}").parse().unwrap();
                sender.send_request(request).await
            }
        }
    }

    pub(crate) async fn try_get(&mut self, path: &str) -> hyper::Result<Answer> {
        let response = self.send(get(path)).await?;
        whole(response).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.try_get(path).await.unwrap()
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        whole(self.send(post(path, body)).await.unwrap())
            .await
            .unwrap()
    }

    /// A unary gRPC call that the server answers with `code`.
    pub(crate) async fn grpc(&mut self, code: u16) -> Answer {
        self.grpc_at(&format!("/grpc/{code}")).await
    }

    pub(crate) async fn grpc_at(&mut self, path: &str) -> Answer {
        let mut request = post(path, "message");
        request
            .headers_mut()
            .insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
        request
            .headers_mut()
            .insert(TE, "trailers".parse().unwrap());
        whole(self.send(request).await.unwrap()).await.unwrap()
    }
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path)
        .body(UnsyncBoxBody::new(Full::new(Bytes::new())))
        .unwrap()
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::post(path)
        .body(UnsyncBoxBody::new(Full::new(body.into())))
        .unwrap()
}

/// A body in pieces, which the client sends one by one.
pub(crate) fn streamed(path: &str, pieces: Vec<&'static str>) -> Request<Body> {
    let frames = stream::iter(
        pieces
            .into_iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))),
    );
    Request::post(path)
        .body(UnsyncBoxBody::new(StreamBody::new(frames)))
        .unwrap()
}

pub(crate) async fn whole(response: Response<Incoming>) -> hyper::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        text,
        trailers,
    })
}

/// Waits for a condition; fails with `what` when it does not come true in 10 s.
pub(crate) async fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(Duration::from_secs(10), what, condition).await;
}

/// The same, for what takes longer.
pub(crate) async fn within(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A connection that has left HTTP, as a WebSocket does.
pub(crate) async fn upgraded(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request =
        "GET /chat HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(Duration::from_secs(10), stream.read_u8()).await;
        head.push(byte.expect("a head").unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}
