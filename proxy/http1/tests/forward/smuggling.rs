//! What two readers could read in two ways is not forwarded at all. From RFC 9112 (2.2, 3.2, 5.1, 5.2, 6, 7.1 and 11.2) and from public descriptions of
//! request smuggling. The same cases, as bytes, are the seeds of the fuzz test.

mod chunks;
mod codings;
mod lengths;
mod lines;
mod targets;

use aviary_http1::Malformed;

use crate::forwarder::{text, whole};

pub(crate) fn cases() -> impl Iterator<Item = (&'static str, Malformed)> {
    let tables = [
        lengths::CASES,
        codings::CASES,
        lines::CASES,
        targets::CASES,
        chunks::CASES,
    ];
    tables.into_iter().flatten().copied()
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (request, expected) in cases() {
        let forwarded = whole(request.as_bytes());
        assert_eq!(forwarded.error, Some(expected), "{request:?}");
        assert_eq!(forwarded.whole, 0, "{request:?}");
        let out = text(&forwarded.out);
        assert!(!out.contains("admin"), "{request:?} went on as {out:?}");
    }
}

#[test]
fn extensions_and_trailers_have_their_limits() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extended = format!("{head}1;{}", "x".repeat(20_000));
    assert_eq!(
        whole(extended.as_bytes()).error,
        Some(Malformed::ChunkExtension)
    );
    let many = format!("{head}{}", "1;aaaaaaaa\r\nx\r\n".repeat(3_000));
    assert_eq!(
        whole(many.as_bytes()).error,
        Some(Malformed::ChunkExtension)
    );
    let trailers = format!("{head}0\r\n{}", "a: b\r\n".repeat(3_000));
    assert_eq!(whole(trailers.as_bytes()).error, Some(Malformed::Trailer));
}

/// Fields are written anew, each with a space behind its colon: what is too much then is refused at once, and not by the next proxy.
#[test]
fn trailers_that_go_on_do_so_through_the_next_proxy_too() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let least = "a:b\r\nlong:".len();
    let mut went_on = 0;
    for length in 16_000 - least..16_400 - least {
        let long = "x".repeat(length);
        let request = format!("{head}0\r\na:b\r\nlong:{long}\r\n\r\n");
        let once = whole(request.as_bytes());
        let twice = whole(&once.out);
        assert_eq!(once.error.is_some(), once.whole == 0);
        assert_eq!(once.whole, twice.whole, "{length}: {:?}", twice.error);
        went_on += once.whole;
    }
    assert!((300..400).contains(&went_on), "{went_on}");
}
