//! A TCP connection to an address, or a reason.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::socket;
use super::tls::TlsError;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to {address}: {source}")]
    Refused {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot connect to {address}: no answer in {after:?}")]
    Timeout {
        address: SocketAddr,
        after: Duration,
    },
    #[error("cannot speak HTTP/2 to {address}: {reason}")]
    Handshake { address: SocketAddr, reason: String },
    #[error("no mutual TLS with {address}: {source}")]
    Tls {
        address: SocketAddr,
        source: TlsError,
    },
    #[error("{address} takes nothing in the clear, and this pod has no certificate yet")]
    NoIdentity { address: SocketAddr },
    #[error("the attempt to connect to {address} was abandoned")]
    Abandoned { address: SocketAddr },
    #[error("{address} has {most} connections of this proxy's already, all in use")]
    TooMany { address: SocketAddr, most: usize },
}

/// Where a connection leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// To the address itself.
    Direct,
    /// The address is this pod's own, and the call comes from its application: in again by the front door.
    Hairpin,
}

/// What the redirect rules know a [`Path::Hairpin`] by. The highest that needs no capability; it stays within the pod.
pub const HAIRPIN_PRIORITY: u32 = 6;

/// A connection that is there within this time.
pub async fn connect(
    address: SocketAddr,
    path: Path,
    after: Duration,
) -> Result<TcpStream, ConnectError> {
    let connection = timeout(after, open(address, path))
        .await
        .map_err(|_elapsed| ConnectError::Timeout { address, after })?
        .map_err(|source| ConnectError::Refused { address, source })?;
    socket::tune(&connection).map_err(|source| ConnectError::Refused { address, source })?;
    Ok(connection)
}

async fn open(address: SocketAddr, path: Path) -> io::Result<TcpStream> {
    match path {
        Path::Direct => TcpStream::connect(address).await,
        Path::Hairpin => {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            SockRef::from(&socket).set_priority(HAIRPIN_PRIORITY)?;
            socket.connect(address).await
        }
    }
}
