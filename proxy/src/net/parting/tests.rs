//! The clock stands still: what happens here does not happen because a time is over.

use std::future::{pending, ready};
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::*;

/// A Close of a server's that has nothing more to say: 1000.
const CLOSE: &[u8] = &[0x88, 2, 0x03, 0xe8];
/// The one that answers it: masked, by zeros.
const ANSWER: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
/// How often everybody has a turn before something is not going to happen any more.
const TURNS: u32 = 100_000;

/// An end of the proxy's, and who is there.
async fn end() -> (End, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = TcpStream::connect(address).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    (End::new(ours, Rc::default()), peer)
}

/// What comes of `work` while the two ends are joined. A runtime that has something to do leaves the clock where it is.
async fn meanwhile<T>(
    joined: impl Future<Output = io::Result<()>>,
    work: impl Future<Output = T>,
) -> T {
    let turns = async {
        for _ in 0..TURNS {
            yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        joined = joined => panic!("it was over before: {joined:?}"),
        () = turns => panic!("it does not happen as long as the clock stands"),
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_are_over_at_both_ends_at_once() {
    let ((ours, mut caller), (theirs, mut endpoint)) = (end().await, end().await);
    let joined = join(ours, theirs, Spoken::Bytes, ready(()), pending());
    meanwhile(joined, async {
        for peer in [&mut caller, &mut endpoint] {
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_has_said_goodbye_is_not_made_to_say_another_one() {
    let ((ours, mut caller), (theirs, mut endpoint)) = (end().await, end().await);
    let (withdraw, withdrawn) = oneshot::channel::<()>();
    let withdrawn = async { drop(withdrawn.await) };
    let joined = join(ours, theirs, Spoken::WebSocket, withdrawn, pending());
    meanwhile(joined, async {
        endpoint.write_all(CLOSE).await.unwrap();
        let mut heard = [0; CLOSE.len()];
        caller.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, CLOSE);
        withdraw.send(()).unwrap();
        caller.write_all(ANSWER).await.unwrap();
        let mut answer = [0; ANSWER.len()];
        endpoint.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, ANSWER);
        drop(endpoint);
        let mut rest = Vec::new();
        caller.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    })
    .await;
}
