//! What two readers could read in two ways is not forwarded at all. From RFC 9112 (2.2, 3.2, 5.1, 5.2, 6, 7.1 and 11.2) and from public descriptions of
//! request smuggling. The same cases, as bytes, are the seeds of the fuzz test.

use aviary_http1::Malformed;

use crate::forwarder::{text, whole};

pub(crate) const CASES: &[(&str, Malformed)] = &[
    // Two lengths.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        Malformed::LengthAndCoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        Malformed::LengthAndCoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n12345",
        Malformed::Lengths,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4 4\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        Malformed::Length,
    ),
    // Codings that are chunked to one reader only.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        Malformed::Coding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        Malformed::Coding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        Malformed::Coding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        Malformed::Coding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        Malformed::Coding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        Malformed::Coding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
        Malformed::Coding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
        Malformed::Coding,
    ),
    (
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Malformed::CodingInOldVersion,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
        Malformed::Syntax,
    ),
    // Names and lines.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n",
        Malformed::Syntax,
    ),
    ("POST / HTTP/1.1\r\n Host: a\r\n\r\n", Malformed::Syntax),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tfolded\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 4\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        Malformed::Syntax,
    ),
    ("POST / HTTP/1.1\nHost: a\r\n\r\n", Malformed::LineEnd),
    (
        "POST / HTTP/1.1\r\nHost: a\nTransfer-Encoding: chunked\r\n\r\n",
        Malformed::LineEnd,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n\nGET / HTTP/1.1\r\n\r\n",
        Malformed::LineEnd,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        Malformed::Hosts,
    ),
    // First lines.
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Syntax),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Version),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Malformed::Version),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Malformed::Version),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", Malformed::Version),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
    ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
    ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
    (
        "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
        Malformed::Target,
    ),
    (
        "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        Malformed::Target,
    ),
    (
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        Malformed::Target,
    ),
    (
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        Malformed::Connect,
    ),
    // Chunks.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        Malformed::ChunkSize,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n",
        Malformed::ChunkSize,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n",
        Malformed::ChunkSize,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nab\r\n",
        Malformed::ChunkSize,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\nab\r\n",
        Malformed::ChunkSize,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2_0\r\nab\r\n",
        Malformed::ChunkSize,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
        Malformed::ChunkSize,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n",
        Malformed::ChunkSize,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\rXab\r\n0\r\n\r\n",
        Malformed::ChunkSize,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\nab\r\n0\r\n\r\n",
        Malformed::ChunkExtension,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2 x\r\nab\r\n0\r\n\r\n",
        Malformed::ChunkExtension,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        Malformed::ChunkEnd,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\n0\r\n\r\n",
        Malformed::ChunkEnd,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
        Malformed::Trailer,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
        Malformed::Trailer,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n",
        Malformed::Trailer,
    ),
];

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (request, expected) in CASES {
        let forwarded = whole(request.as_bytes());
        assert_eq!(forwarded.error, Some(*expected), "{request:?}");
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
