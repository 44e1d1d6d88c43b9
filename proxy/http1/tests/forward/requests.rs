//! What a request looks like to the endpoint.

use aviary_http1::Malformed;

use crate::forwarder::{text, whole};

fn goes_on_as(request: &str, expected: &str) {
    let forwarded = whole(request.as_bytes());
    assert_eq!(forwarded.error, None, "{request}");
    assert_eq!(text(&forwarded.out), expected, "{request}");
    assert_eq!(forwarded.whole, 1, "{request}");
}

#[test]
fn end_to_end_fields_keep_their_bytes_their_case_and_their_order() {
    let request = "PATCH /a?b=%20c;d HTTP/1.1\r\nX-B: 1\r\nHost: Shop.Example:8080\r\nx-a:2\r\nX-b:  3 \r\nCookie: a=b; c=d\r\n\r\n";
    let expected = "PATCH /a?b=%20c;d HTTP/1.1\r\nX-B: 1\r\nHost: Shop.Example:8080\r\nx-a: 2\r\nX-b: 3\r\nCookie: a=b; c=d\r\n\r\n";
    goes_on_as(request, expected);
}

#[test]
fn hop_by_hop_fields_end_here() {
    goes_on_as(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nx-mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\ntraceparent: 00\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00\r\n\r\n",
    );
}

#[test]
fn grpc_keeps_te_trailers() {
    goes_on_as(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: te\r\nTE: trailers\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
    );
}

#[test]
fn connection_cannot_take_away_what_says_where_a_message_goes_and_ends() {
    goes_on_as(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, expect\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
    );
}

#[test]
fn a_get_keeps_its_chunked_body() {
    goes_on_as(
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n0003  \r\nabc\r\n0\r\nX-Sum: 7\r\nContent-Length: 3\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
}

#[test]
fn an_upgrade_passes_and_h2c_does_not() {
    goes_on_as(
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nConnection: Upgrade\r\n\r\n",
    );
    goes_on_as(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
}

#[test]
fn the_authority_of_an_absolute_target_takes_the_place_of_host() {
    goes_on_as(
        "GET http://web:81/a HTTP/1.1\r\nHost: other\r\nX: y\r\n\r\n",
        "GET http://web:81/a HTTP/1.1\r\nHost: web:81\r\nX: y\r\n\r\n",
    );
}

#[test]
fn lengths_that_agree_become_one() {
    goes_on_as(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    );
}

#[test]
fn an_old_request_goes_on_in_the_new_version_and_closes() {
    let forwarded = whole(b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    assert_eq!(text(&forwarded.out), "GET / HTTP/1.1\r\n\r\n");
    let kept = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(whole(&kept.repeat(2)).whole, 2);
}

#[test]
fn pipelined_requests_are_taken_one_by_one() {
    let two = "POST /1 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx\r\nGET /2 HTTP/1.1\r\n\r\n";
    let forwarded = whole(two.as_bytes());
    assert_eq!((forwarded.whole, forwarded.error), (2, None));
}

#[test]
fn too_much_is_431() {
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(129));
    assert_eq!(whole(many.as_bytes()).error, Some(Malformed::TooManyFields));
    let most = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(128));
    assert_eq!(whole(most.as_bytes()).error, None);
    let without_host = |fields| {
        format!(
            "GET http://a/ HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(fields)
        )
    };
    let one_more = whole(without_host(128).as_bytes());
    assert_eq!(one_more.error, Some(Malformed::TooManyFields));
    let full = whole(without_host(127).as_bytes());
    assert_eq!(whole(&full.out).error, None);
    let large = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(61_440));
    assert_eq!(whole(large.as_bytes()).error, Some(Malformed::HeadTooLarge));
    assert_eq!(Malformed::HeadTooLarge.status(), 431);
    assert_eq!(Malformed::TooManyFields.status(), 431);
}
