//! A TCP listener that hands out connections after their TLS handshake, for axum and for tonic.
//!
//! Handshakes run side by side, each with a deadline and in a place of its own ([`places`]), so that clients that connect and
//! say nothing keep nobody else waiting. The certificate is asked for at each handshake: it can be replaced while the listener
//! runs.

pub mod http;
pub(crate) mod places;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use places::{Place, Places};

/// The API server waits for a webhook for five seconds in all.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(2);
/// Handshakes at once. More of them end the oldest.
const HANDSHAKES: usize = 1024;
/// Of one address.
const HANDSHAKES_OF_ONE: usize = 64;
/// After an error of `accept`, such as too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

type Connection = (TlsStream<TcpStream>, SocketAddr);

/// Connections with TLS.
pub struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Option<Connection>>,
    places: Arc<Places<IpAddr>>,
}

impl TlsListener {
    pub async fn bind(address: SocketAddr, config: Arc<ServerConfig>) -> io::Result<TlsListener> {
        Ok(TlsListener {
            tcp: TcpListener::bind(address).await?,
            acceptor: TlsAcceptor::from(config),
            handshakes: JoinSet::new(),
            places: Places::new(HANDSHAKES, HANDSHAKES_OF_ONE),
        })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection whose handshake is complete. Cancel safe.
    pub async fn accept(&mut self) -> Connection {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                accepted = self.tcp.accept() => match accepted {
                    Ok((tcp, peer)) => {
                        let place = self.places.take(peer.ip().to_canonical());
                        self.handshakes.spawn(handshake(self.acceptor.clone(), tcp, peer, place));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
    }

    /// For tonic's `serve_with_incoming`. Never ends.
    pub fn incoming(self) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> + Send {
        stream::unfold(self, |mut listener| async move {
            let (connection, _) = listener.accept().await;
            Some((Ok(connection), listener))
        })
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        TlsListener::accept(self).await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        TlsListener::local_addr(self)
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    peer: SocketAddr,
    place: Place<IpAddr>,
) -> Option<Connection> {
    // Answers are small, and the API server waits for each.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, %peer, "TCP_NODELAY not set");
    }
    let lost = place.lost();
    let accepted = lost.run_until_cancelled(acceptor.accept(tcp));
    match tokio::time::timeout(HANDSHAKE_DEADLINE, accepted).await {
        Ok(Some(Ok(tls))) => Some((tls, peer)),
        Ok(Some(Err(error))) => {
            tracing::debug!(%error, %peer, "TLS handshake failed");
            None
        }
        Ok(None) => {
            tracing::debug!(%peer, "TLS handshake gave up its place to a newer one");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake took too long");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use rustls::{ClientConfig, RootCertStore};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName};
    use time::OffsetDateTime;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::ads::RevocationKey;
    use crate::certificates::{Authority, Root};

    fn authority() -> Authority {
        let now = OffsetDateTime::now_utc();
        let key = RevocationKey::new(&[1; 32]);
        Authority::new(Root::generate(now).unwrap(), key, "aviary-system", now).unwrap()
    }

    fn connector(authority: &Authority, alpn: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.root_pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    async fn serve(authority: &Authority) -> SocketAddr {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TlsListener::bind(any, authority.server_config())
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn name() -> ServerName<'static> {
        ServerName::try_from("aviary-operator.aviary-system.svc").unwrap()
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_root_is_served_over_tls_1_3() {
        let authority = authority();
        let address = serve(&authority).await;
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut tls = connector(&authority, &[b"http/1.1"])
            .connect(name(), tcp)
            .await
            .unwrap();
        assert_eq!(
            tls.get_ref().1.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_3)
        );
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        tls.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }

    #[tokio::test]
    async fn http_2_is_preferred() {
        let authority = authority();
        let address = serve(&authority).await;
        let tcp = TcpStream::connect(address).await.unwrap();
        let tls = connector(&authority, &[b"http/1.1", b"h2"])
            .connect(name(), tcp)
            .await
            .unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_keeps_nobody_waiting() {
        let authority = authority();
        let address = serve(&authority).await;
        // A machine that stands still for so long says nothing: then it is tried again.
        for _ in 0..10 {
            let began = Instant::now();
            let _silent = TcpStream::connect(address).await.unwrap();
            let tcp = TcpStream::connect(address).await.unwrap();
            let tls = connector(&authority, &[b"h2"]).connect(name(), tcp).await;
            if began.elapsed() < HANDSHAKE_DEADLINE {
                tls.unwrap();
                return;
            }
        }
        panic!("it waits for the one that says nothing");
    }

    /// Where nobody gives up a place it is served when their time is over, and never before. A machine that stands still for so long
    /// says nothing: then it is tried again.
    #[tokio::test]
    async fn a_new_client_is_served_behind_more_silent_ones_than_there_are_places() {
        let authority = authority();
        let address = serve(&authority).await;
        let mut tries = 0;
        loop {
            let began = Instant::now();
            let silent = (0..HANDSHAKES_OF_ONE * 5).map(|_| TcpStream::connect(address));
            let _silent = futures::future::try_join_all(silent).await.unwrap();
            let tcp = TcpStream::connect(address).await.unwrap();
            let tls = connector(&authority, &[b"h2"]).connect(name(), tcp).await;
            let took = began.elapsed();
            if tls.is_ok() && took < HANDSHAKE_DEADLINE {
                return;
            }
            tries += 1;
            assert!(
                tries < 10 && took >= HANDSHAKE_DEADLINE,
                "{took:?}: {tls:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_client_of_another_root_is_not_served() {
        let address = serve(&authority()).await;
        let tcp = TcpStream::connect(address).await.unwrap();
        connector(&authority(), &[b"h2"])
            .connect(name(), tcp)
            .await
            .unwrap_err();
    }
}
