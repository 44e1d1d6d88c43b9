//! What a connection speaks, from its first bytes, without taking them: they stay in the socket for whoever reads next.
//!
//! Where the server may speak first (MySQL, SMTP) a caller's silence for [`PATIENCE`] is an answer too: then it is time to connect to the server and
//! to see who says something first. Not recognised here: TLS (opaque), HTTP/1.1 `Upgrade: h2c`, and CONNECT (opaque).

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use traffic_core::config::Protocol;

/// How long a connection of unknown protocol may be silent.
pub const PATIENCE: Duration = Duration::from_millis(25);
/// How long a first line may take to arrive in pieces, once it has begun.
const LINE: Duration = Duration::from_secs(5);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longer than any method that is in use, and the preface.
const ENOUGH: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    Http1,
    Http2,
    Opaque,
    /// Nothing came yet, and perhaps it is for the server to speak.
    Silent,
    /// The peer left before it said anything.
    Closed,
}

/// Waits for the first bytes and says what they are.
pub async fn detect(connection: &TcpStream, protocol: Protocol) -> io::Result<Detected> {
    let mut deadline = match protocol {
        Protocol::Opaque => return Ok(Detected::Opaque),
        Protocol::Detect => Some(Instant::now() + PATIENCE),
        Protocol::Http => None,
    };
    let mut buffer = [0; ENOUGH];
    let mut begun = false;
    loop {
        let peek = connection.peek(&mut buffer);
        let read = match deadline {
            Some(deadline) => match timeout_at(deadline, peek).await {
                Ok(read) => read?,
                Err(_silence) if begun => return Ok(Detected::Opaque),
                Err(_silence) => return Ok(Detected::Silent),
            },
            None => peek.await?,
        };
        match judge(&buffer[..read]) {
            Some(detected) => return Ok(detected),
            // Bytes that stay in the socket cannot be waited for: look again a little later.
            None => sleep(Duration::from_millis(2)).await,
        }
        if !begun {
            begun = true;
            deadline = Some(Instant::now() + LINE);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Detected::Opaque);
        }
    }
}

/// `None`: it could still be HTTP, more bytes are needed.
fn judge(bytes: &[u8]) -> Option<Detected> {
    if bytes.is_empty() {
        return Some(Detected::Closed);
    }
    if bytes.starts_with(PREFACE) {
        return Some(Detected::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    let method = bytes
        .iter()
        .take_while(|b| b.is_ascii_uppercase() || **b == b'-' || **b == b'_')
        .count();
    match bytes.get(method) {
        None if bytes.len() < ENOUGH => None,
        Some(b' ') if method > 0 => target(&bytes[method + 1..]),
        None | Some(_) => Some(Detected::Opaque),
    }
}

/// A request target is a path, `*`, or an absolute URI: that tells HTTP from other protocols with words in capitals.
fn target(bytes: &[u8]) -> Option<Detected> {
    match bytes.first() {
        None => None,
        Some(b'/' | b'*') => Some(Detected::Http1),
        Some(_) if bytes.starts_with(b"http") => Some(Detected::Http1),
        Some(_) if b"http".starts_with(bytes) => None,
        Some(_) => Some(Detected::Opaque),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_http_from_everything_else() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Detected::Http1),
            (b"POST /a", Detected::Http1),
            (b"OPTIONS * HTTP/1.1", Detected::Http1),
            (b"M-SEARCH * HTTP/1.1", Detected::Http1),
            (b"GET http://web/ HTTP/1.1", Detected::Http1),
            (PREFACE, Detected::Http2),
            (b"CONNECT web:443 HTTP/1.1", Detected::Opaque),
            (b"\x16\x03\x01\x02\x00", Detected::Opaque),
            (b"get key\r\n", Detected::Opaque),
            (b"GET key\r\n", Detected::Opaque),
            (b"SSH-2.0-OpenSSH", Detected::Opaque),
            (b" /", Detected::Opaque),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Detected::Opaque),
            (b"", Detected::Closed),
        ] {
            assert_eq!(judge(bytes), Some(expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn every_beginning_of_http_asks_for_more() {
        for whole in [&b"POST /"[..], b"PUT /", b"GET http", PREFACE] {
            for length in 1..whole.len() {
                assert_eq!(
                    judge(&whole[..length]),
                    None,
                    "{}",
                    whole[..length].escape_ascii()
                );
            }
        }
    }
}
