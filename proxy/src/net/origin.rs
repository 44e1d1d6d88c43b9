//! Where a redirected connection was going: the kernel remembers it for connections that a nat rule sent here.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// Which listener a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// From the application to the world.
    Outbound,
    /// From the world to the application.
    Inbound,
}

/// Finds a connection's original destination. A trait because loopback connections of tests have none.
pub trait OriginalDestination: Send + Sync + 'static {
    fn of(&self, connection: &TcpStream, side: Side) -> io::Result<SocketAddr>;
}

/// `SO_ORIGINAL_DST`, for IPv4 and IPv6.
#[derive(Clone, Copy, Debug)]
pub struct Redirected;

impl OriginalDestination for Redirected {
    fn of(&self, connection: &TcpStream, _side: Side) -> io::Result<SocketAddr> {
        let socket = SockRef::from(connection);
        let address = if connection.local_addr()?.is_ipv4() {
            socket.original_dst_v4()?
        } else {
            socket.original_dst_v6()?
        };
        let address = address
            .as_socket()
            .ok_or_else(|| io::Error::other("the original destination is no IP address"))?;
        Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

/// The proxy's own listeners. A connection whose original destination is one of them would loop until memory ends: it is refused.
#[derive(Clone, Debug, Default)]
pub struct OwnListeners(pub Vec<SocketAddr>);

impl OwnListeners {
    /// `local` are addresses known to be this pod's: both ends of an accepted outbound connection, for example.
    pub fn contain(&self, destination: SocketAddr, local: &[IpAddr]) -> bool {
        self.0.iter().any(|own| {
            own.port() == destination.port()
                && (own.ip() == destination.ip()
                    || (own.ip().is_unspecified()
                        && (destination.ip().is_loopback() || local.contains(&destination.ip()))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_listeners_are_recognised_on_every_local_address_and_nowhere_else() {
        let own = OwnListeners(vec![
            "127.0.0.1:15001".parse().unwrap(),
            "0.0.0.0:15006".parse().unwrap(),
        ]);
        let pod: IpAddr = "10.0.0.7".parse().unwrap();
        let is_own = |address: &str| own.contain(address.parse().unwrap(), &[pod]);
        assert!(is_own("127.0.0.1:15001"));
        assert!(is_own("127.0.0.1:15006"));
        assert!(is_own("10.0.0.7:15006"));
        assert!(!is_own("10.0.0.8:15006"));
        assert!(!is_own("10.0.0.7:80"));
        assert!(!is_own("10.0.0.7:15001"));
    }
}
