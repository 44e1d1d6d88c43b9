//! What holds for any bytes. Nothing here knows what the bytes mean: the reader that says it is hyper.
//!
//! - The output is the same whatever pieces the input came in.
//! - What goes on goes through a second time unchanged.
//! - What is accepted, hyper accepts; and what went out says to hyper what came in said to it, less what ends at this hop.

use aviary_http1::response::Asked;
use aviary_http1::{Malformed, Version};
use fastrand::Rng;

use crate::forwarder::{Forwarded, answer, requests, text, whole};
use crate::peer::{self, Fields, Message};

/// Fields that concern one hop, whatever `Connection` says.
const HOP: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];
/// What `Connection` cannot take away.
const PROTECTED: [&str; 3] = ["host", "content-length", "expect"];
/// What may not come behind a body.
const NO_TRAILERS: [&str; 10] = [
    "host",
    "content-length",
    "trailer",
    "content-encoding",
    "content-type",
    "content-range",
    "authorization",
    "set-cookie",
    "x-aviary-unsent",
    "x-aviary-peer",
];

/// Checks `bytes` as a caller's stream of requests, and says what became of it.
pub(crate) fn of_requests(bytes: &[u8]) -> Forwarded {
    let at_once = whole(bytes);
    let shown = bytes.escape_ascii();
    assert_eq!(at_once, requests(bytes.chunks(1)), "byte by byte: {shown}");
    assert_eq!(at_once, requests(cut(bytes)), "in pieces: {shown}");
    if at_once.error.is_none() {
        let again = whole(&at_once.out);
        assert_eq!(again.error, None, "the next hop refuses: {shown}");
        assert_eq!(
            text(&again.out),
            text(&at_once.out),
            "a second hop: {shown}"
        );
    }
    if has_quote_in_query(&at_once.out) {
        return at_once;
    }
    let (came, went) = (peer::requests(bytes), peer::requests(&at_once.out));
    assert!(
        came.len() >= at_once.heads,
        "hyper refuses: {shown}\n{came:?}"
    );
    assert_eq!(went.len(), at_once.heads, "hyper counts: {shown}\n{went:?}");
    for (number, (came, went)) in came.iter().zip(&went).enumerate() {
        let expected = onward_request(came);
        assert_eq!(expected.first, went.first, "{shown}");
        assert_eq!(expected.fields, sorted(not_of_hop(&went.fields)), "{shown}");
        if number < at_once.whole {
            assert!(went.body.is_some(), "hyper waits for more: {shown}");
            assert_eq!(expected.body, went.body, "{shown}");
        }
        let te = values(&went.fields, "te");
        assert!(te.iter().all(|value| *value == b"trailers"), "{shown}");
    }
    at_once
}

/// The one thing that hyper refuses and other servers do not: `"` in a query, where people write it (in a path it takes it).
fn has_quote_in_query(out: &[u8]) -> bool {
    let lines = out.split(|b| *b == b'\n');
    lines
        .filter(|line| line.ends_with(b" HTTP/1.1\r"))
        .any(|line| {
            let query = line.iter().position(|b| *b == b'?');
            query.is_some_and(|query| line[query..].contains(&b'"'))
        })
}

/// Checks `bytes` as an endpoint's answer to `asked`, and says whether it went on.
pub(crate) fn of_answer(bytes: &[u8], asked: Asked) -> Result<(), Malformed> {
    let shown = bytes.escape_ascii();
    let [old, new] = [Version::Http10, Version::Http11].map(|to| {
        let at_once = answer([bytes], asked, to);
        for in_pieces in [
            answer(bytes.chunks(1), asked, to),
            answer(cut(bytes), asked, to),
        ] {
            assert_eq!(at_once.as_ref().err(), in_pieces.as_ref().err(), "{shown}");
        }
        at_once
    });
    assert_eq!(old.as_ref().err(), new.as_ref().err(), "{shown}");
    let (old, new) = (old?, new?);
    let method = if asked.head { "HEAD" } else { "GET" };
    let Some(came) = peer::answer(bytes, method) else {
        panic!("hyper refuses: {shown}");
    };
    let expected = onward_answer(&came);
    assert!(expected.body.is_some(), "hyper waits for more: {shown}");
    for (out, has_trailers) in [(old, false), (new, true)] {
        let Some(mut went) = peer::answer(&out, method) else {
            panic!("hyper refuses {:?}: {shown}", text(&out));
        };
        went.fields = sorted(not_of_hop(&went.fields));
        let mut expected = expected.clone();
        if let Some((_, trailers)) = &mut expected.body
            && !has_trailers
        {
            trailers.clear();
        }
        assert_eq!(expected, went, "{shown}");
    }
    Ok(())
}

