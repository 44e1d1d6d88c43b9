//! The first message of TLS: whether a sidecar says it, or an application. Nothing is used up: an application's goes on as it came.
//!
//! It may come in any pieces. One that is no TLS after all, too large, or not whole in time, is not a sidecar's.

use std::io;
use std::time::Duration;

use rustls::server::{Accepted, Acceptor};
use tokio::time::{Instant, timeout_at};

use super::end::End;
use crate::identity::inner::is_sidecars;

/// How long it may take to come in pieces.
const WHOLE: Duration = Duration::from_secs(5);

pub enum Hello {
    /// It is for this proxy to answer, and all of the input is in it.
    Sidecar(Box<Accepted>),
    /// It is for the application.
    Application,
}

/// Waits for the whole message, which has begun in `end`'s input, and says whose it is. It stays there.
pub async fn read(end: &mut End) -> io::Result<Hello> {
    let deadline = Instant::now() + WHOLE;
    let mut reader = Reader::default();
    let (mut read, _) = end.stream.split();
    loop {
        if let Some(hello) = reader.look(end.input.bytes()) {
            return Ok(hello);
        }
        match timeout_at(deadline, end.input.fill(&mut read)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) | Err(_) => return Ok(Hello::Application),
            Ok(Err(error)) => return Err(error),
        }
    }
}

#[derive(Default)]
struct Reader {
    acceptor: Acceptor,
    /// So many bytes were looked at.
    seen: usize,
}

impl Reader {
    /// `None`: more bytes are needed.
    fn look(&mut self, bytes: &[u8]) -> Option<Hello> {
        while self.seen < bytes.len() {
            match self.acceptor.read_tls(&mut &bytes[self.seen..]) {
                Ok(read @ 1..) => self.seen += read,
                Ok(0) | Err(_) => return Some(Hello::Application),
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                // A sidecar waits for the answer before it says more.
                Ok(Some(hello)) if is_mesh(&hello) && self.seen == bytes.len() => {
                    return Some(Hello::Sidecar(Box::new(hello)));
                }
                Ok(Some(_)) | Err(_) => return Some(Hello::Application),
            }
        }
        None
    }
}

fn is_mesh(hello: &Accepted) -> bool {
    let mut offers = hello.client_hello().alpn().into_iter().flatten();
    offers.any(is_sidecars)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What a client that offers these protocols says first, with `padding` bytes of other offers.
    fn hello(alpn: &[&[u8]], padding: usize) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let padding = (0..padding / 200).map(|_| vec![b'x'; 200]);
        config.alpn_protocols = padding
            .chain(alpn.iter().map(|each| each.to_vec()))
            .collect();
        let name = "web.shop".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// What is said when the last of `bytes` has come, in pieces of `size`.
    fn judged(bytes: &[u8], size: usize) -> Option<bool> {
        let mut reader = Reader::default();
        let ends = (size..bytes.len()).step_by(size);
        for end in ends {
            assert!(reader.look(&bytes[..end]).is_none(), "after {end} bytes");
        }
        let hello = reader.look(bytes);
        hello.map(|hello| matches!(hello, Hello::Sidecar(_)))
    }

    #[test]
    fn a_sidecars_hello_is_told_from_an_applications_whatever_pieces_it_comes_in() {
        for padding in [0, 6_000, 30_000] {
            for (alpn, is_sidecars) in [
                (&[&b"aviary/h1"[..]][..], true),
                (&[b"aviary/h9", b"h2"], true),
                (&[b"h2", b"http/1.1"], false),
                (&[], false),
            ] {
                let bytes = hello(alpn, padding);
                assert!(bytes.len() > padding);
                for size in [1, 7, 1400, bytes.len()] {
                    assert_eq!(judged(&bytes, size), Some(is_sidecars), "{alpn:?} {size}");
                }
            }
        }
    }

    #[test]
    fn what_only_begins_like_tls_is_the_applications() {
        let mut whole = hello(&[b"aviary/h1"], 0);
        for bytes in [
            &b"\x16\x03\x01\x00\x05hello"[..],
            b"\x16\x03\x01\xff\xff",
            b"\x16 is no TLS",
        ] {
            let padded = [bytes, &[0; 70_000]].concat();
            let hello = Reader::default().look(&padded);
            assert!(matches!(hello, Some(Hello::Application)));
        }
        whole.extend([0; 5000]);
        let hello = Reader::default().look(&whole);
        assert!(matches!(hello, Some(Hello::Application)));
    }
}
