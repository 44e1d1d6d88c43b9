//! What HTTP/2 could carry into another request, or past whoever reads only half of it (RFC 9113, 8.2, 8.3 and 10.3): written by hand, since no
//! client would.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::frames::{
    END_STREAM, Frame, GOAWAY, HEADERS, PREFACE, RESET, data, headers, literal, named, parse, post,
    settings,
};
use crate::mesh::{Mesh, Service};
use crate::server::Server;

const METHOD: u8 = 0x83;
const SCHEME: u8 = 0x86;

/// Sends one request and reads until its stream has ended, or the connection.
async fn send(mesh: &Mesh, frames: &[u8]) -> Vec<Frame> {
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    let bytes = [PREFACE, &settings(), frames].concat();
    stream.write_all(&bytes).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = timeout_at(deadline, stream.read(&mut buffer)).await;
        let read = read.expect("an end").unwrap_or(0);
        seen.extend_from_slice(&buffer[..read]);
        let frames = parse(&seen);
        let is_over = |frame: &Frame| matches!(frame.kind, HEADERS | RESET | GOAWAY);
        if read == 0 || frames.iter().any(is_over) {
            return frames;
        }
    }
}

/// The refusal: a code of the stream's or the connection's, or the answer 400.
fn refused(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| match frame.kind {
        RESET | GOAWAY => frame.code() != Some(0),
        // `:status: 400` of the static table.
        HEADERS => frame.payload.first() == Some(&0x8c),
        _ => false,
    })
}

fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = post("/");
    for (name, value) in fields {
        block.extend(literal(name.as_bytes(), value.as_bytes()));
    }
    block
}

#[tokio::test]
async fn what_would_be_something_else_to_another_reader_is_refused() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 0)).await;
    let head = |block: &[u8]| headers(END_STREAM, 1, block);
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for fields in [
        // Another line, another request.
        &[("x", "a\r\nb: c")][..],
        &[("x", "a\nb")],
        &[("x", "a\rb")],
        &[("x", "a\0b")],
        &[("x\r\ny", "a")],
        &[("x: y", "a")],
        &[("x y", "a")],
        &[("", "a")],
        // Names are in lower case.
        &[("X", "a")],
        &[("Transfer-Encoding", "chunked")],
        // What concerns one hop of HTTP/1.1.
        &[("connection", "close")],
        &[("connection", "x-real")],
        &[("transfer-encoding", "chunked")],
        &[("transfer-encoding", "identity")],
        &[("keep-alive", "1")],
        &[("proxy-connection", "close")],
        &[("upgrade", "websocket")],
        &[("te", "gzip")],
        // Pseudo-fields come first, once, and are known.
        &[("x", "a"), (":path", "/admin")],
        &[(":path", "/admin")],
        &[(":method", "GET")],
        &[(":authority", "other")],
        &[(":status", "200")],
        &[(":protocol", "websocket")],
        &[(":x", "a")],
        // Whom it is for, twice.
        &[("host", "other")],
        &[("host", "web"), ("host", "web")],
        &[("host", "a b")],
        // Lengths that the frames do not have.
        &[("content-length", "5")],
        &[("content-length", "0"), ("content-length", "1")],
        &[("content-length", "-1")],
        &[("content-length", "0x0")],
    ] {
        cases.push((format!("{fields:?}"), head(&with(fields))));
    }
    for (what, block) in [
        ("no :path", [vec![METHOD, SCHEME], named(1, "web")].concat()),
        ("no :method", [vec![SCHEME, 0x84], named(1, "web")].concat()),
        (
            "an empty :path",
            [vec![METHOD, SCHEME], named(4, ""), named(1, "web")].concat(),
        ),
        (
            "a space in :path",
            [
                vec![METHOD, SCHEME],
                named(4, "/ HTTP/1.1"),
                named(1, "web"),
            ]
            .concat(),
        ),
        (
            "a line end in :path",
            [vec![METHOD, SCHEME], named(4, "/\r\nx: y"), named(1, "web")].concat(),
        ),
        (
            "a relative :path",
            [vec![METHOD, SCHEME], named(4, "admin"), named(1, "web")].concat(),
        ),
        (
            "a space in :method",
            [named(2, "GET /"), vec![SCHEME, 0x84], named(1, "web")].concat(),
        ),
        (
            "a line end in :method",
            [named(2, "GET\r\n"), vec![SCHEME, 0x84], named(1, "web")].concat(),
        ),
        (
            "a line end in :authority",
            [vec![METHOD, SCHEME, 0x84], named(1, "a\r\nb")].concat(),
        ),
        (
            "a user in :authority",
            [vec![METHOD, SCHEME, 0x84], named(1, "a@b")].concat(),
        ),
        (
            "a path in :authority",
            [vec![METHOD, SCHEME, 0x84], named(1, "a/b")].concat(),
        ),
        (
            "a line end in :scheme",
            [
                vec![METHOD],
                named(6, "http\r\n"),
                vec![0x84],
                named(1, "web"),
            ]
            .concat(),
        ),
    ] {
        cases.push((what.to_owned(), head(&block)));
    }
    let mut passed = Vec::new();
    for (what, frames) in &cases {
        let before = server.requests();
        let got = send(&mesh, frames).await;
        if !refused(&got) || server.requests() != before {
            passed.push((what, got));
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
}

/// Its head has gone on when that is seen, so what went on is broken off.
#[tokio::test]
async fn a_body_of_another_length_than_was_said_is_reset() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 0)).await;
    for said in ["2", "9"] {
        let block = [post("/held"), literal(b"content-length", said.as_bytes())].concat();
        let frames = [headers(0, 1, &block), data(END_STREAM, 1, b"abc")].concat();
        let got = send(&mesh, &frames).await;
        let reset = got.iter().find(|frame| frame.kind == RESET);
        assert_eq!(reset.and_then(Frame::code), Some(1), "{said}: {got:?}");
    }
}

#[tokio::test]
async fn what_can_be_read_in_one_way_passes() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 0)).await;
    for fields in [
        &[][..],
        &[("host", "web")],
        &[("host", "WEB")],
        &[("te", "trailers")],
        &[("content-length", "0")],
        &[("x", "\u{e9}\t!")],
        &[("x_y", "a")],
        &[("cookie", "a=b"), ("cookie", "c=d")],
    ] {
        let got = send(&mesh, &headers(END_STREAM, 1, &with(fields))).await;
        let head = got.iter().find(|frame| frame.kind == HEADERS);
        let head = head.unwrap_or_else(|| panic!("{fields:?}: {got:?}"));
        assert_eq!(head.payload[0], 0x88, "{fields:?}");
    }
    assert_eq!(server.requests(), 8);
}