/// What another hop should see of a request.
fn onward_request(came: &Message) -> Message {
    let mut fields = end_to_end(&came.fields);
    if let Some((_, rest)) = came.first.1.split_once("://")
        && !came.first.1.starts_with('/')
    {
        fields.retain(|(name, _)| name != "host");
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        fields.push(("host".to_owned(), authority.as_bytes().to_vec()));
    }
    Message {
        first: came.first.clone(),
        fields: sorted(fields),
        body: came.body.clone().map(onward_body),
    }
}

/// What a caller should see of an answer.
fn onward_answer(came: &Message) -> Message {
    let mut fields = end_to_end(&came.fields);
    let is_chunked = !values(&came.fields, "transfer-encoding").is_empty();
    if is_chunked || came.first.0 == "204" {
        fields.retain(|(name, _)| name != "content-length");
    }
    // Lengths that agree become one.
    let mut seen = false;
    fields.retain(|(name, _)| name != "content-length" || !std::mem::replace(&mut seen, true));
    Message {
        first: came.first.clone(),
        fields: sorted(fields),
        body: came.body.clone().map(onward_body),
    }
}

fn onward_body((body, mut trailers): (Vec<u8>, Fields)) -> (Vec<u8>, Fields) {
    trailers
        .retain(|(name, _)| !HOP.contains(&name.as_str()) && !NO_TRAILERS.contains(&name.as_str()));
    (body, trailers)
}

/// What does not end at this hop: `Connection` names the rest.
fn end_to_end(fields: &Fields) -> Fields {
    let named: Vec<Vec<u8>> = values(fields, "connection")
        .iter()
        .flat_map(|value| value.split(|b| *b == b','))
        .map(|option| option.trim_ascii().to_ascii_lowercase())
        .filter(|option| !PROTECTED.iter().any(|name| name.as_bytes() == option))
        .collect();
    let mut fields = not_of_hop(fields);
    fields.retain(|(name, _)| !named.iter().any(|option| option == name.as_bytes()));
    fields
}

fn not_of_hop(fields: &Fields) -> Fields {
    let passing = fields
        .iter()
        .filter(|(name, _)| !HOP.contains(&name.as_str()));
    // A length goes on as a number.
    let plain = |(name, value): &(String, Vec<u8>)| {
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<u64>().ok());
        match number {
            Some(length) if name == "content-length" => {
                (name.clone(), length.to_string().into_bytes())
            }
            Some(_) | None => (name.clone(), value.clone()),
        }
    };
    passing.map(plain).collect()
}

fn values<'f>(fields: &'f Fields, name: &str) -> Vec<&'f [u8]> {
    let found = fields.iter().filter(|(found, _)| found == name);
    found.map(|(_, value)| value.as_slice()).collect()
}

/// By name. Of the same name they stay in their order.
fn sorted(mut fields: Fields) -> Fields {
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

/// Pieces that depend on the bytes alone.
fn cut(mut bytes: &[u8]) -> Vec<&[u8]> {
    let seed = bytes.iter().fold(bytes.len() as u64, |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    let (mut rng, mut pieces) = (Rng::with_seed(seed), Vec::new());
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(rng.usize(1..=bytes.len().min(40)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
