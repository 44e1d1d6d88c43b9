//! HTTP/2 as bytes (RFC 9113, 4 and 6): just enough to write an exchange by hand, and to count what a connection carried.

const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// How either side begins.
pub(crate) fn settings() -> Vec<u8> {
    [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat()
}

/// All the room that there can be, for the peer's streams and their connection (RFC 9113, 6.9.1).
pub(crate) fn open_windows() -> Vec<u8> {
    const MOST: u32 = (1 << 31) - 1;
    const INITIAL: u32 = 65_535;
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let of_streams = [&4_u16.to_be_bytes()[..], &MOST.to_be_bytes()].concat();
    let of_all = room((MOST - INITIAL) as usize);
    [frame(SETTINGS, 0, 0, &of_streams), of_all].concat()
}

/// So many bytes more may come on the connection.
pub(crate) fn room(bytes: usize) -> Vec<u8> {
    let bytes = u32::try_from(bytes).unwrap();
    frame(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes())
}

/// A whole head.
pub(crate) fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block)
}

pub(crate) fn data(flags: u8, stream: u32, data: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, data)
}

/// A literal without indexing (RFC 7541, 6.2.2), of a name in the static table.
pub(crate) fn named(index: u8, value: &str) -> Vec<u8> {
    let mut field = vec![index];
    field.push(u8::try_from(value.len()).unwrap());
    field.extend(value.as_bytes());
    field
}

/// A literal without indexing, of a new name.
pub(crate) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.push(u8::try_from(text.len()).unwrap());
        field.extend(text);
    }
    field
}

/// `POST path` to `http://web`.
pub(crate) fn post(path: &str) -> Vec<u8> {
    [vec![0x83, 0x86], named(4, path), named(1, "web")].concat()
}

/// `:status: 200`.
pub(crate) const OK: &[u8] = &[0x88];

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn is_data(&self) -> bool {
        self.kind == DATA
    }

    /// The code of a reset, or of the end of a connection.
    pub(crate) fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RESET => 0,
            GOAWAY => 4,
            _ => return None,
        };
        let code = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(code.try_into().unwrap()))
    }
}

/// The whole frames that these bytes are.
pub(crate) fn parse(mut rest: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, _, d, e, f, g, ..] = *rest {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some(payload) = rest.get(9..9 + length) else {
            break;
        };
        frames.push(Frame {
            kind,
            stream: u32::from_be_bytes([d, e, f, g]),
            payload: payload.to_vec(),
        });
        rest = &rest[9 + length..];
    }
    frames
}
