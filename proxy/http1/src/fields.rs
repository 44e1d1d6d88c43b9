//! What the heads of requests and answers have in common: their fields, which of them end at this hop, and what they say about the body and
//! the connection.

use std::mem::MaybeUninit;

use httparse::Header;

use crate::framing::Framing;
use crate::scan::MOST_FIELDS;
use crate::{Limits, Malformed};

/// Where the fields of a head are kept while it is read. On the stack, and not initialised: a head costs no allocation.
pub type Lines<'b> = [MaybeUninit<Header<'b>>; MOST_FIELDS];

/// Space for the fields of one head.
pub const fn lines<'b>() -> Lines<'b> {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// Whether a connection may carry another message after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    KeepAlive,
    Close,
}

/// What the proxy itself adds and removes on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edit<'e> {
    /// Names in lower case.
    pub without: &'e [&'e str],
    pub with: &'e [(&'e str, &'e str)],
}

/// The longest body that every reader can count: some do it with a sign.
const LONGEST_BODY: u64 = i64::MAX as u64;

/// What a field is to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    EndToEnd,
    Host,
    Length,
    Coding,
    Connection,
    Te,
    Upgrade,
    Expect,
    /// Ends here, and says nothing to us (`Proxy-Connection`).
    Hop,
    KeepAlive,
}

/// The fields of one head, read once.
#[derive(Debug)]
pub struct Fields<'l, 'b> {
    lines: &'l [Header<'b>],
    kinds: [Kind; MOST_FIELDS],
    length: Option<u64>,
    /// Whether there is a `Transfer-Encoding`, which then is `chunked`.
    is_chunked: bool,
    pub(crate) asks: Asks,
    pub(crate) hosts: usize,
    pub(crate) upgrade: Option<&'b [u8]>,
    pub(crate) expects_continue: bool,
    pub(crate) keep_alive: Option<&'b [u8]>,
}

/// What the `Connection` fields say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asks {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Names other fields that end here.
    others: bool,
}

