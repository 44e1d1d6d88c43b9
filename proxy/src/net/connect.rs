//! A TCP connection to an address, or a reason.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::socket;

/// Long enough for one lost SYN, short enough to try another endpoint.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to {address}: {source}")]
    Refused {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot connect to {address}: no answer in {} s", TIMEOUT.as_secs())]
    Timeout { address: SocketAddr },
    #[error("cannot speak HTTP/2 to {address}: {reason}")]
    Handshake { address: SocketAddr, reason: String },
    #[error("the attempt to connect to {address} was abandoned")]
    Abandoned { address: SocketAddr },
    #[error("{address} has {most} connections of this proxy's already, all in use")]
    TooMany { address: SocketAddr, most: usize },
}

pub async fn connect(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let connection = timeout(TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_elapsed| ConnectError::Timeout { address })?
        .map_err(|source| ConnectError::Refused { address, source })?;
    socket::tune(&connection).map_err(|source| ConnectError::Refused { address, source })?;
    Ok(connection)
}
