//! Sockets that listen, and the loop that takes connections from them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::origin::Side;
use super::socket;
use crate::drain::{Phase, Phases};

const BACKLOG: i32 = 4096;

#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: {source}; is another proxy running in this network namespace?"
)]
pub struct BindError {
    pub address: SocketAddr,
    pub source: io::Error,
}

/// Binds one address. IPv6 sockets take IPv6 only: on a mixed one the kernel does not tell the original destination of IPv4 connections.
pub fn bind(address: SocketAddr) -> Result<StdListener, BindError> {
    let bind = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|source| BindError { address, source })
}

/// Whether this network namespace has IPv6 at all.
pub fn has_ipv6() -> bool {
    StdListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// Accepts until the proxy closes (inbound) or ends (outbound).
pub async fn accept(
    listener: StdListener,
    side: Side,
    mut phases: Phases,
    mut serve: impl FnMut(TcpStream),
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, ?side, "cannot accept");
            return;
        }
    };
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _peer)) => {
                    // It can only fail on a connection that is already gone, which the next read says too.
                    let _ = socket::tune(&stream);
                    serve(stream);
                }
                Err(error) => {
                    tracing::warn!(%error, ?side, "cannot accept a connection");
                    // Out of file descriptors, usually: they come back when other connections end.
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    };
    match side {
        Side::Outbound => accepting.await,
        Side::Inbound => tokio::select! {
            () = accepting => {}
            () = phases.reached(Phase::Closing) => {}
        },
    }
}
