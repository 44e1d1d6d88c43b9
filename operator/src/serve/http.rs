//! The HTTP servers of the webhooks, and of health and metrics. Anybody who reaches the port is served, since an API server seldom shows who it is: so
//! whatever a client can hold is limited, in number and in time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::serve::Listener;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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

/// Serves until `stop`. Requests have the [`ConnectInfo`] of their peer's address.
pub async fn serve<L>(mut listener: L, router: Router, stop: CancellationToken)
where
    L: Listener<Addr = SocketAddr>,
{
    let places = Places::<IpAddr>::new(CONNECTIONS, CONNECTIONS_OF_ONE);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (io, peer) = listener.accept() => {
                let guest = Guest {
                    peer,
                    place: places.take(peer.ip().to_canonical()),
                };
                connections.spawn(converse(io, router.clone(), guest, stop.clone()));
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

struct Guest {
    peer: SocketAddr,
    place: Place<IpAddr>,
}

async fn converse<I>(io: I, router: Router, guest: Guest, stop: CancellationToken)
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
    let Guest { peer, place } = guest;
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
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
        tracing::debug!(%error, %peer, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn asked(connection: &mut TcpStream) -> String {
        let ask = b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        connection.write_all(ask).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The deadline for a head would end the oldest later than what is waited for.
    #[tokio::test]
    async fn whoever_holds_connections_loses_the_oldest_and_keeps_nobody_out() {
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let router = Router::new().route("/who", get(who));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let served = tokio::spawn(serve(listener, router, stop.clone()));
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_OF_ONE {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        let mut newest = TcpStream::connect(address).await.unwrap();
        let own = newest.local_addr().unwrap().to_string();
        let answer = asked(&mut newest).await;
        assert!(answer.ends_with(&own), "{answer}");
        let mut nothing = [0; 1];
        let ended = tokio::time::timeout(HEAD_DEADLINE / 2, held[0].read(&mut nothing));
        assert_eq!(ended.await.unwrap().unwrap(), 0);
        assert!(asked(&mut held[1]).await.starts_with("HTTP/1.1 200"));
        stop.cancel();
        served.await.unwrap();
    }
}
