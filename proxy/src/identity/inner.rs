//! What is spoken inside mutual TLS. The protocol of the application layer (ALPN, RFC 7301) says it, so nobody has to guess, and it tells a sidecar's TLS
//! from an application's own.

/// What every name of a sidecar's begins with. A `ClientHello` that offers one is for the sidecar, of whatever version it is.
const PREFIX: &[u8] = b"aviary/";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    Http1,
    Http2,
    /// Bytes that no sidecar reads.
    Tcp,
}

impl Inner {
    pub const ALL: [Inner; 3] = [Inner::Http1, Inner::Http2, Inner::Tcp];

    pub fn alpn(self) -> &'static [u8] {
        match self {
            Inner::Http1 => b"aviary/h1",
            Inner::Http2 => b"aviary/h2",
            Inner::Tcp => b"aviary/tcp",
        }
    }

    /// `None`: no name of this version's.
    pub fn of(alpn: &[u8]) -> Option<Inner> {
        Inner::ALL.into_iter().find(|inner| inner.alpn() == alpn)
    }
}

/// Whether an offer is one of a sidecar's.
pub fn is_sidecars(alpn: &[u8]) -> bool {
    alpn.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_sidecars_and_names_one_protocol() {
        for inner in Inner::ALL {
            assert!(is_sidecars(inner.alpn()));
            assert_eq!(Inner::of(inner.alpn()), Some(inner));
        }
        assert!(is_sidecars(b"aviary/h3") && Inner::of(b"aviary/h3").is_none());
        for other in [&b"h2"[..], b"http/1.1", b"aviary", b""] {
            assert!(!is_sidecars(other));
        }
    }
}
