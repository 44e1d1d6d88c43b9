//! Fields that are others to another reader, and lines that end elsewhere (RFC 9112, 2.2, 5.1 and 5.2; RFC 9110, 5.5).

use aviary_http1::Malformed;

pub(super) const CASES: &[(&str, Malformed)] = &[
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
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\0: chunked\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-\r\nEncoding: chunked\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer Encoding: chunked\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n\tX: y\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX@y: z\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX\u{e9}: z\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX\x7f: z\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n\"X\": z\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: a\r\r\nY: b\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX\r: a\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX\n: a\r\n\r\n",
        Malformed::LineEnd,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: a\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        Malformed::LineEnd,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", Malformed::Syntax),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n:authority: admin\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n:method: GET\r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n \r\n\r\n",
        Malformed::Syntax,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n",
        Malformed::Syntax,
    ),
];
