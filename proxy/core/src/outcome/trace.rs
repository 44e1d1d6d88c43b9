//! Which request it was: its trace, by which people find it where they keep their traces. Nothing is judged by it.
//!
//! Callers write what they like. Of a `traceparent` only the trace id is taken, if it is one; of a target only the path, and of
//! that only what a path may have.

use std::fmt;

/// The most bytes of a path that are kept.
pub const LONGEST_PATH: usize = 64;

/// Of `traceparent`: version, trace id, parent id, flags.
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    id: [u8; 16],
    path: Box<str>,
}

impl Trace {
    /// By the fields of a request: its `traceparent` (W3C Trace Context, 3.2; of a newer version as much as this one has)
    /// and its target. `None`: it says no trace.
    pub fn of_request(traceparent: &[u8], target: &[u8]) -> Option<Trace> {
        let is_separated = [2, 35, 52]
            .iter()
            .all(|at| traceparent.get(*at) == Some(&b'-'));
        let version = traceparent.get(..2)?;
        let is_whole = match (version, traceparent.len()) {
            (b"ff", _) => false,
            (b"00", length) => length == LENGTH,
            (_, LENGTH) => true,
            (_, _) => traceparent.get(LENGTH) == Some(&b'-'),
        };
        if !is_separated || !is_whole {
            return None;
        }
        Trace::read(traceparent.get(3..35)?, path(target))
    }

    /// By 32 lower-case hexadecimal digits, not all of them 0, and a path.
    pub fn read(id: &[u8], path: &[u8]) -> Option<Trace> {
        let digits: &[u8; 32] = id.try_into().ok()?;
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        let path = path.iter().take(LONGEST_PATH).copied();
        (id != [0; 16]).then(|| Trace {
            id,
            path: path.map(plain).collect(),
        })
    }

    /// 32 hexadecimal digits.
    pub fn id(&self) -> String {
        self.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The request's path without its query, at most [`LONGEST_PATH`] bytes of it; empty if the target has none.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trace {}", self.id())?;
        if !self.path.is_empty() {
            write!(f, " of {}", self.path)?;
        }
        Ok(())
    }
}

fn digit(of: u8) -> Option<u8> {
    match of {
        b'0'..=b'9' => Some(of - b'0'),
        b'a'..=b'f' => Some(of - b'a' + 10),
        _ => None,
    }
}

/// The path of a target in origin form or absolute form (RFC 9112, 3.2), without its query; empty if it has none.
pub fn path(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let target = &target[..end.unwrap_or(target.len())];
    let authority = target
        .windows(3)
        .position(|of| of == b"://")
        .filter(|_| !target.starts_with(b"/"));
    let from = authority.map_or(0, |at| at + 3);
    let slash = target[from..].iter().position(|byte| *byte == b'/');
    match (slash, authority) {
        (Some(0), None) => target,
        (Some(at), Some(_)) => &target[from + at..],
        (Some(_) | None, _) => &[],
    }
}

/// What a path may have stays (RFC 3986, 3.3); anything else becomes an underscore.
fn plain(byte: u8) -> char {
    if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte) {
        char::from(byte)
    } else {
        '_'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn id(traceparent: &str) -> Option<String> {
        Trace::of_request(traceparent.as_bytes(), b"/").map(|trace| trace.id())
    }

    #[test]
    fn the_trace_id_of_a_traceparent_is_taken() {
        assert_eq!(id(PARENT).as_deref(), Some(ID));
        let newer = PARENT.replacen("00-", "01-", 1);
        for traceparent in [newer.clone(), format!("{newer}-more")] {
            assert_eq!(id(&traceparent).as_deref(), Some(ID));
        }
    }

    #[test]
    fn what_is_no_trace_is_none() {
        let upper = PARENT.replace("4bf92f", "4BF92F");
        let zero = PARENT.replace(ID, &"0".repeat(32));
        let late = PARENT.replacen("00-", "ff-", 1);
        let wrong = PARENT.replace("4bf9", "4bg9");
        let apart = PARENT.replacen("6-", "6_", 1);
        for traceparent in [
            "",
            "00",
            "00-",
            &PARENT[..54],
            &format!("{PARENT}-more"),
            &upper,
            &zero,
            &late,
            &wrong,
            &apart,
        ] {
            assert_eq!(id(traceparent), None, "{traceparent}");
        }
        assert_eq!(Trace::of_request(&[0xff; 55], b"/"), None);
    }

    #[test]
    fn of_a_target_only_the_path_is_kept_without_its_query_and_cut() {
        let path = |target: &[u8]| {
            let trace = Trace::of_request(PARENT.as_bytes(), target).unwrap();
            trace.path().to_owned()
        };
        assert_eq!(path(b"/pay/42?card=1234#top"), "/pay/42");
        assert_eq!(path(b"http://web:80/pay?a=b/c"), "/pay");
        assert_eq!(
            path(b"/redirect/http://web/pay"),
            "/redirect/http://web/pay"
        );
        for none in [
            &b""[..],
            b"*",
            b"web:443",
            b"http://web",
            b"http://web?a=/b",
        ] {
            assert_eq!(path(none), "", "{none:?}");
        }
        assert_eq!(
            path(b"/a\"b\n\x1b[31m\xc3\xa9"),
            "/a_b__[31m__".replace('[', "_")
        );
        assert_eq!(path("/x".repeat(100).as_bytes()).len(), LONGEST_PATH);
    }

    #[test]
    fn it_is_said_with_its_path() {
        let trace = Trace::of_request(PARENT.as_bytes(), b"/pay?a=b").unwrap();
        assert_eq!(trace.to_string(), format!("trace {ID} of /pay"));
        let bare = Trace::read(ID.as_bytes(), b"").unwrap();
        assert_eq!(bare.to_string(), format!("trace {ID}"));
    }
}
