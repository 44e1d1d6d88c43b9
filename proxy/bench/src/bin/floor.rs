//! The least that a proxy on hyper does: takes HTTP/1.1 and HTTP/2, picks a backend by weight, forwards on pooled connections of the
//! same protocol. No metrics, no deadlines, no retries. What a proxy costs above it is the price of what it can do.

use std::cell::RefCell;
use std::rc::Rc;

use aviary_bench::{CONNECTION_WINDOW, STREAM_WINDOW, ThisThread, run, serve};
use bytes::Bytes;
use clap::Parser;
use http::header::CONNECTION;
use http::{Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::spawn_local;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

#[derive(Parser)]
struct Options {
    #[arg(long)]
    port: u16,
    /// The port of the first backend; that of the second is the next one.
    #[arg(long)]
    backends: u16,
    /// The second backend's share in percent.
    #[arg(long)]
    share: u8,
}

struct Backend {
    port: u16,
    idle: RefCell<Vec<http1::SendRequest<Incoming>>>,
    http2: Mutex<Option<http2::SendRequest<Incoming>>>,
}

impl Backend {
    fn new(port: u16) -> Rc<Backend> {
        Rc::new(Backend {
            port,
            idle: RefCell::default(),
            http2: Mutex::default(),
        })
    }

    async fn connect(&self) -> Option<TokioIo<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(TokioIo::new(stream))
    }

    async fn http1(&self) -> Option<http1::SendRequest<Incoming>> {
        while let Some(idle) = { self.idle.borrow_mut().pop() } {
            if idle.is_ready() {
                return Some(idle);
            }
        }
        let (sender, connection) = http1::handshake(self.connect().await?).await.ok()?;
        spawn_local(connection);
        Some(sender)
    }

    async fn http2(&self) -> Option<http2::SendRequest<Incoming>> {
        let mut kept = self.http2.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Some(sender.clone());
        }
        let (sender, connection) = http2::Builder::new(ThisThread)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(self.connect().await?)
            .await
            .ok()?;
        spawn_local(connection);
        *kept = Some(sender.clone());
        Some(sender)
    }

    async fn forward(self: Rc<Self>, mut request: Request<Incoming>) -> Option<Answer> {
        if request.version() == Version::HTTP_2 {
            let response = self.http2().await?.send_request(request).await.ok()?;
            return Some(response.map(BodyExt::boxed));
        }
        request.headers_mut().remove(CONNECTION);
        let mut sender = self.http1().await?;
        let response = sender.send_request(request).await.ok()?;
        // Ready again when the answer has been read to its end.
        spawn_local(async move {
            if sender.ready().await.is_ok() {
                self.idle.borrow_mut().push(sender);
            }
        });
        Some(response.map(BodyExt::boxed))
    }
}

fn bad_gateway() -> Answer {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let (a, b) = (
        Backend::new(options.backends),
        Backend::new(options.backends + 1),
    );
    run(serve(options.port, move |request| {
        let backend = if fastrand::u8(..100) < options.share {
            &b
        } else {
            &a
        };
        let answer = backend.clone().forward(request);
        async move { Ok::<_, hyper::Error>(answer.await.unwrap_or_else(bad_gateway)) }
    }))??;
    Ok(())
}
