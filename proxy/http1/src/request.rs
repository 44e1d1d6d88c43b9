//! A caller's request: what its head says, and how it goes on to an endpoint.

use httparse::{Header, Status};

use crate::fields::{Declared, Fields, Host, Length, Lines, Passing, Upgrade, field};
use crate::framing::Framing;
use crate::{Edit, Limits, Malformed, Persistence, Version, authority};

#[derive(Debug)]
pub struct Request<'l, 'b> {
    pub method: &'b str,
    pub target: &'b str,
    pub version: Version,
    pub framing: Framing,
    /// Whether the caller wants to send another request on this connection.
    pub persistence: Persistence,
    pub fields: Fields<'l, 'b>,
}

impl<'l, 'b> Request<'l, 'b> {
    /// Reads a whole head, as [`HeadEnd`](crate::HeadEnd) found it.
    pub fn read(
        head: &'b [u8],
        lines: &'l mut Lines<'b>,
        limits: &Limits,
    ) -> Result<Request<'l, 'b>, Malformed> {
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, lines) {
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
        let (method, target) = parsed.method.zip(parsed.path).ok_or(Malformed::Syntax)?;
        check(method, target)?;
        if fields.hosts > 1 {
            return Err(Malformed::Hosts);
        }
        // The Host that it gets may not be one too many for the next reader.
        if headers.len() == limits.fields && fields.hosts == 0 && authority_of(target).is_some() {
            return Err(Malformed::TooManyFields);
        }
        // Empty where there is nobody to name (RFC 9110, 7.2).
        if fields
            .get("host")
            .is_some_and(|host| !host.is_empty() && !authority::is_valid(host))
        {
            return Err(Malformed::Host);
        }
        let framing = match fields.declared() {
            Declared::Both => return Err(Malformed::LengthAndCoding),
            other => other.or(Framing::Empty),
        };
        Ok(Request {
            method,
            target,
            version,
            framing,
            persistence: fields.persistence(version),
            fields,
        })
    }

    /// Whether the caller waits for `100 Continue` before it sends its body.
    pub fn expects_continue(&self) -> bool {
        self.fields.expects_continue && self.version == Version::Http11
    }

    /// Whether it asks to leave HTTP (WebSocket). `h2c` does not count: an endpoint is spoken to in the caller's version.
    pub fn wants_upgrade(&self) -> bool {
        self.version == Version::Http11
            && self.fields.asks.upgrade
            && self
                .fields
                .upgrade
                .is_some_and(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
    }

    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Reading once more changes nothing (RFC 9110, 9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
    }

    pub fn has_host(&self) -> bool {
        self.fields.hosts > 0 || self.authority_of_target().is_some()
    }

    /// Whom the request is for: the authority of its target, or else Host (RFC 9112, 3.2.2).
    pub fn authority(&self) -> Option<&'b str> {
        let host = || std::str::from_utf8(self.fields.get("host")?).ok();
        self.authority_of_target().or_else(host)
    }

    fn authority_of_target(&self) -> Option<&'b str> {
        authority_of(self.target)
    }

    /// Writes the head for an endpoint.
    pub fn write(&self, out: &mut Vec<u8>, edit: &Edit<'_>) {
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let authority = self.authority_of_target();
        if let Some(authority) = authority {
            field(out, "Host", authority.as_bytes());
        }
        let passing = Passing {
            upgrade: if self.wants_upgrade() {
                Upgrade::Kept
            } else {
                Upgrade::Removed
            },
            length: Length::Kept,
            host: match authority {
                Some(_) => Host::Replaced,
                None => Host::Kept,
            },
        };
        self.fields.write(out, passing, edit);
        if self.framing == Framing::Chunked {
            field(out, "Transfer-Encoding", b"chunked");
        }
        if passing.upgrade == Upgrade::Kept {
            field(out, "Connection", b"Upgrade");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// `None`: the target names nobody, as nearly all do, which are paths.
fn authority_of(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return None;
    }
    let (scheme, rest) = target.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        .then_some(&rest[..end])
}

fn check(method: &str, target: &str) -> Result<(), Malformed> {
    if method == "CONNECT" {
        return Err(Malformed::Connect);
    }
    let is_printable = target
        .bytes()
        .all(|b| matches!(b, 0x21..=0x7e) && !matches!(b, b'#' | b'<' | b'>' | b'`'));
    let has_form = target.starts_with('/')
        || target == "*"
        || authority_of(target).is_some_and(|authority| authority::is_valid(authority.as_bytes()));
    if is_printable && has_form {
        Ok(())
    } else {
        Err(Malformed::Target)
    }
}
