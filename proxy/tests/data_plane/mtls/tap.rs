//! What lies between two sidecars: it writes down what it carries, and carries it as the test says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::sleep;

use crate::server::accepting;

#[derive(Clone)]
pub(crate) struct Tap {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
}

/// So many bytes, or fewer, tell TLS from everything else.
const FIRST: usize = 16;

#[derive(Clone, Copy, Default)]
pub(super) struct Manner {
    /// The caller's bytes go on in pieces of this size, the first ones alone; `None`: as they come.
    pub(super) pieces: Option<usize>,
    /// So long after they came.
    pub(super) delay: Duration,
    /// Connection n ends after so many bytes in this direction.
    pub(super) cut: Option<Cut>,
}

/// Which bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Requests,
    Answers,
}

impl Tap {
    pub(super) async fn before(to: SocketAddr, manner: Manner) -> Tap {
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let (record, counter) = (seen.clone(), connections.clone());
        let address = accepting(move |caller| {
            let (record, number) = (record.clone(), counter.fetch_add(1, Ordering::SeqCst));
            carry(caller, to, record, manner, number)
        })
        .await;
        Tap {
            address,
            seen,
            connections,
        }
    }

    pub(crate) fn has_seen(&self, text: &str) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    pub(super) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Ends of connections pass on, resets too.
async fn carry(
    caller: TcpStream,
    to: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    manner: Manner,
    number: usize,
) {
    let called = TcpStream::connect(to).await.unwrap();
    called.set_nodelay(true).unwrap();
    caller.set_nodelay(true).unwrap();
    let left = |cut| match manner.cut {
        Some(wanted) if wanted == cut => number,
        Some(_) | None => usize::MAX,
    };
    {
        let ((from_caller, to_caller), (from_called, to_called)) =
            (caller.into_split(), called.into_split());
        let there = Way {
            from: from_caller,
            to: to_called,
            left: left(Cut::Requests),
            manner,
            seen: &seen,
        };
        let back = Way {
            from: from_called,
            to: to_caller,
            left: left(Cut::Answers),
            manner: Manner::default(),
            seen: &seen,
        };
        let (mut there, mut back) = (Box::pin(there.copy()), Box::pin(back.copy()));
        // One that ends takes the other with it only if it breaks.
        let _held = tokio::select! {
            ended = &mut there => match ended {
                Ended::Orderly(to) => (Some(to), back.await),
                broken => (None, broken),
            },
            ended = &mut back => match ended {
                Ended::Orderly(to) => (Some(to), there.await),
                broken => (None, broken),
            },
        };
    }
}

struct Way<'t> {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    left: usize,
    manner: Manner,
    seen: &'t Mutex<Vec<u8>>,
}

enum Ended {
    /// With what is not dropped before its time.
    Orderly(OwnedWriteHalf),
    Cut,
    Reset,
}

impl Way<'_> {
    async fn copy(mut self) -> Ended {
        let mut bytes = [0; 16 * 1024];
        let mut sent = 0;
        loop {
            let read = match self.from.read(&mut bytes).await {
                Ok(0) => {
                    let _ = self.to.shutdown().await;
                    return Ended::Orderly(self.to);
                }
                Ok(read) => read,
                Err(_) => {
                    let stream: &TcpStream = self.to.as_ref();
                    stream.set_zero_linger().unwrap();
                    // Its end would say so first.
                    self.to.forget();
                    return Ended::Reset;
                }
            };
            if !self.manner.delay.is_zero() {
                sleep(self.manner.delay).await;
            }
            let mut rest = &bytes[..read];
            while !rest.is_empty() {
                let size = match self.manner.pieces {
                    Some(_) if sent < FIRST => 1,
                    Some(size) => size.min(rest.len()),
                    None => rest.len(),
                };
                let (piece, others) = rest.split_at(size);
                (rest, sent) = (others, sent + size);
                let piece = &piece[..piece.len().min(self.left)];
                self.left -= piece.len();
                self.seen.lock().unwrap().extend_from_slice(piece);
                if self.to.write_all(piece).await.is_err() {
                    return Ended::Cut;
                }
                if self.left == 0 {
                    return Ended::Cut;
                }
                if self.manner.pieces.is_some() {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}
