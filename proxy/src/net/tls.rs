//! The handshakes of mutual TLS, both ends. What comes of one is a connection whose other end has proven who it is.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Accepted;
use rustls::{CertificateError, ClientConfig, CommonState, OtherError};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::server::StartHandshake;

use super::mesh::Mesh;
use crate::identity::verify::{self, IdError};
use crate::identity::{Generation, Inner};

/// As long as a connection itself may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// As long as whoever is called takes part. A caller is done first, and may have sent its request by then: on a busy node that must not be what the request fails by. One
/// that is not done in its own time has left, and has sent nothing.
const LONGEST: Duration = Duration::from_secs(10);

/// Why there is no mutual TLS. Nothing of what was to be sent has left.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0}")]
    Handshake(#[source] io::Error),
    #[error("{0}")]
    Peer(Arc<dyn Error + Send + Sync>),
    #[error("the handshake took longer than {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the other end does not speak what was asked for")]
    Inner,
    #[error("the other end's certificate does not say who it is: {0}")]
    Id(#[from] IdError),
}

/// Calls the one whom `config` believes, at `address`.
pub async fn connect(
    tcp: TcpStream,
    config: Arc<ClientConfig>,
    address: IpAddr,
    inner: Inner,
) -> Result<Mesh, TlsError> {
    let connector = TlsConnector::from(config);
    // TLS wants a name of its peer's; it is not sent, and the verifier knows better.
    let name = ServerName::IpAddress(address.into());
    let handshake = connector
        .with_alpn(vec![inner.alpn().to_vec()])
        .connect(name, tcp);
    let tls = timeout(TIMEOUT, handshake)
        .await
        .map_err(|_elapsed| TlsError::Timeout(TIMEOUT))?
        .map_err(judged)?;
    let (_, session) = tls.get_ref();
    if session.alpn_protocol() != Some(inner.alpn()) {
        return Err(TlsError::Inner);
    }
    let peer = peer(session)?;
    Ok(Mesh::new(tls.into(), peer))
}

/// Answers a sidecar that has said `hello`.
pub async fn accept(
    hello: Accepted,
    tcp: TcpStream,
    generation: &Generation,
) -> Result<(Inner, Mesh), TlsError> {
    let handshake = StartHandshake::from_parts(hello, tcp).into_stream(generation.server());
    let tls = timeout(LONGEST, handshake)
        .await
        .map_err(|_elapsed| TlsError::Timeout(LONGEST))?
        .map_err(judged)?;
    let (_, session) = tls.get_ref();
    let inner = session.alpn_protocol().and_then(Inner::of);
    let inner = inner.ok_or(TlsError::Inner)?;
    let peer = peer(session)?;
    Ok((inner, Mesh::new(tls.into(), peer)))
}

/// What our verifier has said is worth more than what it was wrapped in.
fn judged(error: io::Error) -> TlsError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => {
            TlsError::Peer(why.clone())
        }
        Some(_) | None => TlsError::Handshake(error),
    }
}

