//! Bytes both ways, unread: opaque connections, and connections that left HTTP by an upgrade.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use aviary_http1::{Body, Coding, Framing};
use tokio::io::AsyncWrite;

use super::buffers::Buffers;
use super::end::End;
use super::input::Input;
use super::pump::{Broken, Pump};
use super::stream::{ReadHalf, WriteHalf};

/// Copies until both ends are done. If one breaks, the other one is told so by a reset: an end would say that all is there.
pub async fn join(one: End, other: End, buffers: &Rc<Buffers>) -> io::Result<()> {
    join_until(one, other, buffers, pending()).await
}

/// The same, until `end`: then both are reset, since not all may be there.
pub async fn join_until(
    mut one: End,
    mut other: End,
    buffers: &Rc<Buffers>,
    end: impl Future<Output = io::Error>,
) -> io::Result<()> {
    let joined = tokio::select! {
        biased;
        joined = copy(&mut one, &mut other, buffers) => joined,
        ended = end => Err(ended),
    };
    if joined.is_err() {
        one.stream.reset_on_close();
        other.stream.reset_on_close();
    }
    joined
}

async fn copy(one: &mut End, other: &mut End, buffers: &Rc<Buffers>) -> io::Result<()> {
    let (mut one_read, mut one_write) = one.stream.split();
    let (mut other_read, mut other_write) = other.stream.split();
    let (mut there, mut back) = (Way::new(buffers), Way::new(buffers));
    poll_fn(|cx| {
        let there = there.poll(cx, &mut one_read, &mut one.input, &mut other_write)?;
        let back = back.poll(cx, &mut other_read, &mut other.input, &mut one_write)?;
        match (there, back) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    })
    .await
}

/// One direction.
enum Way {
    Open(Pump),
    Closing,
    Closed,
}

impl Way {
    fn new(buffers: &Rc<Buffers>) -> Way {
        let body = Body::new(Framing::Close, Coding::Plain);
        Way::Open(Pump::new(body, Vec::new(), buffers.clone()))
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        input: &mut Input,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self {
                Way::Open(pump) => {
                    ready!(pump.poll(cx, from, input, to, |_| {})).map_err(into_io)?;
                    *self = Way::Closing;
                }
                Way::Closing => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    *self = Way::Closed;
                }
                Way::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

fn into_io(broken: Broken) -> io::Error {
    match broken {
        Broken::Source(error) | Broken::Sink(error) => error,
        Broken::Ended | Broken::Malformed(_) => io::Error::other(broken),
    }
}
