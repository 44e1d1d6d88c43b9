//! An application that says who it is, over HTTP/1.1, HTTP/2 and gRPC.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::client::eventually;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) struct Server {
    pub address: SocketAddr,
    pub state: Arc<State>,
}

pub(crate) struct State {
    name: &'static str,
    pub requests: AtomicUsize,
    pub connections: AtomicUsize,
    /// Requests to `/held` wait for a permit.
    pub held: Semaphore,
}

impl Server {
    pub(crate) async fn start(name: &'static str) -> Server {
        let state = Arc::new(State {
            name,
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            held: Semaphore::new(0),
        });
        let accepted = state.clone();
        let address = accepting(move |stream| {
            accepted.connections.fetch_add(1, Ordering::SeqCst);
            let state = accepted.clone();
            async move {
                let service = service_fn(|request| answer(state.clone(), request));
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection_with_upgrades(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await;
        Server { address, state }
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

/// How often a connection of HTTP/1.1 may have been idle since then for as long as a proxy keeps it.
pub(crate) fn idle_times(begun: Instant) -> usize {
    const IDLE: Duration = Duration::from_secs(3);
    usize::try_from(begun.elapsed().as_millis() / IDLE.as_millis()).unwrap()
}

/// An address where nothing listens, to the end of this process: its port is taken, so that no listener of another test is given it.
pub(crate) async fn nobody() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// For as long as this is held nobody listens at the address of a listener that is being closed: its port is given to nobody else.
pub(crate) async fn closed(address: SocketAddr) -> Socket {
    let mut closed = None;
    eventually("nobody listens there", || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Its connections may still be there.
        socket.set_reuse_address(true).unwrap();
        closed = socket.bind(&address.into()).is_ok().then_some(socket);
        closed.is_some()
    })
    .await;
    closed.unwrap()
}

/// An address whose connections are each for `serve`, in a task of its own.
pub(crate) async fn accepting<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Sends `greeting` to each connection, then echoes.
pub(crate) async fn opaque(greeting: &'static str) -> SocketAddr {
    accepting(move |mut stream| async move {
        stream.write_all(greeting.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = copy(&mut read, &mut write).await;
    })
    .await
}

/// Hands over each connection with the first bytes that came on it; not those on which none ever do, which were made in vain.
pub(crate) async fn raw<F>(
    serve: impl Fn(TcpStream, Vec<u8>) -> F + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let serve = Arc::new(serve);
    accepting(move |mut stream| {
        let serve = serve.clone();
        async move {
            let mut bytes = vec![0; 64 * 1024];
            let read = stream.read(&mut bytes).await.unwrap();
            bytes.truncate(read);
            if read > 0 {
                serve(stream, bytes).await;
            }
        }
    })
    .await
}

async fn answer(
    state: Arc<State>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    if request.headers().contains_key(UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = split(TokioIo::new(upgrade.await.unwrap()));
            let _ = copy(&mut read, &mut write).await;
        });
        let mut response = Response::new(text(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert(UPGRADE, HeaderValue::from_static("websocket"));
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        return Ok(response);
    }
    if let Some(path) = path.strip_prefix("/grpc-at/") {
        let (name, code) = path.split_once('/').unwrap();
        let code = if name == state.name { code } else { "0" };
        return Ok(grpc(request, code.parse().unwrap()).await);
    }
    if let Some(path) = path.strip_prefix("/grpc-only/") {
        let (name, code) = path.split_once('/').unwrap();
        if name != state.name {
            return Ok(grpc(request, 0).await);
        }
        let mut response = Response::new(text(""));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", code.parse().unwrap());
        return Ok(response);
    }
    if let Some(code) = path.strip_prefix("/grpc/") {
        return Ok(grpc(request, code.parse().unwrap()).await);
    }
    // hyper leaves it to us that such an answer has no body.
    if request.method() == http::Method::HEAD {
        let mut response = Response::new(text(""));
        if path.strip_prefix("/head-fails-at/") == Some(state.name) {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        return Ok(response);
    }
    if let Some(name) = path.strip_prefix("/echo-or-fail/") {
        let mut response = Response::new(full(request.collect().await.unwrap().to_bytes()));
        if name == state.name {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        return Ok(response);
    }
    if path.strip_prefix("/held-at/") == Some(state.name) {
        state.held.acquire().await.unwrap().forget();
    }
    let mut response = match path.as_str() {
        "/echo" => Response::new(full(request.collect().await.unwrap().to_bytes())),
        "/headers" => Response::new(full(Bytes::from(names(request.headers())))),
        "/held" => {
            state.held.acquire().await.unwrap().forget();
            Response::new(text(state.name))
        }
        "/endless" => {
            let frames = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(b"more\n"))));
            Response::new(UnsyncBoxBody::new(StreamBody::new(frames.then(
                |frame| async {
                    tokio::task::yield_now().await;
                    frame
                },
            ))))
        }
        _ => Response::new(text(state.name)),
    };
    if let Some(status) = path.strip_prefix("/status/") {
        *response.status_mut() = status.parse().unwrap();
    }
    if path.strip_prefix("/fails-at/") == Some(state.name) {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

/// Echoes the messages, then says `code` in the trailers, as gRPC does.
async fn grpc(request: Request<Incoming>, code: u16) -> Response<Body> {
    let trailers = HeaderMap::from_iter([(
        "grpc-status".parse::<http::HeaderName>().unwrap(),
        HeaderValue::from(code),
    )]);
    let messages = request
        .into_body()
        .into_data_stream()
        .map(|data| Ok(Frame::data(data.unwrap())));
    let frames = messages.chain(stream::iter([Ok(Frame::trailers(trailers))]));
    let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(frames)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn names(headers: &HeaderMap) -> String {
    let names: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
    names.join("\n")
}

fn full(bytes: Bytes) -> Body {
    UnsyncBoxBody::new(Full::new(bytes))
}

fn text(text: &'static str) -> Body {
    full(Bytes::from_static(text.as_bytes()))
}
