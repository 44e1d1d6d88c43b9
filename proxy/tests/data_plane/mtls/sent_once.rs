//! The connection between two sidecars dies at every one of its bytes. What was sent is never sent again, and what was not is.

use futures::StreamExt;
use futures::stream;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::tap::{Cut, Manner};
use super::{Chosen, PATIENCE, Pair};
use crate::server::raw;

type Tally = Arc<Mutex<HashMap<String, usize>>>;

/// An application that counts requests by path.
async fn counting(tally: Tally) -> SocketAddr {
    raw(move |mut stream, first| {
        let tally = tally.clone();
        async move {
            let mut bytes = first;
            let mut buffer = [0; 4096];
            loop {
                if bytes.ends_with(b"money") {
                    let head = String::from_utf8(std::mem::take(&mut bytes)).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    *tally.lock().unwrap().entry(path).or_default() += 1;
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
                match stream.read(&mut buffer).await {
                    Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
                    Ok(0) | Err(_) => return,
                }
            }
        }
    })
    .await
}

async fn post(pair: &Pair, path: &str) -> String {
    let mut stream = pair.connect().await;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\nConnection: close\r\n\r\nmoney"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an end");
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_never_sent_twice_wherever_its_connection_dies() {
    for cut in [Cut::Requests, Cut::Answers] {
        let tally = Tally::default();
        let app = counting(tally.clone()).await;
        let chosen = Chosen {
            manner: Manner {
                cut: Some(cut),
                ..Manner::default()
            },
            ..Chosen::default()
        };
        let pair = Pair::of_one_mesh(app, chosen).await;
        pair.calling.install(&pair.service.at(50)).await;
        // Every connection gets a byte further than the one before: the last ones are not cut within a handshake, nor within a request.
        let number = std::cell::Cell::new(0);
        let asked = stream::repeat(()).take(4_000).map(|()| {
            let path = format!("/{cut:?}/{}", number.replace(number.get() + 1));
            let pair = &pair;
            async move {
                let answer = post(pair, &path).await;
                (path, answer)
            }
        });
        let answers: Vec<(String, String)> = asked.buffered(16).collect().await;
        let tally = tally.lock().unwrap();
        let [mut whole, mut lost, mut unsent] = [0; 3];
        for (path, answer) in &answers {
            let count = tally.get(path).copied().unwrap_or_default();
            assert!(count <= 1, "{path} was sent {count} times");
            match (&answer[..12], count) {
                ("HTTP/1.1 200", 1) => whole += 1,
                ("HTTP/1.1 502", _) => lost += 1,
                ("HTTP/1.1 503", 0) => unsent += 1,
                _ => panic!("{path}, sent {count} times: {answer}"),
            }
        }
        println!("{cut:?}: {whole} answered, {lost} lost, {unsent} unsent");
        assert!(whole > 0 && lost > 0 && unsent > 0);
    }
}
