//! Whether the application takes connections on a port: what a `tcpSocket` probe asks, which would always be told yes by the redirect.
//!
//! Only ports of the pod's own probes are tried, and only at the address at which the proxy was asked, which is the pod's. So nobody can
//! look through the pod at what else there is, or keep it busy with connections to ports that nobody listens on.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use traffic_core::contract::TCP_PROBE_PATH;

use crate::net::connect::{ConnectError, Path, connect};

/// How long a port may take. Within the pod it takes no time, or does not listen.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ports that may be tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpProbes(BTreeSet<u16>);

/// What came of trying one.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("'{0}' is no port: write {TCP_PROBE_PATH}8080 for port 8080")]
    NoPort(String),
    #[error("no tcpSocket probe of this pod names port {0}: only such ports are tried")]
    Undeclared(u16),
    #[error(transparent)]
    Dead(#[from] ConnectError),
}

impl FromIterator<u16> for TcpProbes {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> TcpProbes {
        TcpProbes(ports.into_iter().collect())
    }
}

impl TcpProbes {
    /// Connects to the port that `path` names behind [`TCP_PROBE_PATH`], and hangs up. `own`: the address at which the proxy was asked.
    pub async fn probe(&self, path: &str, own: IpAddr) -> Result<u16, ProbeError> {
        let port = self.port(path)?;
        // The proxy's own connections within the pod are not redirected.
        connect(SocketAddr::new(own, port), Path::Direct, PATIENCE).await?;
        Ok(port)
    }

    fn port(&self, path: &str) -> Result<u16, ProbeError> {
        let port = match path.parse() {
            Ok(port) if port > 0 => port,
            Ok(_) | Err(_) => return Err(ProbeError::NoPort(path.chars().take(32).collect())),
        };
        if self.0.contains(&port) {
            Ok(port)
        } else {
            Err(ProbeError::Undeclared(port))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_declared_port_is_tried() {
        let probes = TcpProbes::from_iter([8080, 9090]);
        assert_eq!(probes.port("8080").unwrap(), 8080);
        for undeclared in ["80", "15020", "65535"] {
            let refused = probes.port(undeclared);
            assert!(
                matches!(refused, Err(ProbeError::Undeclared(_))),
                "{refused:?}"
            );
        }
        for bad in ["", "0", "http", "65536", "8080/", "8080?x", "-1", "+ 80"] {
            let refused = probes.port(bad);
            assert!(matches!(refused, Err(ProbeError::NoPort(_))), "{refused:?}");
        }
    }
}
