//! A tunnel that this proxy may have to end in order, between a caller and an endpoint that is to get nothing any more. Until then it is a [`tunnel`](super::tunnel).
//!
//! ```text
//!   WebSocket   the frame under way goes on to its end, then the caller gets Close 1001; its own Close goes on to the endpoint, whose end goes on to the caller
//!   bytes       what is read already goes on, then both ends get a FIN
//! ```
//!
//! Whatever comes after that is read and dropped, for [`FAREWELL`] at most: to close a connection with unread bytes would reset it, and what the other end has
//! not read yet would be lost with it.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aviary_http1::websocket::{Frames, GOING_AWAY};
use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep};

use super::end::End;
use super::input::Input;
use super::stream::{ReadHalf, WriteHalf};

/// How long two ends that were told may take to end it.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is spoken in a tunnel, as far as its end is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    WebSocket,
    Bytes,
}

/// Copies until both ends are done, or were told to be when `withdrawn` resolved. If one breaks before, or at `expelled`, both are reset.
pub async fn join(
    mut caller: End,
    mut endpoint: End,
    spoken: Spoken,
    withdrawn: impl Future<Output = ()>,
    expelled: impl Future<Output = io::Error>,
) -> io::Result<()> {
    let joined = tokio::select! {
        biased;
        joined = carry(&mut caller, &mut endpoint, spoken, withdrawn) => joined,
        ended = expelled => Err(ended),
    };
    if joined.is_err() {
        caller.stream.reset_on_close();
        endpoint.stream.reset_on_close();
    }
    joined
}

async fn carry(
    caller: &mut End,
    endpoint: &mut End,
    spoken: Spoken,
    withdrawn: impl Future<Output = ()>,
) -> io::Result<()> {
    let (mut caller_read, mut caller_write) = caller.stream.split();
    let (mut endpoint_read, mut endpoint_write) = endpoint.stream.split();
    let (mut there, mut back) = (Way::new(Spoken::Bytes), Way::new(spoken));
    let mut withdrawn = pin!(withdrawn);
    let mut farewell: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if farewell.is_none() && withdrawn.as_mut().poll(cx).is_ready() {
            farewell = Some(Box::pin(sleep(FAREWELL)));
            back.end();
            match spoken {
                // Its own Close has to get there.
                Spoken::WebSocket => {}
                Spoken::Bytes => there.end(),
            }
        }
        let there = there.poll(cx, &mut caller_read, &mut caller.input, &mut endpoint_write);
        let back = back.poll(
            cx,
            &mut endpoint_read,
            &mut endpoint.input,
            &mut caller_write,
        );
        let Some(farewell) = &mut farewell else {
            return match (there?, back?) {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
                (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
            };
        };
        // An end that breaks now has only been quicker than the other one.
        let is_over = |way: Poll<io::Result<()>>| way.is_ready();
        if is_over(there) & is_over(back) || farewell.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await
}

/// One direction.
struct Way {
    /// Of a WebSocket that may be ended.
    frames: Option<Frames>,
    /// So many bytes were offered when the other side had no room, and have to be offered again: a record of TLS may be made of them already.
    offered: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// What is under way goes on to its end.
    Ending,
    /// So much of the goodbye is said.
    Saying(usize),
    /// Until the end comes, nothing goes on.
    Waiting,
    /// The end goes on; is there more to read and drop?
    Closing(Rest),
    Dropping,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    None,
    Dropped,
}

impl Way {
    fn new(spoken: Spoken) -> Way {
        Way {
            frames: match spoken {
                Spoken::WebSocket => Some(Frames::default()),
                Spoken::Bytes => None,
            },
            offered: 0,
            stage: Stage::Open,
        }
    }

    fn end(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Ending;
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        input: &mut Input,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            self.stage = match self.stage {
                Stage::Open => {
                    ready!(self.poll_write(cx, input, usize::MAX, to))?;
                    match ready!(input.poll_fill(from, cx))? {
                        0 => Stage::Closing(Rest::None),
                        _ => Stage::Open,
                    }
                }
                Stage::Ending => {
                    let rest = match &self.frames {
                        Some(frames) => frames.rest(input.bytes()),
                        None => input.bytes().len(),
                    };
                    match (rest.max(self.offered), &self.frames) {
                        (1.., _) => {
                            let rest = rest.max(self.offered);
                            ready!(self.poll_write(cx, input, rest, to))?;
                            Stage::Ending
                        }
                        (0, None) => Stage::Closing(Rest::Dropped),
                        (0, Some(frames)) if !frames.is_between() => {
                            match ready!(input.poll_fill(from, cx))? {
                                0 => Stage::Closing(Rest::None),
                                _ => Stage::Ending,
                            }
                        }
                        // The endpoint has said goodbye itself.
                        (0, Some(frames)) if frames.is_closed() => Stage::Open,
                        (0, Some(_)) => Stage::Saying(0),
                    }
                }
                Stage::Saying(said) if said == GOING_AWAY.len() => Stage::Waiting,
                Stage::Saying(said) => {
                    let written = Pin::new(&mut *to).poll_write(cx, &GOING_AWAY[said..]);
                    Stage::Saying(said + taken(ready!(written))?)
                }
                Stage::Waiting => match ready!(poll_drop(cx, from, input))? {
                    Gone::Some => Stage::Waiting,
                    Gone::All => Stage::Closing(Rest::None),
                },
                Stage::Closing(rest) => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    match rest {
                        Rest::None => Stage::Closed,
                        Rest::Dropped => Stage::Dropping,
                    }
                }
                Stage::Dropping => match ready!(poll_drop(cx, from, input))? {
                    Gone::Some => Stage::Dropping,
                    Gone::All => Stage::Closed,
                },
                Stage::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes the first `most` bytes of what was read.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Input,
        mut most: usize,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        while most > 0 && !input.is_empty() {
            let bytes = input.bytes();
            let bytes = &bytes[..bytes.len().min(most)];
            self.offered = bytes.len();
            let written = taken(ready!(Pin::new(&mut *to).poll_write(cx, bytes)))?;
            self.offered = 0;
            if let Some(frames) = &mut self.frames {
                frames.pass(&bytes[..written]);
            }
            most -= written;
            input.consume(written);
        }
        Poll::Ready(Ok(()))
    }
}

fn taken(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        written => written,
    }
}

/// What of the bytes is dropped.
enum Gone {
    Some,
    /// There will be no more.
    All,
}

fn poll_drop(
    cx: &mut Context<'_>,
    from: &mut ReadHalf<'_>,
    input: &mut Input,
) -> Poll<io::Result<Gone>> {
    let unread = input.bytes().len();
    input.consume(unread);
    Poll::Ready(match ready!(input.poll_fill(from, cx))? {
        0 => Ok(Gone::All),
        _ => Ok(Gone::Some),
    })
}

#[cfg(test)]
mod tests;
