//! The webhooks' HTTP server. Anybody who reaches the port is served, since an API server seldom shows who it is: so whatever a
//! client can hold is limited, in number and in time.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::TlsListener;
use super::places::{Place, Places};

/// Connections at once. One more ends the oldest of the address that has the most; an API server connects again.
const CONNECTIONS: usize = 256;
/// Of one address. API servers ask many questions over each.
const CONNECTIONS_OF_ONE: usize = 32;
/// Questions at once on one connection.
const STREAMS: u32 = 64;
/// For the head of a request, from the moment that one may come.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
const LARGEST_HEAD: u32 = 16 << 10;
/// A client that answers no ping for this long is gone.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// What is under way when the connection is to end may take this long.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves until `stop`.
pub async fn serve(mut listener: TlsListener, router: Router, stop: CancellationToken) {
    let places = Places::<IpAddr>::new(CONNECTIONS, CONNECTIONS_OF_ONE);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (tls, peer) = listener.accept() => {
                let place = places.take(peer.ip().to_canonical());
                connections.spawn(converse(tls, router.clone(), place, stop.clone()));
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn converse<I>(io: I, router: Router, place: Place<IpAddr>, stop: CancellationToken)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(LARGEST_HEAD)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let lost = place.lost();
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = async { tokio::select! { () = lost.cancelled() => {}, () = stop.cancelled() => {} } } => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the webhooks ended");
    }
}
