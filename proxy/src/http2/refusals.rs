//! What h2 refuses by itself and does not tell: a stream above the limit is reset, a head that is too large is answered with 431. Neither is ever handed
//! to us, but what is said to the caller passes here, and it is about a stream that is higher than all that were handed to us: callers number theirs
//! upwards. So the frames that leave are looked at, of each its first bytes.
//!
//! Not seen: a refusal that has to wait because the caller does not read, and is overtaken by a later request.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::exchange::REFUSED_STREAM;
use crate::metrics::{Limit, Metrics};

/// Of a frame (RFC 9113, 4.1): its length (3 bytes), its kind (1), flags (1) and its stream (4).
const FRAME: usize = 9;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
/// A reset is its code.
const CODE: usize = 4;

/// Counts what h2 refuses on one connection.
#[derive(Debug)]
pub(super) struct Refusals {
    metrics: Arc<Metrics>,
    /// The highest stream that was handed to us.
    accepted: Cell<u32>,
}

impl Refusals {
    pub(super) fn new(metrics: Arc<Metrics>) -> Refusals {
        Refusals {
            metrics,
            accepted: Cell::new(0),
        }
    }

    pub(super) fn accepted(&self, stream: u32) {
        self.accepted.set(stream);
    }

    fn leaves(&self, frame: Frame) {
        if frame.stream <= self.accepted.get() {
            return;
        }
        match frame.said {
            Said::Answer => self.metrics.refused(Limit::Head),
            Said::Reset(REFUSED_STREAM) => self.metrics.refused(Limit::Streams),
            Said::Reset(_) | Said::Other => {}
        }
    }
}

/// What is of interest of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    stream: u32,
    said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Answer,
    Reset(u32),
    Other,
}

/// Finds frames in bytes, whatever pieces they come in.
#[derive(Debug, Default)]
struct Frames {
    /// The beginning of a frame, so far as it is here.
    begun: [u8; FRAME + CODE],
    count: usize,
    /// So much of the last frame is still to come.
    rest: usize,
}

impl Frames {
    fn take(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (self.wanted() - self.count).min(bytes.len());
            self.begun[self.count..][..taken].copy_from_slice(&bytes[..taken]);
            self.count += taken;
            bytes = &bytes[taken..];
            if self.count == self.wanted() {
                found(self.frame());
                let [a, b, c, ..] = self.begun;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                self.rest = (length + FRAME).saturating_sub(self.count);
                self.count = 0;
            }
        }
    }

    fn wanted(&self) -> usize {
        if self.count >= FRAME && self.begun[3] == RESET {
            FRAME + CODE
        } else {
            FRAME
        }
    }

    fn frame(&self) -> Frame {
        let [_, _, _, kind, _, d, e, f, g, code @ ..] = self.begun;
        Frame {
            stream: u32::from_be_bytes([d, e, f, g]),
            said: match kind {
                HEADERS => Said::Answer,
                RESET => Said::Reset(u32::from_be_bytes(code)),
                _ => Said::Other,
            },
        }
    }
}

/// A connection, with its eye on what leaves by it.
#[derive(Debug)]
pub(super) struct Watched<T> {
    io: T,
    frames: Frames,
    refusals: Rc<Refusals>,
}

impl<T> Watched<T> {
    pub(super) fn new(io: T, refusals: Rc<Refusals>) -> Watched<T> {
        Watched {
            io,
            frames: Frames::default(),
            refusals,
        }
    }

    fn written(&mut self, bytes: &[u8]) {
        let refusals = &self.refusals;
        self.frames.take(bytes, |frame| refusals.leaves(frame));
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.written(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, pieces))?;
        let mut left = count;
        for piece in pieces {
            let written = left.min(piece.len());
            self.written(&piece[..written]);
            left -= written;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, 0, 0, 0, 0, stream], payload].concat()
    }

    #[test]
    fn frames_are_found_whatever_pieces_they_come_in() {
        // The second one is empty, and the fourth has the bytes of a reset in it.
        let bytes = [
            frame(4, 0, &[0; 6]),
            frame(4, 0, &[]),
            frame(HEADERS, 7, b"abc"),
            frame(0, 7, &frame(RESET, 9, &[0, 0, 0, 7])),
            frame(RESET, 9, &[0, 0, 0, 7]),
            frame(HEADERS, 11, &[]),
        ]
        .concat();
        let said = |stream, said| Frame { stream, said };
        let expected = [
            said(0, Said::Other),
            said(0, Said::Other),
            said(7, Said::Answer),
            said(7, Said::Other),
            said(9, Said::Reset(7)),
            said(11, Said::Answer),
        ];
        for size in 1..=bytes.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                frames.take(piece, |frame| found.push(frame));
            }
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn only_what_is_said_about_a_stream_that_was_not_handed_over_is_a_refusal() {
        let metrics = Arc::new(Metrics::default());
        let refusals = Refusals::new(metrics.clone());
        refusals.accepted(5);
        for stream in [5, 7] {
            for said in [
                Said::Answer,
                Said::Reset(REFUSED_STREAM),
                Said::Reset(8),
                Said::Other,
            ] {
                refusals.leaves(Frame { stream, said });
            }
        }
        let text = metrics.render().unwrap();
        for (reason, count) in [("head", 1), ("streams", 1), ("frames", 0)] {
            let line = format!("aviary_refused_total{{reason=\"{reason}\"}} {count}\n");
            assert!(text.contains(&line), "{text}");
        }
    }
}
