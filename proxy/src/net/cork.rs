//! A connection whose writes wait until somebody says that there will be no more for now: all frames that one look at an HTTP/2 connection produces
//! leave in one write.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::Buffers;
use super::end::End;
use super::input::Input;
use super::socket;
use super::stream::Stream;

/// More than this does not wait.
const MOST: usize = 64 * 1024;

#[derive(Debug)]
pub struct Cork(Rc<RefCell<Corked>>);

/// The other handle to a [`Cork`].
#[derive(Debug)]
pub struct Uncork(Rc<RefCell<Corked>>);

#[derive(Debug)]
struct Corked {
    stream: Stream,
    /// Read before what is still to be read.
    input: Input,
    buffers: Rc<Buffers>,
    waiting: Vec<u8>,
    written: usize,
}

/// `silence`: how long the peer may take to take anything.
pub fn cork(end: End, buffers: Rc<Buffers>, silence: Duration) -> (Cork, Uncork) {
    end.stream
        .with_tcp(|tcp| socket::notice_silence(tcp, silence));
    let corked = Rc::new(RefCell::new(Corked {
        stream: end.stream,
        input: end.input,
        buffers,
        waiting: Vec::new(),
        written: 0,
    }));
    (Cork(corked.clone()), Uncork(corked))
}

impl Uncork {
    /// Writes what waits. Ready when nothing does any more.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain(cx)
    }
}

impl Corked {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let waiting = &self.waiting[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        if self.written > 0 {
            self.written = 0;
            self.buffers.give(std::mem::take(&mut self.waiting));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_add(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.waiting.len() >= MOST {
            ready!(self.poll_drain(cx))?;
        }
        if self.waiting.capacity() == 0 {
            self.waiting = self.buffers.small();
        }
        let before = self.waiting.len();
        for piece in pieces {
            self.waiting.extend_from_slice(piece);
        }
        Poll::Ready(Ok(self.waiting.len() - before))
    }
}

impl AsyncRead for Cork {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut corked = self.0.borrow_mut();
        if corked.input.is_empty() {
            return Pin::new(&mut corked.stream).poll_read(cx, buffer);
        }
        let count = corked.input.bytes().len().min(buffer.remaining());
        buffer.put_slice(&corked.input.bytes()[..count]);
        corked.input.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cork {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_add(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_add(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Says that all is written: [`Uncork::poll_flush`] is what really writes.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut corked = self.0.borrow_mut();
        ready!(corked.poll_drain(cx))?;
        Pin::new(&mut corked.stream).poll_shutdown(cx)
    }
}
