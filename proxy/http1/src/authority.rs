//! Whom a request is for, as its target or `Host` says it (RFC 3986, 3.2.2 and 3.2.3): `host`, `host:port`, `[address]:port`, and no user.

/// Whether these bytes are a host and perhaps a port.
pub(crate) fn is_valid(bytes: &[u8]) -> bool {
    let (host, rest) = match bytes.split_first() {
        Some((b'[', inside)) => match inside.iter().position(|b| *b == b']') {
            Some(end) => (Host::Address(&inside[..end]), &inside[end + 1..]),
            None => return false,
        },
        Some(_) | None => {
            let end = bytes.iter().position(|b| *b == b':');
            let (name, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            (Host::Name(name), rest)
        }
    };
    host.is_valid() && is_port(rest)
}

enum Host<'b> {
    Name(&'b [u8]),
    Address(&'b [u8]),
}

impl Host<'_> {
    fn is_valid(&self) -> bool {
        match self {
            Host::Name(name) => !name.is_empty() && name.iter().all(|b| is_of_name(*b)),
            Host::Address(address) => std::str::from_utf8(address)
                .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok()),
        }
    }
}

/// Without `%`: no two readers agree on what an escaped name is.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'$' | b'&'..=b'.' | b';' | b'=' | b'_' | b'~')
}

/// Nothing, or a colon and a number. The number may be missing.
fn is_port(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        None => true,
        Some((b':', [])) => true,
        Some((b':', digits)) => digits.iter().all(u8::is_ascii_digit) && digits.len() <= 5,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn a_name_or_an_address_and_perhaps_a_port() {
        for good in [
            "web",
            "web.shop.svc:80",
            "my_app",
            "10.0.0.1:8080",
            "[::1]",
            "[fd00::7]:80",
            "web:",
        ] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a/b", "a?b", "a#b", "a@b", "a\\b", "a%41", "a\"b", "a:b", "a:80:80",
            "a:800000", "[::1", "[a]", "::1", "[::1]80", "[::1]:x", "a\u{e9}", "a\0", "a\t",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
    }
}
