//! Bodies of which two lengths, or no length, could be read (RFC 9112, 6.2 and 6.3; RFC 9110, 8.6).

use aviary_http1::Malformed;

pub(super) const CASES: &[(&str, Malformed)] = &[
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
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4;q=1\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4.0\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"4\"\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\u{a0}\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4,\r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n1234",
        Malformed::Lengths,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: \r\n\r\n1234",
        Malformed::Length,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\x0b\r\n\r\n1234",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\ntransfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        Malformed::LengthAndCoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Malformed::LengthAndCoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Malformed::LengthAndCoding,
    ),
];
