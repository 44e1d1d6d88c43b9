//! Moves a message's body from one connection to another, in whatever pieces it comes, and waits for whichever side is slower.
//!
//! What goes out begins with a head that is written already, so that a head and the beginning of its body leave together. Large pieces go straight
//! from the buffer that they were read into.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use aviary_http1::{Body, Malformed};
use tokio::io::AsyncWrite;

use super::buffers::Buffers;
use super::input::Input;
use super::stream::{ReadHalf, WriteHalf};

/// Pieces up to this size are copied behind a head rather than named beside it.
const COPIED: usize = 2 * 1024;
/// More than this does not wait to be written.
const WAITING: usize = 16 * 1024;
/// More than this of a body is not kept for another attempt.
const KEPT: usize = 64 * 1024;

#[derive(Debug)]
pub struct Pump {
    body: Body,
    buffers: Rc<Buffers>,
    /// What is to be written, or was and is kept.
    out: Vec<u8>,
    /// So much of it is the head.
    head: usize,
    written: usize,
    /// So many bytes of the input go out as they are, after `out`.
    direct: usize,
    keeping: Keeping,
    total: u64,
    arrived: Arrived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrived {
    Partly,
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// Up to this length of `out`.
    Everything(usize),
    Nothing,
}

/// Why a body did not get through.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("reading failed: {0}")]
    Source(io::Error),
    #[error("the connection ended in the middle of the message")]
    Ended,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("writing failed: {0}")]
    Sink(io::Error),
}

impl Pump {
    /// `head` goes out first.
    pub fn new(body: Body, head: Vec<u8>, buffers: Rc<Buffers>) -> Pump {
        Pump {
            body,
            buffers,
            head: head.len(),
            out: head,
            written: 0,
            direct: 0,
            keeping: Keeping::Nothing,
            total: 0,
            arrived: Arrived::Partly,
        }
    }

    /// Keeps what went out, so that it can go out again.
    pub fn keeping(mut self) -> Pump {
        self.keeping = Keeping::Everything(self.out.len() + KEPT);
        self
    }

    /// Whether everything that went out is still there.
    pub fn is_kept(&self) -> bool {
        self.keeping != Keeping::Nothing
    }

    /// What has gone out since the beginning, its head first; `None` if not all of it is there.
    pub fn kept(&self) -> Option<&[u8]> {
        self.is_kept().then_some(self.out.as_slice())
    }

    /// There will be no other attempt.
    pub fn forget(&mut self) {
        self.keeping = Keeping::Nothing;
    }

    /// Begins again. Only while everything is kept.
    pub fn rewind(&mut self) {
        debug_assert!(self.is_kept() || self.total == 0);
        self.written = 0;
        self.total = 0;
    }

    /// Another head goes out next time, before what is kept of the body. Only while everything is kept.
    pub fn replace_head(&mut self, head: Vec<u8>) {
        debug_assert!(self.is_kept());
        let length = head.len();
        self.out.splice(..self.head, head);
        self.head = length;
    }

    /// Bytes that went out since the beginning.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Those of them that were not the head's; with the lines of chunks.
    pub fn body_bytes(&self) -> u64 {
        self.total.saturating_sub(self.head as u64)
    }

    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Moves what can be moved. Ready at the end of the body, or when it broke. Calls `whole` when all of the body is here, before the last of it
    /// goes out.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        input: &mut Input,
        to: &mut WriteHalf<'_>,
        mut whole: impl FnMut(&Body),
    ) -> Poll<Result<(), Broken>> {
        loop {
            let waiting = self.out.len() - self.written;
            if self.direct == 0 && waiting < WAITING && !self.body.is_done() && !input.is_empty() {
                self.take(input)?;
            }
            if self.arrived == Arrived::Partly && self.body.is_done() {
                self.arrived = Arrived::Whole;
                whole(&self.body);
            }
            ready!(self.poll_write(cx, input, to)).map_err(Broken::Sink)?;
            if self.body.is_done() {
                return Poll::Ready(Ok(()));
            }
            if input.is_empty() {
                match ready!(input.poll_fill(from, cx)) {
                    Ok(0) => self.body.end(&mut self.out).map_err(|_| Broken::Ended)?,
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(Err(Broken::Source(error))),
                }
            }
        }
    }

    fn take(&mut self, input: &mut Input) -> Result<(), Malformed> {
        if self.out.capacity() == 0 && self.is_kept() {
            self.out = self.buffers.small();
        }
        let relayed = self.body.relay(input.bytes(), &mut self.out)?;
        let (taken, plain) = (relayed.taken, relayed.plain);
        let joins_others = !self.out.is_empty() && plain.len() <= COPIED;
        if plain.is_empty() {
            input.consume(taken);
        } else if self.is_kept() || joins_others {
            self.out.extend_from_slice(plain);
            input.consume(taken);
        } else {
            self.direct = taken;
        }
        Ok(())
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Input,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let waiting = &self.out[self.written..];
            let count = match (waiting.is_empty(), self.direct) {
                (true, 0) => break,
                (false, 0) => ready!(Pin::new(&mut *to).poll_write(cx, waiting))?,
                (true, direct) => {
                    ready!(Pin::new(&mut *to).poll_write(cx, &input.bytes()[..direct]))?
                }
                (false, direct) => {
                    let pieces = [
                        IoSlice::new(waiting),
                        IoSlice::new(&input.bytes()[..direct]),
                    ];
                    ready!(Pin::new(&mut *to).poll_write_vectored(cx, &pieces))?
                }
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.total += count as u64;
            let of_out = count.min(waiting.len());
            self.written += of_out;
            self.direct -= count - of_out;
            input.consume(count - of_out);
        }
        if let Keeping::Everything(most) = self.keeping
            && self.out.len() > most
        {
            self.keeping = Keeping::Nothing;
        }
        if !self.is_kept() && self.out.capacity() > 0 {
            self.written = 0;
            self.give_back();
        }
        Poll::Ready(Ok(()))
    }

    fn give_back(&mut self) {
        self.buffers.give(std::mem::take(&mut self.out));
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.give_back();
    }
}
