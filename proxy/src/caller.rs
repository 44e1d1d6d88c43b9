//! Who is at the other end of a connection that came in.

use std::cell::OnceCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::net::TcpStream;
use traffic_core::authorize::Who;

use crate::plaintext::Noted;

#[derive(Debug)]
pub struct Caller {
    address: IpAddr,
    shown: Shown,
    /// Somebody without an identity is remembered, from the first request that was let through.
    noted: OnceCell<Noted>,
}

/// What it has shown of itself.
#[derive(Debug)]
enum Shown {
    Plaintext,
    OwnTls,
    /// Its SPIFFE ID.
    Sidecar(Arc<str>),
}

impl Caller {
    /// Of a connection that is in the clear, as far as anybody knows.
    pub fn of(stream: &TcpStream) -> Caller {
        let address = stream.peer_addr().map(|peer| peer.ip().to_canonical());
        Caller {
            // Nobody is there any more.
            address: address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            shown: Shown::Plaintext,
            noted: OnceCell::new(),
        }
    }

    /// It speaks TLS, and not a sidecar's.
    pub fn with_own_tls(self) -> Caller {
        Caller {
            shown: Shown::OwnTls,
            ..self
        }
    }

    /// It has proven who it is.
    pub fn proven(self, id: Arc<str>) -> Caller {
        Caller {
            shown: Shown::Sidecar(id),
            ..self
        }
    }

    pub fn who(&self) -> Who<'_> {
        match &self.shown {
            Shown::Plaintext => Who::Plaintext,
            Shown::OwnTls => Who::OwnTls,
            Shown::Sidecar(id) => Who::Sidecar(id),
        }
    }

    /// Its SPIFFE ID, if it has shown one.
    pub fn id(&self) -> Option<&Arc<str>> {
        match &self.shown {
            Shown::Plaintext | Shown::OwnTls => None,
            Shown::Sidecar(id) => Some(id),
        }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether there is nothing to remember of it, or it is remembered.
    pub fn is_known(&self) -> bool {
        self.id().is_some() || self.noted.get().is_some()
    }

    pub fn remember(&self, noted: impl FnOnce() -> Noted) {
        self.noted.get_or_init(noted);
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shown {
            Shown::Plaintext | Shown::OwnTls => self.address.fmt(f),
            Shown::Sidecar(id) => f.write_str(id),
        }
    }
}
