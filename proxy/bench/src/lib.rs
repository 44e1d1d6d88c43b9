//! What the programs of the benchmark share: one thread, and a server for HTTP/1.1 and HTTP/2 on one port.

pub mod authority;

use std::error::Error;
use std::future::Future;

use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

pub const STREAM_WINDOW: u32 = 1 << 20;
pub const CONNECTION_WINDOW: u32 = 8 << 20;
const MOST_STREAMS: u32 = 1024;

#[derive(Clone)]
pub struct ThisThread;

impl<F: Future + 'static> Executor<F> for ThisThread {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// Runs `future` and all that it spawns on the calling thread.
pub fn run<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(LocalSet::new().block_on(&runtime, future))
}

/// Answers on a port of loopback for ever.
pub async fn serve<A, F, B, E>(port: u16, answer: A) -> std::io::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + 'static,
    F: Future<Output = Result<Response<B>, E>> + 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        spawn_local(async move {
            let mut builder = auto::Builder::new(ThisThread);
            builder.http1().timer(TokioTimer::new());
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(MOST_STREAMS)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW);
            let _ = builder
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}
