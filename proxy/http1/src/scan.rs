//! Finds the end of a head without reading any byte twice, and before anything of it is believed: a head that comes byte by byte costs no more
//! than one that comes whole, and the limits are exact.

use memchr::memchr;

use crate::Malformed;

/// The most fields that a head may have, whatever [`Limits`] says: 128, and two that a proxy before this one may have added.
pub const MOST_FIELDS: usize = 130;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, the empty line included.
    pub bytes: usize,
    /// Fields, [`MOST_FIELDS`] at most.
    pub fields: usize,
}

impl Default for Limits {
    /// 60 KiB, and as many fields as there may be.
    fn default() -> Limits {
        Limits {
            bytes: 60 * 1024,
            fields: MOST_FIELDS,
        }
    }
}

/// The search for the empty line that ends a head. One for each head.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadEnd {
    /// Where the present line begins.
    line: usize,
    /// What was looked at already.
    seen: usize,
}

impl HeadEnd {
    /// The length of the head at the beginning of `bytes`, or `None` if more is needed. `bytes` begins where it began last time.
    pub fn find(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
        while let Some(found) = memchr(b'\n', &bytes[self.seen..]) {
            let end = self.seen + found;
            if end == self.line || bytes[end - 1] != b'\r' {
                return Err(Malformed::LineEnd);
            }
            self.seen = end + 1;
            if self.seen > limits.bytes {
                return Err(Malformed::HeadTooLarge);
            }
            if end - 1 == self.line {
                return Ok(Some(self.seen));
            }
            self.line = self.seen;
        }
        self.seen = bytes.len();
        if self.seen >= limits.bytes {
            return Err(Malformed::HeadTooLarge);
        }
        Ok(None)
    }
}

/// The length of an empty line before a request, which is skipped (RFC 9112, 2.2); `None` if more bytes are needed to tell.
pub fn empty_line(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [] | [b'\r'] => None,
        [b'\r', b'\n', ..] => Some(2),
        [..] => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        HeadEnd::default().find(bytes, &Limits::default())
    }

    #[test]
    fn the_end_is_found_whatever_pieces_the_head_comes_in() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET";
        let mut scan = HeadEnd::default();
        for length in 0..27 {
            assert_eq!(scan.find(&head[..length], &Limits::default()), Ok(None));
        }
        assert_eq!(scan.find(head, &Limits::default()), Ok(Some(27)));
        assert_eq!(find(head), Ok(Some(27)));
    }

    #[test]
    fn a_line_end_without_cr_is_refused_at_once() {
        for bytes in [&b"GET / HTTP/1.1\nhost"[..], b"\n", b"a\r\n\n", b"a\r\nb\n"] {
            assert_eq!(
                find(bytes),
                Err(Malformed::LineEnd),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn the_limit_is_exact() {
        let head = b"GET / HTTP/1.1\r\n\r\n";
        let limits = |bytes| Limits {
            bytes,
            ..Limits::default()
        };
        let whole = HeadEnd::default().find(head, &limits(head.len()));
        assert_eq!(whole, Ok(Some(head.len())));
        let less = HeadEnd::default().find(head, &limits(head.len() - 1));
        assert_eq!(less, Err(Malformed::HeadTooLarge));
        // Without waiting for an end that may never come.
        let endless = HeadEnd::default().find(b"GET /aaaaaaa", &limits(12));
        assert_eq!(endless, Err(Malformed::HeadTooLarge));
    }

    #[test]
    fn one_empty_line_before_a_request_is_skipped() {
        assert_eq!(empty_line(b"\r\nGET"), Some(2));
        assert_eq!(empty_line(b"GET"), Some(0));
        assert_eq!(empty_line(b"\r"), None);
        assert_eq!(empty_line(b""), None);
    }
}
