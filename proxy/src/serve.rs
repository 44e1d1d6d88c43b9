//! Speaks HTTP with a caller, either version, until the caller or a drain ends it.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::body::ResponseBody;
use crate::drain::{Phase, Phases};

const MAX_HEADERS: u32 = 256 * 1024;
/// Streams that a caller may have open on one connection.
const MAX_STREAMS: u32 = 1_000;

/// Runs hyper's tasks on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(async move {
            future.await;
        });
    }
}

/// HTTP/1.1. In a drain, answers say `Connection: close`; idle connections are closed at its end.
pub async fn http1<S, F>(stream: TcpStream, mut phases: Phases, handler: S)
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<ResponseBody>>,
{
    let seen = phases.clone();
    let service = service_fn(|request| {
        let answer = handler(request);
        let phases = &seen;
        async move {
            let mut response = answer.await;
            if phases.now() >= Phase::Draining
                && response.status() != http::StatusCode::SWITCHING_PROTOCOLS
            {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    // No timeout for headers: it would also close connections that are idle between two requests, and how long
    // those may live is for the two applications to say.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = phases.reached(Phase::Closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// HTTP/2. In a drain, GOAWAY is sent at once, but not before a first request on a connection that was opened meanwhile:
/// its caller has not heard of the drain, and a connection that closes unused looks like a failure.
pub async fn http2<S, F>(stream: TcpStream, mut phases: Phases, handler: S)
where
    S: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Result<Response<ResponseBody>, h2::Error>> + 'static,
{
    let first = Rc::new((Cell::new(phases.now() < Phase::Draining), Notify::new()));
    let requested = first.clone();
    let service = service_fn(move |request| {
        requested.0.set(true);
        requested.1.notify_one();
        handler(request)
    });
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let leave = async {
        phases.reached(Phase::Draining).await;
        tokio::select! {
            () = phases.reached(Phase::Closing) => {}
            () = async { while !first.0.get() { first.1.notified().await } } => {}
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = leave => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
