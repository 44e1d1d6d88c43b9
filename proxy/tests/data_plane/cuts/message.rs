//! HTTP/1.1 as the strictest of readers takes it: a message is whole, or it is nothing.

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Method and path, or version and status.
    pub first: String,
    pub body: Vec<u8>,
}

impl Message {
    pub(super) fn path(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    pub(super) fn status(&self) -> u16 {
        self.path().parse().unwrap()
    }
}

/// The message that these bytes are, if they are one and nothing else.
pub(super) fn whole(bytes: &[u8]) -> Option<Message> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut rest = &bytes[end + 4..];
    let field = |name: &str| {
        let mut lines = head.split("\r\n").skip(1);
        lines.find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    };
    let mut body = Vec::new();
    if field("transfer-encoding").is_some() {
        loop {
            let line = line(&mut rest)?;
            let size = usize::from_str_radix(std::str::from_utf8(line).ok()?, 16).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(rest.get(..size)?);
            rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
        }
        while !line(&mut rest)?.is_empty() {}
    } else if let Some(length) = field("content-length") {
        let length: usize = length.parse().ok()?;
        body.extend_from_slice(rest.get(..length)?);
        rest = &rest[length..];
    }
    let first = head.split("\r\n").next()?.to_owned();
    rest.is_empty().then_some(Message { first, body })
}

fn line<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let end = rest.windows(2).position(|w| w == b"\r\n")?;
    let (line, after) = rest.split_at(end);
    *rest = &after[2..];
    Some(line)
}
