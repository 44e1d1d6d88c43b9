//! The endpoint's answer is cut.

use std::net::SocketAddr;

use futures::StreamExt;
use futures::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::message::whole;
use super::{CUTS, Cut, Ended, PATIENCE, Seen, Tally, cut_off, parse, read, read_on};
use crate::client::eventually;
use crate::mesh::{Mesh, Service};
use crate::server::accepting;

const BODY: &[u8] = b"hello world";
/// With a length, in chunks, and up to the end of the connection.
const ANSWERS: [&str; 3] = [
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello world",
    "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nhello world",
];
/// The answer that only the end of its connection ends.
const ENDLESS: usize = 2;

/// An endpoint that cuts its answer as the path says. It counts requests by path, and ends of connections under their path and `gone`.
async fn endpoint(tally: Tally) -> SocketAddr {
    accepting(move |stream| answer(stream, tally.clone())).await
}

async fn answer(mut stream: TcpStream, tally: Tally) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let request = loop {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            Ok(0) | Err(_) => return,
        }
        if let Some(request) = whole(&bytes) {
            break request;
        }
    };
    assert_eq!(request.body, b"money");
    tally.add(request.path());
    let (message, cut, at) = parse(request.path());
    stream
        .write_all(&ANSWERS[message].as_bytes()[..at])
        .await
        .unwrap();
    if let Some(mut stalled) = cut_off(stream, cut) {
        let seen = read(&mut stalled, PATIENCE).await;
        if seen.ended != Ended::Open {
            tally.add(&format!("{} gone", request.path()));
        }
    }
}

async fn ask(mesh: &Mesh, path: &str, tally: &Tally) -> Seen {
    let (message, cut, at) = parse(path);
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nmoney"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // What is whole, or broken off, ends the connection.
    if cut != Cut::Stall || (at == ANSWERS[message].len() && message != ENDLESS) {
        return read(&mut stream, PATIENCE).await;
    }
    // All that is to come, before it is looked at whether that is all.
    eventually(path, || tally.of(path) > 0).await;
    let sent = &ANSWERS[message][..at];
    let enough = |came: &[u8]| letters(&String::from_utf8_lossy(came)) >= letters(sent);
    read_on(&mut stream, PATIENCE, enough).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_anywhere_is_whole_or_an_error_and_nothing_is_sent_twice() {
    let tally = Tally::default();
    let address = endpoint(tally.clone()).await;
    let mesh = Mesh::with(&Service::new(address, address, 50)).await;
    let all = ANSWERS.iter().enumerate().flat_map(|(message, answer)| {
        CUTS.into_iter()
            .flat_map(move |cut| (0..=answer.len()).map(move |at| (message, cut, at)))
    });
    let judged = stream::iter(all).map(|(message, cut, at)| {
        let (mesh, tally) = (&mesh, &tally);
        async move {
            let path = format!("/{message}/{cut:?}/{at}");
            let seen = ask(mesh, &path, tally).await;
            judge(&path, &seen);
            assert_eq!(tally.of(&path), 1, "{path} was sent so many times");
            path
        }
    });
    let paths: Vec<String> = judged.buffer_unordered(64).collect().await;
    assert!(paths.len() > 400);
    for path in paths.iter().filter(|path| path.contains("Stall")) {
        let gone = format!("{path} gone");
        eventually(&gone, || tally.of(&gone) == 1).await;
    }
}

/// How much of a body is in an answer; `None`: not even its whole head.
fn letters(answer: &str) -> Option<usize> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some(body.bytes().filter(|b| b"hlowr".contains(b)).count())
}

fn judge(path: &str, seen: &Seen) {
    let (message, cut, at) = parse(path);
    let answer = ANSWERS[message];
    let head = answer.find("\r\n\r\n").unwrap() + 4;
    let is_whole = at == answer.len() && (message != ENDLESS || cut == Cut::Close);
    let text = String::from_utf8_lossy(&seen.bytes);
    if is_whole {
        let got = whole(&seen.bytes);
        let got = got.unwrap_or_else(|| panic!("{path}: {:?} after {text:?}", seen.ended));
        assert_eq!((got.status(), got.body.as_slice()), (200, BODY), "{path}");
    } else if at < head {
        match cut {
            Cut::Close | Cut::Reset => {
                let got = whole(&seen.bytes).expect("the proxy's own answer");
                assert_eq!(got.status(), 502, "{path}");
                assert!(text.contains("x-aviary-error: "), "{path}: {text}");
            }
            Cut::Stall => assert_eq!((text.as_ref(), seen.ended), ("", Ended::Open), "{path}"),
        }
    } else if message == ENDLESS && cut == Cut::Close {
        // Nobody can know that there was more: it is as whole as it came.
        assert_eq!(
            whole(&seen.bytes).unwrap().body,
            &BODY[..at - head],
            "{path}"
        );
    } else {
        assert_eq!(
            whole(&seen.bytes),
            None,
            "{path}: half a body looks whole: {text:?}"
        );
        let expected = match cut {
            Cut::Close | Cut::Reset => Ended::Reset,
            Cut::Stall => Ended::Open,
        };
        assert_eq!(seen.ended, expected, "{path}");
        // What came went on, and did not wait for the rest.
        if cut == Cut::Stall {
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {text:?}");
            assert_eq!(letters(&answer[..at]), letters(&text), "{path}: {text:?}");
        }
    }
}