impl<'l, 'b> Fields<'l, 'b> {
    pub(crate) fn read(
        lines: &'l [Header<'b>],
        version: Version,
        limits: &Limits,
    ) -> Result<Fields<'l, 'b>, Malformed> {
        if lines.len() > limits.fields {
            return Err(Malformed::TooManyFields);
        }
        let mut fields = Fields {
            lines,
            kinds: [Kind::EndToEnd; MOST_FIELDS],
            length: None,
            is_chunked: false,
            asks: Asks::default(),
            hosts: 0,
            upgrade: None,
            expects_continue: false,
            keep_alive: None,
        };
        for (index, line) in lines.iter().enumerate() {
            let kind = kind(line.name.as_bytes());
            fields.kinds[index] = kind;
            match kind {
                Kind::EndToEnd | Kind::Te | Kind::Hop => {}
                Kind::Host => fields.hosts += 1,
                Kind::Length => fields.length(line.value)?,
                Kind::Coding => fields.coding(line.value, version)?,
                Kind::Connection => fields.connection(line.value),
                Kind::Upgrade => fields.upgrade = Some(line.value),
                Kind::Expect => {
                    fields.expects_continue = line.value.eq_ignore_ascii_case(b"100-continue");
                }
                Kind::KeepAlive => fields.keep_alive = Some(line.value),
            }
        }
        Ok(fields)
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let length = number(value)
            .filter(|length| *length <= LONGEST_BODY)
            .ok_or(Malformed::Length)?;
        match self.length {
            Some(other) if other != length => Err(Malformed::Lengths),
            Some(_) | None => {
                self.length = Some(length);
                Ok(())
            }
        }
    }

    fn coding(&mut self, value: &[u8], version: Version) -> Result<(), Malformed> {
        if version == Version::Http10 {
            return Err(Malformed::CodingInOldVersion);
        }
        if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed::Coding);
        }
        self.is_chunked = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in options(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.asks.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.asks.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.asks.upgrade = true;
            } else if !option.is_empty() {
                self.asks.others = true;
            }
        }
    }

    pub(crate) fn declared(&self) -> Declared {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Declared::Both,
            (true, None) => Declared::Chunked,
            (false, Some(length)) => Declared::Length(length),
            (false, None) => Declared::Nothing,
        }
    }

    pub(crate) fn persistence(&self, version: Version) -> Persistence {
        let keep = match version {
            Version::Http11 => !self.asks.close,
            Version::Http10 => self.asks.keep_alive && !self.asks.close,
        };
        if keep {
            Persistence::KeepAlive
        } else {
            Persistence::Close
        }
    }

    /// The first field of this name, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&'b [u8]> {
        self.all(name).next()
    }

    /// All fields of this name, which is in lower case, in their order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        let named = move |line: &&Header<'b>| line.name.eq_ignore_ascii_case(name);
        self.lines.iter().filter(named).map(|line| line.value)
    }

    /// Writes the fields that go on, each as it came.
    pub(crate) fn write(&self, out: &mut Vec<u8>, passing: Passing, edit: &Edit<'_>) {
        let mut has_length = false;
        for (line, kind) in self.lines.iter().zip(&self.kinds) {
            let passes = match kind {
                Kind::EndToEnd => !self.is_named(line.name),
                Kind::Host => passing.host == Host::Kept,
                Kind::Expect => true,
                Kind::Length => {
                    if let Some(length) = self.length
                        && !has_length
                        && passing.length == Length::Kept
                    {
                        // As it was understood: without the zeros before it.
                        let mut decimal = itoa::Buffer::new();
                        field(out, line.name, decimal.format(length).as_bytes());
                    }
                    has_length = true;
                    false
                }
                Kind::Coding | Kind::Connection | Kind::Hop | Kind::KeepAlive => false,
                // gRPC servers insist on `te: trailers`; nothing else of it may pass.
                Kind::Te => line.value == b"trailers",
                Kind::Upgrade => passing.upgrade == Upgrade::Kept,
            };
            let removed = |name: &&str| line.name.eq_ignore_ascii_case(name);
            if passes && !edit.without.iter().any(removed) {
                field(out, line.name, line.value);
            }
        }
        for (name, value) in edit.with {
            field(out, name, value.as_bytes());
        }
    }

    /// Whether a `Connection` field says that this one ends here.
    fn is_named(&self, name: &str) -> bool {
        self.asks.others
            && self
                .lines
                .iter()
                .zip(&self.kinds)
                .filter(|(_, kind)| **kind == Kind::Connection)
                .flat_map(|(line, _)| options(line.value))
                .any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// What a head says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
    Both,
}

impl Declared {
    pub(crate) fn or(self, nothing: Framing) -> Framing {
        match self {
            Declared::Nothing => nothing,
            Declared::Length(length) => Framing::Length(length),
            // With both the coding counts (RFC 9112, 6.3).
            Declared::Chunked | Declared::Both => Framing::Chunked,
        }
    }
}

/// Which of the fields that concern one hop pass all the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing {
    pub(crate) upgrade: Upgrade,
    pub(crate) length: Length,
    pub(crate) host: Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    Kept,
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Kept,
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Kept,
    Replaced,
}

pub(crate) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The elements of a list (RFC 9110, 5.6.1).
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

/// Digits and nothing else, up to `u64::MAX`.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn kind(name: &[u8]) -> Kind {
    let is = |known: &[u8], kind| {
        if name.eq_ignore_ascii_case(known) {
            kind
        } else {
            Kind::EndToEnd
        }
    };
    match name.len() {
        2 => is(b"te", Kind::Te),
        4 => is(b"host", Kind::Host),
        6 => is(b"expect", Kind::Expect),
        7 => is(b"upgrade", Kind::Upgrade),
        10 if name[0] | 0x20 == b'c' => is(b"connection", Kind::Connection),
        10 => is(b"keep-alive", Kind::KeepAlive),
        14 => is(b"content-length", Kind::Length),
        16 => is(b"proxy-connection", Kind::Hop),
        17 => is(b"transfer-encoding", Kind::Coding),
        _ => Kind::EndToEnd,
    }
}