/// Whom the handshake has proven.
fn peer(session: &CommonState) -> Result<Arc<str>, TlsError> {
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    Ok(verify::id_of(leaf.ok_or(IdError::Names(0))?)?.shared())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::net::{Ipv4Addr, Shutdown, SocketAddr};
    use std::task::Poll;

    use rustls::server::Acceptor;
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::identity::testing::{Authority, ID};

    /// Both ends of a connection, of `web` with itself.
    async fn connected() -> (Mesh, Mesh) {
        let generation = Authority::new().generation(1);
        let (listener, address) = listener().await;
        let calling = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            let config = Arc::new(generation.client(ID.into()));
            connect(tcp, config, address.ip(), Inner::Tcp).await
        };
        let called = accept_one(&listener, &generation);
        let (calling, called) = tokio::join!(calling, called);
        let (inner, called) = called.unwrap();
        assert_eq!(inner, Inner::Tcp);
        (calling.unwrap(), called)
    }

    /// As a called sidecar does, from a hello on.
    async fn accept_one(
        listener: &TcpListener,
        generation: &Generation,
    ) -> Result<(Inner, Mesh), TlsError> {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut acceptor = Acceptor::default();
        let hello = loop {
            tcp.readable().await.unwrap();
            let mut bytes = [0; 4096];
            let Ok(read) = tcp.try_read(&mut bytes) else {
                continue;
            };
            acceptor.read_tls(&mut &bytes[..read]).unwrap();
            if let Some(hello) = acceptor.accept().unwrap() {
                break hello;
            }
        };
        accept(hello, tcp, generation).await
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn read_all(from: &Mesh) -> (usize, io::Result<()>) {
        let mut total = 0;
        loop {
            let mut bytes = Vec::with_capacity(64 * 1024);
            match poll_fn(|cx| from.poll_read(cx, &mut bytes)).await {
                Ok(0) => return (total, Ok(())),
                Ok(read) => total += read,
                Err(error) => return (total, Err(error)),
            }
        }
    }

    #[tokio::test]
    async fn each_end_knows_who_the_other_one_is() {
        let (calling, called) = connected().await;
        assert_eq!((&**calling.peer(), &**called.peer()), (ID, ID));
    }

    #[tokio::test]
    async fn after_an_error_the_peer_has_what_counted_as_written_and_no_byte_more() {
        let bytes = [b'x'; 100_000];
        for size in [1, 1000, 16 * 1024, 100_000] {
            let (writing, reading) = connected().await;
            writing.with_tcp(|tcp| {
                SockRef::from(tcp).set_send_buffer_size(16 * 1024).unwrap();
            });
            let mut written = 0;
            // To where the kernel takes no more.
            let stuck = poll_fn(|cx| {
                loop {
                    match writing.poll_write(cx, &bytes[..size], &bytes) {
                        Poll::Ready(Ok(count)) => written += count,
                        Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
                        Poll::Pending => return Poll::Ready(None),
                    }
                }
            });
            assert!(stuck.await.is_none());
            writing.with_tcp(|tcp| SockRef::from(tcp).shutdown(Shutdown::Write).unwrap());
            let again = poll_fn(|cx| writing.poll_write(cx, &bytes[..size], &bytes));
            let (dead, (read, end)) = tokio::join!(again, read_all(&reading));
            assert!(dead.is_err(), "{dead:?}");
            assert_eq!(read, written, "in pieces of {size}");
            assert!(end.is_err(), "it was cut off");
        }
    }

    #[tokio::test]
    async fn each_direction_ends_by_itself_and_in_order() {
        let (one, other) = connected().await;
        one.close().await;
        assert!(matches!(read_all(&other).await, (0, Ok(()))));
        let mut written = 0;
        while written < 50_000 {
            written += poll_fn(|cx| other.poll_write(cx, &[b'x'; 1000], &[]))
                .await
                .unwrap();
        }
        other.close().await;
        let (read, end) = read_all(&one).await;
        assert_eq!((read, end.is_ok()), (written, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_called_sidecar_that_takes_the_connection_and_says_nothing_is_left_in_time() {
        let (listener, address) = listener().await;
        let generation = Authority::new().generation(1);
        let tcp = TcpStream::connect(address).await.unwrap();
        let (mut held, _) = listener.accept().await.unwrap();
        let begun = Instant::now();
        let config = Arc::new(generation.client(ID.into()));
        let error = connect(tcp, config, address.ip(), Inner::Tcp)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the handshake took longer than 2 s",
            "after {:?}",
            begun.elapsed()
        );
        assert_eq!(begun.elapsed().as_secs(), 2);
        // It has left.
        let mut hello = Vec::new();
        held.read_to_end(&mut hello).await.unwrap();
        assert_eq!(hello[0], 22, "a record of a handshake");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_says_hello_and_nothing_more_is_left_in_time() {
        let begun = Instant::now();
        let error = called_late(Duration::MAX).await.unwrap_err();
        assert_eq!(error.to_string(), "the handshake took longer than 10 s");
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    /// A caller is done when it has said its last: its request is on its way by then, and is sent nowhere else.
    #[tokio::test(start_paused = true)]
    async fn what_was_sent_is_served_although_the_handshake_took_longer_than_a_callers_own_time() {
        for delay in [TIMEOUT, 4 * TIMEOUT] {
            assert_eq!(called_late(delay).await.unwrap(), b"money", "{delay:?}");
        }
    }

    /// What comes of a caller that sends `money` as soon as it may, when all but its hello arrives so much later.
    async fn called_late(delay: Duration) -> Result<Vec<u8>, TlsError> {
        let ((relay, at), (listener, address)) = (listener().await, listener().await);
        let generation = Authority::new().generation(1);
        let relaying = async {
            let (mut caller, _) = relay.accept().await.unwrap();
            let mut called = TcpStream::connect(address).await.unwrap();
            let ((mut from_caller, mut to_caller), (mut from_called, mut to_called)) =
                (caller.split(), called.split());
            let there = async {
                let mut hello = [0; 16 * 1024];
                let read = from_caller.read(&mut hello).await.unwrap();
                to_called.write_all(&hello[..read]).await.unwrap();
                sleep(delay).await;
                let _ = copy(&mut from_caller, &mut to_called).await;
            };
            let back = copy(&mut from_called, &mut to_caller);
            let _ = tokio::join!(there, back);
            pending::<()>().await
        };
        let calling = async {
            let tcp = TcpStream::connect(at).await.unwrap();
            let config = Arc::new(generation.client(ID.into()));
            let mesh = connect(tcp, config, at.ip(), Inner::Tcp).await.unwrap();
            poll_fn(|cx| mesh.poll_write(cx, b"money", &[]))
                .await
                .unwrap();
            pending::<()>().await
        };
        let called = async {
            let (_, mesh) = accept_one(&listener, &generation).await?;
            let mut request = Vec::with_capacity(100);
            let read = poll_fn(|cx| mesh.poll_read(cx, &mut request));
            read.await.unwrap();
            Ok(request)
        };
        tokio::select! {
            request = called => request,
            () = async { tokio::join!(relaying, calling); } => unreachable!("they go on for ever"),
        }
    }
}
