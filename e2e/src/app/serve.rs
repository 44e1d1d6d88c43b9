//! Serves HTTP/1.1 and HTTP/2 (prior knowledge) on one port, and stops without dropping what it has.
//!
//! After the stop signal it accepts for `linger` longer, since callers learn late that it is going; then it finishes
//! the requests that it has, within [`FINISH`].

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

pub type Answer = Response<BoxBody<Bytes, Infallible>>;

/// How long requests that were accepted may still take.
pub const FINISH: Duration = Duration::from_secs(10);

/// Answers until `stop` and `linger` are over. A connection that breaks is its caller's matter.
pub async fn serve<A, F>(
    listener: TcpListener,
    answer: A,
    stop: impl Future<Output = ()>,
    linger: Duration,
) where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    http.http2().timer(TokioTimer::new());
    let connections = GracefulShutdown::new();
    let stop = async {
        stop.await;
        tokio::time::sleep(linger).await;
    };
    tokio::pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of file descriptors, or the peer is gone already: the next may work.
                Err(_) => { tokio::time::sleep(Duration::from_millis(10)).await; continue }
            },
        };
        // Small answers, each wanted at once.
        stream.set_nodelay(true).ok();
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answered = answer(request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let connection = http
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move { connection.await.ok() });
    }
    drop(listener);
    tokio::time::timeout(FINISH, connections.shutdown())
        .await
        .ok();
}

/// Ends when the process is asked to end: SIGTERM, as Kubernetes does, or Ctrl-C.
pub async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term =
        signal(SignalKind::terminate()).expect("SIGTERM can be handled inside a runtime");
    let mut int = signal(SignalKind::interrupt()).expect("SIGINT can be handled inside a runtime");
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
