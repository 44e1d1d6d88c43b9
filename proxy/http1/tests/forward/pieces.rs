//! Whatever pieces the input comes in, the output is the same; and what went out says the same as what came in.

use aviary_http1::{Request, Version, fields::lines};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::forwarder::{GET, LIMITS, answer, requests, text, whole};
use crate::smuggling;

/// `bytes` cut at these places, each as a share of its length.
fn cut<'b>(bytes: &'b [u8], places: &[u16]) -> Vec<&'b [u8]> {
    let mut places: Vec<usize> = places
        .iter()
        .map(|place| usize::from(*place) * bytes.len() / usize::from(u16::MAX))
        .collect();
    places.sort_unstable();
    let (mut pieces, mut from) = (Vec::new(), 0);
    for place in places {
        pieces.push(&bytes[from..place]);
        from = place;
    }
    pieces.push(&bytes[from..]);
    pieces
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}"
}

fn value() -> impl Strategy<Value = String> {
    "[!-~]{1}([ -~]{0,20}[!-~]{1})?"
}

/// A field that ends nowhere on the way, under a name that no other rule knows.
fn field() -> impl Strategy<Value = (String, String)> {
    (token().prop_map(|name| format!("x-{name}")), value())
}

#[derive(Clone, Debug)]
enum Content {
    None,
    Length(Vec<u8>),
    Chunks(Vec<Vec<u8>>),
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::None),
        vec(any::<u8>(), 0..5_000).prop_map(Content::Length),
        vec(vec(any::<u8>(), 1..600), 0..6).prop_map(Content::Chunks),
    ]
}

fn write(content: &Content, out: &mut Vec<u8>) {
    match content {
        Content::None => out.extend_from_slice(b"\r\n"),
        Content::Length(body) => {
            out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            out.extend_from_slice(body);
        }
        Content::Chunks(chunks) => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in chunks {
                out.extend_from_slice(format!("{:X};ext\r\n", chunk.len()).as_bytes());
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\nX-Trailer: t\r\n\r\n");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn requests_come_out_the_same_whatever_pieces_they_came_in(
        fields in vec(field(), 0..12),
        target in "/[!$-;=?-Z_a-z~]{0,20}",
        contents in vec(content(), 1..4),
        places in vec(any::<u16>(), 0..20),
    ) {
        let mut input = Vec::new();
        for content in &contents {
            input.extend_from_slice(format!("PUT {target} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n").as_bytes());
            for (name, value) in &fields {
                input.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            write(content, &mut input);
        }
        let at_once = whole(&input);
        prop_assert_eq!(at_once.error, None, "{}", text(&input));
        prop_assert_eq!(at_once.whole, contents.len());
        prop_assert_eq!(&requests(cut(&input, &places)), &at_once);
        // What went out goes through unchanged: it is already as it should be.
        let again = whole(&at_once.out);
        prop_assert_eq!(text(&again.out), text(&at_once.out));
        // And to another parser it is what came in, less what ends at this hop.
        let mut space = lines();
        let end = at_once.out.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let request = Request::read(&at_once.out[..end], &mut space, &LIMITS).unwrap();
        prop_assert_eq!(request.target, &target);
        for (name, value) in &fields {
            let has = at_once.out.windows(name.len() + value.len() + 4)
                .any(|w| w == format!("{name}: {value}\r\n").as_bytes());
            prop_assert!(has, "{name}: {value} is lost");
        }
    }

    #[test]
    fn answers_come_out_the_same_whatever_pieces_they_came_in(
        fields in vec(field(), 0..12),
        content in content(),
        places in vec(any::<u16>(), 0..20),
        old in any::<bool>(),
    ) {
        let mut input = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nServer: a\r\n".to_vec();
        for (name, value) in &fields {
            input.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        write(&content, &mut input);
        let to = if old { Version::Http10 } else { Version::Http11 };
        let at_once = answer([&input[..]], GET, to);
        let in_pieces = answer(cut(&input, &places), GET, to);
        prop_assert!(at_once.is_ok());
        // Without a length or chunks, the chunks that we make follow the pieces.
        if !matches!(content, Content::None) || old {
            prop_assert_eq!(at_once, in_pieces);
        }
    }
}

#[test]
fn malformed_requests_are_refused_for_the_same_reason_byte_by_byte() {
    for (request, expected) in smuggling::cases() {
        let bytes = request.as_bytes();
        let forwarded = requests(bytes.chunks(1));
        assert_eq!(forwarded.error, Some(expected), "{request:?}");
    }
}
