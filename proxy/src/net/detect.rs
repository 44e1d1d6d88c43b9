//! What a connection speaks, from its first bytes, without using them up: whoever carries it finds them in its input.
//!
//! They are read, and not looked at in the socket: what stays there makes the socket ready for ever, and more of it could only be waited for by
//! looking again and again.
//!
//! Where the server may speak first (MySQL, SMTP) a caller's silence for [`PATIENCE`] is an answer too: then it is time to connect to the server and
//! to see who says something first. Of TLS the beginning is recognised, and whose it is elsewhere (`hello`). Not recognised: HTTP/1.1 `Upgrade: h2c`, and CONNECT (opaque).

use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use traffic_core::config::Protocol;

use super::end::End;

/// How long a connection of unknown protocol may be silent.
pub const PATIENCE: Duration = Duration::from_millis(25);
/// How long a first line may take to arrive in pieces, once it has begun.
const LINE: Duration = Duration::from_secs(5);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A record of TLS that is part of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// Longer than any method that is in use, and the preface.
const ENOUGH: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    Http1,
    Http2,
    Opaque,
    /// As far as the first byte tells.
    Tls,
    /// Nothing came yet, and perhaps it is for the server to speak.
    Silent,
    /// The peer left before it said anything.
    Closed,
}

/// Waits for the first bytes and says what they are. They are in `end`'s input then, however this ends.
pub async fn detect(end: &mut End, protocol: Protocol) -> io::Result<Detected> {
    let mut deadline = match protocol {
        Protocol::Opaque => return Ok(Detected::Opaque),
        Protocol::Detect => Some(Instant::now() + PATIENCE),
        Protocol::Http => None,
    };
    let (mut read, _) = end.stream.split();
    loop {
        if let Some(detected) = judge(end.input.bytes()) {
            return Ok(detected);
        }
        let begun = !end.input.is_empty();
        let fill = end.input.fill(&mut read);
        let filled = match deadline {
            Some(deadline) => timeout_at(deadline, fill).await,
            None => Ok(fill.await),
        };
        let Ok(filled) = filled else {
            return Ok(if begun {
                Detected::Opaque
            } else {
                Detected::Silent
            });
        };
        if filled? == 0 {
            return Ok(if begun {
                Detected::Opaque
            } else {
                Detected::Closed
            });
        }
        if !begun {
            deadline = Some(Instant::now() + LINE);
        }
    }
}

/// `None`: it could still be HTTP, more bytes are needed.
fn judge(bytes: &[u8]) -> Option<Detected> {
    if bytes.starts_with(PREFACE) {
        return Some(Detected::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    if bytes.starts_with(&[HANDSHAKE]) {
        return Some(Detected::Tls);
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
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::Shutdown;
    use std::pin::pin;
    use std::rc::Rc;
    use tokio::net::TcpListener;

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
            (b"\x16", Detected::Tls),
            (b"\x16\x03\x01\x02\x00", Detected::Tls),
            (b"\x17\x03\x03\x02\x00", Detected::Opaque),
            (b"get key\r\n", Detected::Opaque),
            (b"GET key\r\n", Detected::Opaque),
            (b"SSH-2.0-OpenSSH", Detected::Opaque),
            (b" /", Detected::Opaque),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Detected::Opaque),
        ] {
            assert_eq!(judge(bytes), Some(expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn every_beginning_of_http_asks_for_more() {
        for whole in [&b"POST /"[..], b"PUT /", b"GET http", PREFACE] {
            for length in 0..whole.len() {
                assert_eq!(
                    judge(&whole[..length]),
                    None,
                    "{}",
                    whole[..length].escape_ascii()
                );
            }
        }
    }

    /// A connection whose peer has sent `bytes`, and the peer.
    async fn having(bytes: &[u8]) -> (End, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.write_all(bytes).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (End::new(stream, Rc::default()), peer)
    }

    /// The clock stands still, and leaps when there is nothing to do but to wait for it: whoever looks again and again does so a thousand times.
    #[tokio::test(start_paused = true)]
    async fn half_a_first_line_costs_nothing_while_the_rest_is_waited_for() {
        let mut peers = Vec::new();
        for protocol in [Protocol::Detect, Protocol::Http].repeat(50) {
            let (mut end, peer) = having(b"PO").await;
            end.stream.readable().await.unwrap();
            let (mut looks, begun) = (0, Instant::now());
            let detected = {
                let mut detecting = pin!(detect(&mut end, protocol));
                poll_fn(|cx| {
                    looks += 1;
                    detecting.as_mut().poll(cx)
                })
                .await
            };
            assert_eq!(detected.unwrap(), Detected::Opaque);
            assert!(begun.elapsed() >= LINE);
            assert!(looks <= 3, "{looks} looks at two bytes");
            assert_eq!(end.input.bytes(), b"PO");
            peers.push(peer);
        }
    }

    #[tokio::test]
    async fn what_comes_in_pieces_is_recognised_by_its_last_one() {
        let (mut end, mut peer) = having(b"PO").await;
        let rest = async {
            tokio::task::yield_now().await;
            peer.write_all(b"ST / HTTP/1.1\r\n").unwrap();
        };
        let (detected, ()) = tokio::join!(detect(&mut end, Protocol::Detect), rest);
        assert_eq!(detected.unwrap(), Detected::Http1);
        assert_eq!(end.input.bytes(), b"POST / HTTP/1.1\r\n");
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_not_waited_for_any_longer() {
        for (bytes, expected) in [(&b""[..], Detected::Closed), (b"PO", Detected::Opaque)] {
            let (mut end, peer) = having(bytes).await;
            peer.shutdown(Shutdown::Write).unwrap();
            let detected = detect(&mut end, Protocol::Http).await.unwrap();
            assert_eq!((detected, end.input.bytes()), (expected, bytes));
        }
    }
}
