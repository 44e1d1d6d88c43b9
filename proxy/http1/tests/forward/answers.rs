//! What an answer looks like to the caller.

use aviary_http1::response::Asked;
use aviary_http1::{Malformed, Version};

use crate::forwarder::{GET, HEAD, answer, text};

fn goes_on_as(from: &str, asked: Asked, to: Version, expected: &str) {
    let out = answer([from.as_bytes()], asked, to);
    assert_eq!(out.map(|out| text(&out)), Ok(expected.to_owned()), "{from}");
}

#[test]
fn an_answer_keeps_its_reason_its_case_and_its_order() {
    goes_on_as(
        "HTTP/1.1 200 All Good\r\nX-Mixed: Yes\r\nConnection: close\r\nContent-Length: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nok",
        GET,
        Version::Http11,
        "HTTP/1.1 200 All Good\r\nX-Mixed: Yes\r\nContent-Length: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nok",
    );
}

#[test]
fn trailers_pass_unasked() {
    goes_on_as(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n",
        GET,
        Version::Http11,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n",
    );
}

#[test]
fn interim_answers_pass_before_the_real_one() {
    goes_on_as(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        GET,
        Version::Http11,
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    );
}

#[test]
fn an_old_caller_gets_chunks_without_their_sizes() {
    goes_on_as(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n",
        GET,
        Version::Http10,
        "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nok!",
    );
}

#[test]
fn an_old_answer_does_not_cost_the_caller_its_connection() {
    goes_on_as(
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        GET,
        Version::Http11,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    goes_on_as(
        "HTTP/1.0 200 OK\r\n\r\nok",
        GET,
        Version::Http11,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
}

#[test]
fn the_answer_to_head_keeps_its_length_and_426_its_upgrade() {
    goes_on_as(
        "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
        HEAD,
        Version::Http11,
        "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
    );
    goes_on_as(
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        GET,
        Version::Http11,
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\r\n",
    );
}

#[test]
fn with_a_length_and_chunks_the_chunks_count_and_the_length_goes() {
    goes_on_as(
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GET,
        Version::Http11,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
}

#[test]
fn what_is_cut_short_or_unasked_is_an_error() {
    for (from, expected) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nno",
            Malformed::Truncated,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
            Malformed::Truncated,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Malformed::Coding,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Malformed::CodingInOldVersion,
        ),
        (
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
            Malformed::Switched,
        ),
        ("HTTP/2 200 OK\r\n\r\n", Malformed::Version),
        ("HTTP/1.1 20 OK\r\n\r\n", Malformed::Syntax),
        ("HTTP/1.1 099 OK\r\n\r\n", Malformed::Syntax),
    ] {
        let error = answer([from.as_bytes()], GET, Version::Http11);
        assert_eq!(error, Err(expected), "{from}");
    }
}

#[test]
fn what_two_callers_could_read_in_two_ways_is_no_answer() {
    for (head, expected) in [
        ("X: y\r\n folded", Malformed::Syntax),
        ("X : y", Malformed::Syntax),
        ("X: y\rZ: a", Malformed::Syntax),
        ("X: \0", Malformed::Syntax),
        (": y", Malformed::Syntax),
        ("X: y\nZ: a", Malformed::LineEnd),
        ("Content-Length: 2\r\nContent-Length: 3", Malformed::Lengths),
        ("Content-Length: 2, 2", Malformed::Length),
        ("Content-Length: -2", Malformed::Length),
        ("Content-Length: 9223372036854775808", Malformed::Length),
        ("Transfer-Encoding: chunked, gzip", Malformed::Coding),
        ("Transfer-Encoding: identity", Malformed::Coding),
        ("Transfer-Encoding: xchunked", Malformed::Coding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Malformed::Coding,
        ),
    ] {
        let from = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nhi");
        let error = answer([from.as_bytes()], GET, Version::Http11);
        assert_eq!(error, Err(expected), "{from:?}");
    }
    for (first, expected) in [
        ("HTTP/1.1 200 O\rK", Malformed::Syntax),
        ("HTTP/1.1 200 O\0K", Malformed::Syntax),
        ("HTTP/1.1  200 OK", Malformed::Syntax),
        ("HTTP/1.1 2000 OK", Malformed::Syntax),
        ("HTTP/1.1 2e0 OK", Malformed::Syntax),
        ("HTTP/1.2 200 OK", Malformed::Version),
        ("ICY 200 OK", Malformed::Version),
        ("HTTP/1.1 200 OK\n", Malformed::LineEnd),
    ] {
        let from = format!("{first}\r\nContent-Length: 2\r\n\r\nhi");
        let error = answer([from.as_bytes()], GET, Version::Http11);
        assert_eq!(error, Err(expected), "{from:?}");
    }
}
