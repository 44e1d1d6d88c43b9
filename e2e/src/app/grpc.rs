//! As much gRPC as two tiny methods need, one of them a long stream: the five-byte frame, the content type, the status.
//!
//! By hand, because a generated client would hide which header or trailer a proxy has lost.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

pub const METHOD: &str = "/demo.Payment/Pay";
/// One order, and [`RECEIPTS`] receipts, one every [`PAUSE`].
pub const WATCH: &str = "/demo.Payment/Watch";
pub const RECEIPTS: usize = 30;
pub const PAUSE: Duration = Duration::from_millis(100);
pub const CONTENT_TYPE: &str = "application/grpc";
pub const STATUS: &str = "grpc-status";
pub const OK: &str = "0";
pub const INTERNAL: &str = "13";

/// One message: not compressed, its length, itself.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("messages here are a few bytes"));
    framed.put_slice(message);
    framed.freeze()
}

/// How many frames a body is; `None`: the last one is torn.
pub fn frames(mut body: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !body.is_empty() {
        let (head, rest) = body.split_at_checked(5)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        body = rest.get(usize::try_from(length).ok()?..)?;
        count += 1;
    }
    Some(count)
}

/// The message of a body with exactly one frame.
pub fn unframe(body: &[u8]) -> Option<&[u8]> {
    let (head, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    (head[0] == 0 && usize::try_from(length) == Ok(message.len())).then_some(message)
}

pub fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static(STATUS),
        HeaderValue::from_static(code),
    )])
}

/// The status in trailers or, when there was nothing else to say, in headers.
pub fn status_of<'a>(headers: &'a HeaderMap, trailers: Option<&'a HeaderMap>) -> Option<&'a str> {
    let found = trailers
        .and_then(|t| t.get(STATUS))
        .or_else(|| headers.get(STATUS));
    found.and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_gives_its_message_back_and_a_torn_one_none() {
        let framed = frame(b"12 EUR");
        assert_eq!(unframe(&framed), Some(&b"12 EUR"[..]));
        assert_eq!(unframe(&framed[..framed.len() - 1]), None);
        assert_eq!(unframe(&framed[..3]), None);
    }

    #[test]
    fn the_frames_of_a_stream_are_counted_unless_one_is_torn() {
        let three = [frame(b"1"), frame(b""), frame(b"three")].concat();
        assert_eq!(frames(&three), Some(3));
        assert_eq!(
            (frames(b""), frames(&three[..three.len() - 1])),
            (Some(0), None)
        );
    }

    #[test]
    fn the_status_of_the_trailers_counts_before_that_of_the_headers() {
        let (ok, internal) = (status(OK), status(INTERNAL));
        assert_eq!(status_of(&ok, Some(&internal)), Some("13"));
        assert_eq!(status_of(&ok, None), Some("0"));
        assert_eq!(status_of(&HeaderMap::new(), Some(&HeaderMap::new())), None);
    }
}
