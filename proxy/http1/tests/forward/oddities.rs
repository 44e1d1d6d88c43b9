//! What looks like smuggling and is not: it can be read in one way only, and goes on so that nobody can read it in another.

use crate::forwarder::{text, whole};

/// What comes after `POST / HTTP/1.1` and `Host: a`, and what goes on after them.
const POSTS: &[(&str, &str)] = &[
    // Lengths.
    (
        "Content-Length: 0002\r\n\r\nhi",
        "Content-Length: 2\r\n\r\nhi",
    ),
    (
        "Content-Length:\t 2 \t\r\n\r\nhi",
        "Content-Length: 2\r\n\r\nhi",
    ),
    (
        "Content-Length: 2\r\nContent-Length: 02\r\n\r\nhi",
        "Content-Length: 2\r\n\r\nhi",
    ),
    // Names that only look like those that frame: they frame nothing.
    ("Content_Length: 5\r\n\r\n", "Content_Length: 5\r\n\r\n"),
    (
        "Transfer_Encoding: chunked\r\n\r\n",
        "Transfer_Encoding: chunked\r\n\r\n",
    ),
    (
        "X-Transfer-Encoding: chunked\r\n\r\n",
        "X-Transfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "Content-Encoding: chunked\r\n\r\n",
        "Content-Encoding: chunked\r\n\r\n",
    ),
    ("TE: chunked\r\n\r\n", "\r\n"),
    // The coding, whichever way it is written.
    (
        "transfer-ENCODING:CHUNKED\t\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    // Chunks: sizes are written anew, extensions and what frames stay behind.
    (
        "Transfer-Encoding: chunked\r\n\r\n000000000000002\r\nhi\r\n000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n2;a=\"\r\nhi\r\n0;x=y;z\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n2 \t;a\r\nhi\r\n0 \r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n4\r\n0\r\n\r\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n4\r\n0\r\n\r\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nTransfer-Encoding: x\r\nHost: b\r\nAuthorization: c\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
    ),
    // What `Connection` names ends here, in whatever case and wherever it stands, but for what frames and routes.
    (
        "X-Real: 1\r\nConnection: close, x-REAL ,, \r\nY: 2\r\n\r\n",
        "Y: 2\r\n\r\n",
    ),
    (
        "Connection: host, content-length, expect, transfer-encoding\r\nContent-Length: 2\r\n\r\nhi",
        "Content-Length: 2\r\n\r\nhi",
    ),
    // Values are anything but control characters.
    ("X: \u{e9}\t!\r\nY:\r\n\r\n", "X: \u{e9}\t!\r\nY: \r\n\r\n"),
    // What another proxy's protocol says about a request is the application's to believe.
    (
        "X-HTTP-Method-Override: PUT\r\n\r\n",
        "X-HTTP-Method-Override: PUT\r\n\r\n",
    ),
];

/// Whole heads without a body.
const HEADS: &[(&str, &str)] = &[
    (
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "GET //b/../c HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET //b/../c HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "GET /%2e%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%2e%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "GET /http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    // Whom a target names is whom the request is for.
    (
        "GET HTTP://b?c HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET HTTP://b?c HTTP/1.1\r\nHost: b\r\n\r\n",
    ),
    (
        "GET https://[::1]:8/ HTTP/1.1\r\n\r\n",
        "GET https://[::1]:8/ HTTP/1.1\r\nHost: [::1]:8\r\n\r\n",
    ),
    // Nobody: the application says what it thinks of that.
    (
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
    ),
    ("GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"),
];

#[test]
fn what_can_be_read_in_one_way_goes_on_in_one_way() {
    let posts = POSTS.iter().map(|(came, went)| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\n";
        (format!("{head}{came}"), format!("{head}{went}"))
    });
    let heads = HEADS
        .iter()
        .map(|(came, went)| (came.to_string(), went.to_string()));
    for (came, went) in posts.chain(heads) {
        let forwarded = whole(came.as_bytes());
        assert_eq!(forwarded.error, None, "{came:?}");
        assert_eq!(forwarded.whole, 1, "{came:?}");
        assert_eq!(text(&forwarded.out), went, "{came:?}");
    }
}

/// A second request that hides behind a first one is a request like any other, or no request at all.
#[test]
fn what_follows_a_request_is_the_next_one() {
    let hidden = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    for first in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 40\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert_eq!(
            whole(format!("{first}{hidden}").as_bytes()).whole,
            2,
            "{first:?}"
        );
    }
    let inside = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    assert_eq!(whole(inside.as_bytes()).whole, 1);
    let closed = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{hidden}");
    assert_eq!(whole(closed.as_bytes()).whole, 1);
}
