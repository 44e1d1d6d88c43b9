//! The split that follows people: a request that says whose it is goes where its user goes.
//!
//! All users stand in one line, each at a place that is a hash of (seed, what the request says), and a canary at weight `w` gets
//! those in the first `w` of it. So a higher weight adds users and takes none away, a lower one gives back those who came last, and a
//! weight that comes again is the same people again. Nobody has to remember anybody: every proxy that knows the seed has the same
//! line, also after a restart.
//!
//! The seed is that of a run: the same for each Service of a rollout, so that a user sees one revision behind all of them, and another
//! one for the next release, so that it is not always the same users who see a version first.
//!
//! What is exact for requests without a key ([`Interleaver`](super::Interleaver)) is so for users only as far as there are many of them, and for requests as
//! far as no user sends most of them.

use super::Pick;
use super::siphash::siphash;
use crate::weight::Weight;

/// The longest name of a header or cookie, in bytes.
pub const LONGEST_NAME: usize = 256;

/// Headers that say nothing of who asks: those of one connection, and all cookies at once, of which some change.
const NOBODYS: [&str; 11] = [
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What in a request says whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Header(Name),
    Cookie(Name),
}

/// A token of HTTP (RFC 9110, 5.6.2): a header's in lower case, a cookie's as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Box<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error(
        "header: '{0}' is no name of a header: write one such as x-user-id, of letters, digits and hyphens"
    )]
    Header(String),
    #[error(
        "header: '{0}' does not say whose a request is: name a header that is the same in every request of a user, or write cookie: NAME"
    )]
    Nobodys(String),
    #[error(
        "cookie: '{0}' is no name of a cookie: write one such as session, without spaces, '=' and ';'"
    )]
    Cookie(String),
}

/// The head of a request.
pub trait Head {
    /// The values of all fields of this name, which is in lower case, in their order.
    fn values<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]>;
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn new(name: &str) -> Option<Name> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let fits = (1..=LONGEST_NAME).contains(&name.len());
        (fits && name.bytes().all(is_token)).then(|| Name(name.into()))
    }
}

impl Key {
    /// The value of a header, in whatever case it is written.
    pub fn header(name: &str) -> Result<Key, InvalidKey> {
        let lower = name.to_ascii_lowercase();
        if NOBODYS.contains(&lower.as_str()) {
            return Err(InvalidKey::Nobodys(lower));
        }
        let token = Name::new(&lower).ok_or_else(|| InvalidKey::Header(short(name)))?;
        Ok(Key::Header(token))
    }

    /// The value of a cookie. Its name is case-sensitive.
    pub fn cookie(name: &str) -> Result<Key, InvalidKey> {
        let token = Name::new(name).ok_or_else(|| InvalidKey::Cookie(short(name)))?;
        Ok(Key::Cookie(token))
    }

    /// Whose a request is: what the first such field, or cookie, says. `None`: it does not say.
    pub fn read<'h>(&self, head: &'h impl Head) -> Option<&'h [u8]> {
        let value = match self {
            Key::Header(name) => head.values(name.as_str()).next()?.trim_ascii(),
            Key::Cookie(name) => {
                let mut fields = head.values("cookie");
                fields.find_map(|field| cookie(field, name.as_str().as_bytes()))?
            }
        };
        (!value.is_empty()).then_some(value)
    }
}

/// The value of the first cookie of this name in one `Cookie` field, without the quotes that may be around it (RFC 6265, 4.1.1).
fn cookie<'f>(field: &'f [u8], name: &[u8]) -> Option<&'f [u8]> {
    field.split(|byte| *byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name)?.trim_ascii_start();
        let value = value.strip_prefix(b"=")?.trim_ascii_start();
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|it| it.strip_suffix(b"\""));
        Some(quoted.unwrap_or(value))
    })
}

/// What deals a run's users out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed([u64; 2]);

impl Seed {
    /// Of the run with this number of `rollout`, `<namespace>/<name>`.
    pub fn of(rollout: &str, run: u64) -> Seed {
        Seed([0, 1].map(|half| siphash([run, half], rollout.as_bytes())))
    }
}

/// What a request of `user` gets.
pub fn pick(weight: Weight, seed: Seed, user: &[u8]) -> Pick {
    if place(seed, user) < weight.units() {
        Pick::Canary
    } else {
        Pick::Stable
    }
}

/// Where `user` stands, in `0..Weight::SCALE`.
fn place(Seed(seed): Seed, user: &[u8]) -> u32 {
    let hash = siphash(seed, user);
    ((u128::from(hash) * u128::from(Weight::SCALE)) >> 64) as u32
}

/// As much of a wrong name as fits into a line.
fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
