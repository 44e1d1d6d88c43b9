//! An endpoint's answer: what its head says, and how it goes on to the caller.

use std::time::Duration;

use httparse::{Header, Status};

use crate::fields::{Declared, Fields, Host, Length, Lines, Passing, Upgrade, field, number};
use crate::framing::{Coding, Framing};
use crate::{Edit, Limits, Malformed, Persistence, Version};

/// What was asked: it decides how an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub head: bool,
    pub upgrade: bool,
}

#[derive(Debug)]
pub struct Response<'l, 'b> {
    pub status: u16,
    pub reason: &'b str,
    pub version: Version,
    pub framing: Framing,
    /// Whether the endpoint takes another request on this connection.
    pub persistence: Persistence,
    pub fields: Fields<'l, 'b>,
}

/// How an answer goes on to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onward {
    pub coding: Coding,
    /// `Close`: only the end of the connection can say where the body ends.
    pub persistence: Persistence,
}

impl<'l, 'b> Response<'l, 'b> {
    /// Reads a whole head, as [`HeadEnd`](crate::HeadEnd) found it.
    pub fn read(
        head: &'b [u8],
        lines: &'l mut Lines<'b>,
        asked: Asked,
        limits: &Limits,
    ) -> Result<Response<'l, 'b>, Malformed> {
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, head, lines) {
            Ok(Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Malformed::Syntax),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
            Err(httparse::Error::Version) => return Err(Malformed::Version),
            Err(_) => return Err(Malformed::Syntax),
        }
        let version = match parsed.version {
            Some(0) => Version::Http10,
            _ => Version::Http11,
        };
        let headers: &'l [Header<'b>] = parsed.headers;
        let fields = Fields::read(headers, version, limits)?;
        let status = parsed
            .code
            .filter(|code| *code >= 100)
            .ok_or(Malformed::Syntax)?;
        if status == 101 && !asked.upgrade {
            return Err(Malformed::Switched);
        }
        let declared = fields.declared();
        let framing = match status {
            100..=199 | 204 | 304 => Framing::Empty,
            _ if asked.head => Framing::Empty,
            _ => declared.or(Framing::Close),
        };
        let persistence = match (framing, declared) {
            // Whoever sends both may mean either: what follows is not to be trusted.
            (Framing::Close, _) | (_, Declared::Both) => Persistence::Close,
            _ => fields.persistence(version),
        };
        Ok(Response {
            status,
            reason: parsed.reason.unwrap_or_default(),
            version,
            framing,
            persistence,
            fields,
        })
    }

    /// `100 Continue` and the like: another answer follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// How long the endpoint says that it keeps an idle connection.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.fields
            .keep_alive?
            .split(|b| *b == b',')
            .find_map(|parameter| parameter.trim_ascii().strip_prefix(b"timeout="))
            .and_then(|seconds| number(seconds.trim_ascii()))
            .map(Duration::from_secs)
    }

    pub fn onward(&self, to: Version) -> Onward {
        let (coding, persistence) = match (self.framing, to) {
            (Framing::Empty | Framing::Length(_), _) => (Coding::Plain, Persistence::KeepAlive),
            (Framing::Chunked | Framing::Close, Version::Http11) => {
                (Coding::Chunked, Persistence::KeepAlive)
            }
            (Framing::Chunked | Framing::Close, Version::Http10) => {
                (Coding::Plain, Persistence::Close)
            }
        };
        Onward {
            coding,
            persistence,
        }
    }

    /// Writes the head for a caller of version `to`. `persistence` is what becomes of the caller's connection.
    pub fn write(&self, out: &mut Vec<u8>, to: Version, persistence: Persistence, edit: &Edit<'_>) {
        status_line(out, to, self.status, self.reason);
        let has_length = match self.framing {
            // RFC 9110, 8.6: never in an answer that cannot have a body; in one to HEAD and in a 304 it says what there would be.
            // Beside a coding it is not to be believed.
            Framing::Empty => {
                self.status >= 200 && self.status != 204 && self.fields.declared() != Declared::Both
            }
            Framing::Length(_) => true,
            Framing::Chunked | Framing::Close => false,
        };
        let passing = Passing {
            // 101 names the new protocol, 426 the one that is required.
            upgrade: match self.status {
                101 | 426 => Upgrade::Kept,
                _ => Upgrade::Removed,
            },
            length: if has_length {
                Length::Kept
            } else {
                Length::Removed
            },
            host: Host::Kept,
        };
        self.fields.write(out, passing, edit);
        if self.onward(to).coding == Coding::Chunked {
            field(out, "Transfer-Encoding", b"chunked");
        }
        if !self.is_interim() {
            connection(out, to, persistence, passing.upgrade);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes a whole answer of the proxy's own, without its body of `length` bytes.
pub fn write_own(
    out: &mut Vec<u8>,
    to: Version,
    persistence: Persistence,
    (status, reason): (u16, &str),
    fields: &[(&str, &str)],
    length: usize,
) {
    status_line(out, to, status, reason);
    for (name, value) in fields {
        field(out, name, value.as_bytes());
    }
    field(out, "Content-Length", length.to_string().as_bytes());
    connection(out, to, persistence, Upgrade::Removed);
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, to: Version, status: u16, reason: &str) {
    out.extend_from_slice(match to {
        Version::Http10 => b"HTTP/1.0 ",
        Version::Http11 => b"HTTP/1.1 ",
    });
    let digit = |place: u16| b'0' + u8::try_from(status / place % 10).unwrap_or(0);
    out.extend_from_slice(&[digit(100), digit(10), digit(1), b' ']);
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn connection(out: &mut Vec<u8>, to: Version, persistence: Persistence, upgrade: Upgrade) {
    match (persistence, upgrade, to) {
        (Persistence::Close, Upgrade::Kept, _) => field(out, "Connection", b"Upgrade, close"),
        (Persistence::KeepAlive, Upgrade::Kept, _) => field(out, "Connection", b"Upgrade"),
        (Persistence::Close, Upgrade::Removed, _) => field(out, "Connection", b"close"),
        (Persistence::KeepAlive, Upgrade::Removed, Version::Http10) => {
            field(out, "Connection", b"keep-alive");
        }
        (Persistence::KeepAlive, Upgrade::Removed, Version::Http11) => {}
    }
}
