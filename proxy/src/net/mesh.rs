//! A connection with mutual TLS, after its handshake. It behaves as a TCP connection does, so nobody who uses it has to know:
//!
//! - bytes count as written when the kernel has them, and after an error the peer cannot read those that did not count: at most one record is under way,
//!   and half a record is nothing to its reader. Whoever is told to wait comes again with the same bytes, or with more behind them;
//! - each direction ends by itself, by a `close_notify` and a FIN. An end without the former is an error: somebody may have cut off the rest;
//! - what is idle owns no buffer of plaintext.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

/// The most that one record carries (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;
/// How long a peer may take to take the last bytes.
const GOODBYE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Mesh {
    tls: RefCell<TlsStream<TcpStream>>,
    /// Plaintext of the record that is under way.
    taken: Cell<usize>,
    peer: Arc<str>,
}

impl Mesh {
    /// `peer` is whom the handshake has proven.
    pub fn new(tls: TlsStream<TcpStream>, peer: Arc<str>) -> Mesh {
        Mesh {
            tls: RefCell::new(tls),
            taken: Cell::new(0),
            peer,
        }
    }

    /// The identity at the other end.
    pub fn peer(&self) -> &Arc<str> {
        &self.peer
    }

    /// The connection below.
    pub fn with_tcp<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> T {
        look(self.tls.borrow().get_ref().0)
    }

    /// Ready when there is plaintext, the end, or an error.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut tls = self.tls.borrow_mut();
        Pin::new(&mut *tls).poll_fill_buf(cx).map_ok(|_| ())
    }

    /// Reads into what is free of `into`, which does not grow. Zero: the peer sends no more.
    pub fn poll_read(&self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let mut tls = self.tls.borrow_mut();
        let plain = ready!(Pin::new(&mut *tls).poll_fill_buf(cx))?;
        let count = plain.len().min(into.capacity() - into.len());
        into.extend_from_slice(&plain[..count]);
        Pin::new(&mut *tls).consume(count);
        Poll::Ready(Ok(count))
    }

    pub fn poll_read_buf(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.tls.borrow_mut()).poll_read(cx, buffer)
    }

    /// Writes a record of what there is of `first`, and of `second` behind it.
    pub fn poll_write(
        &self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut tls = self.tls.borrow_mut();
        if self.taken.get() == 0 {
            let first = &first[..first.len().min(RECORD)];
            let second = &second[..second.len().min(RECORD - first.len())];
            let record = [IoSlice::new(first), IoSlice::new(second)];
            let taken = ready!(Pin::new(&mut *tls).poll_write_vectored(cx, &record))?;
            self.taken.set(taken);
        }
        ready!(Pin::new(&mut *tls).poll_flush(cx))?;
        let written = self.taken.take();
        debug_assert!(written <= first.len() + second.len());
        Poll::Ready(Ok(written))
    }

    /// Says that there will be no more.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.tls.borrow_mut()).poll_shutdown(cx)
    }

    /// Ends the connection in order: its peer sees that nothing was cut off.
    pub async fn close(&self) {
        // A peer that takes nothing any more is not waited for.
        let _ = timeout(GOODBYE, poll_fn(|cx| self.poll_shutdown(cx))).await;
    }
}
