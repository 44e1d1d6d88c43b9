//! Moves a body from one stream to another, frame by frame, trailers included. What is taken from one side is released there only when the other
//! side has room for it: a reader that stalls holds up its own stream and nobody else's.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

/// More than this of a body is not kept for another attempt.
const KEPT: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Pump {
    stage: Stage,
    /// Read and not written yet.
    pending: Option<Piece>,
    is_last: bool,
    kept: Kept,
    /// How many of the kept pieces went out in this attempt.
    replayed: usize,
    moved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is no body.
    Empty,
    Going,
    Done,
}

#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

#[derive(Debug)]
enum Kept {
    Everything(Vec<Piece>, usize),
    Nothing,
}

/// Which side broke, with the code of its reset if it gave one.
#[derive(Debug)]
pub(super) enum Broken {
    Source(Option<Reason>),
    Sink(Option<Reason>),
}

impl Pump {
    /// For a body that goes one way only.
    pub(super) fn once(is_empty: bool) -> Pump {
        Pump {
            stage: if is_empty { Stage::Empty } else { Stage::Going },
            pending: None,
            is_last: false,
            kept: Kept::Nothing,
            replayed: 0,
            moved: 0,
        }
    }

    /// Bytes that went out, in all attempts.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Keeps what went out, so that it can go out again.
    pub(super) fn keeping(is_empty: bool) -> Pump {
        Pump {
            kept: Kept::Everything(Vec::new(), 0),
            ..Pump::once(is_empty)
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stage == Stage::Empty
    }

    /// Whether there may be more of it.
    pub(super) fn is_going(&self) -> bool {
        self.stage == Stage::Going
    }

    /// Whether all of it could go out once more.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.kept, Kept::Everything(..))
    }

    pub(super) fn forget(&mut self) {
        // What is kept and did not go out in this attempt is still to be sent.
        if let Kept::Everything(pieces, _) = &self.kept
            && self.replayed == pieces.len()
        {
            self.kept = Kept::Nothing;
        }
    }

    /// Begins again with what is kept.
    pub(super) fn rewind(&mut self) {
        if let Kept::Everything(..) = self.kept
            && !self.is_empty()
        {
            // What is pending is the last of the kept pieces.
            (self.pending, self.is_last, self.replayed) = (None, false, 0);
            self.stage = Stage::Going;
        }
    }

    /// Moves what can be moved. Ready at the end of the body, trailers included, or when a side broke.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut RecvStream,
        to: &mut SendStream<Bytes>,
        trailers: impl FnMut(&HeaderMap),
    ) -> Poll<Result<(), Broken>> {
        if self.stage != Stage::Going {
            return Poll::Ready(Ok(()));
        }
        let polled = self.poll_pieces(cx, from, to, trailers);
        if polled.is_ready() {
            self.stage = Stage::Done;
        }
        polled
    }

    fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut RecvStream,
        to: &mut SendStream<Bytes>,
        mut trailers: impl FnMut(&HeaderMap),
    ) -> Poll<Result<(), Broken>> {
        loop {
            match self.pending.take() {
                Some(Piece::Data(data)) => {
                    let length = data.len();
                    to.reserve_capacity(length);
                    let room = match self.poll_room(cx, to, length) {
                        Poll::Ready(Ok(room)) => room,
                        Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                        Poll::Pending => {
                            self.pending = Some(Piece::Data(data));
                            return Poll::Pending;
                        }
                    };
                    let mut rest = data;
                    let now = rest.split_to(room.min(length));
                    let count = now.len();
                    self.moved += count as u64;
                    let is_last = self.is_last && rest.is_empty();
                    to.send_data(now, is_last).map_err(sink)?;
                    // Refused only for a stream that has ended, and then nobody waits for room.
                    let _ = from.flow_control().release_capacity(count);
                    if is_last {
                        return Poll::Ready(Ok(()));
                    }
                    if !rest.is_empty() {
                        self.pending = Some(Piece::Data(rest));
                    }
                }
                Some(Piece::Trailers(map)) => {
                    trailers(&map);
                    to.send_trailers(map).map_err(sink)?;
                    return Poll::Ready(Ok(()));
                }
                Some(Piece::End) => {
                    to.send_data(Bytes::new(), true).map_err(sink)?;
                    return Poll::Ready(Ok(()));
                }
                None => {
                    let piece = ready!(self.poll_piece(cx, from))?;
                    self.pending = Some(piece);
                }
            }
        }
    }

    /// How much may be written, when there is any room.
    fn poll_room(
        &self,
        cx: &mut Context<'_>,
        to: &mut SendStream<Bytes>,
        length: usize,
    ) -> Poll<Result<usize, Broken>> {
        let room = to.capacity();
        if room > 0 || length == 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(to.poll_capacity(cx)) {
            Some(Ok(room)) => Poll::Ready(Ok(room)),
            Some(Err(error)) => Poll::Ready(Err(Broken::Sink(error.reason()))),
            None => Poll::Ready(Err(Broken::Sink(None))),
        }
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut RecvStream,
    ) -> Poll<Result<Piece, Broken>> {
        if let Kept::Everything(pieces, _) = &self.kept
            && let Some(piece) = pieces.get(self.replayed)
        {
            let piece = piece.clone();
            self.replayed += 1;
            self.is_last = self.replayed == pieces.len() && from.is_end_stream();
            return Poll::Ready(Ok(piece));
        }
        let piece = match ready!(from.poll_data(cx)) {
            Some(Ok(data)) => {
                self.is_last = from.is_end_stream();
                Piece::Data(data)
            }
            Some(Err(error)) => return Poll::Ready(Err(source(error))),
            None => match ready!(from.poll_trailers(cx)) {
                Ok(Some(trailers)) => Piece::Trailers(trailers),
                Ok(None) => Piece::End,
                Err(error) => return Poll::Ready(Err(source(error))),
            },
        };
        self.keep(&piece);
        Poll::Ready(Ok(piece))
    }

    fn keep(&mut self, piece: &Piece) {
        let Kept::Everything(pieces, size) = &mut self.kept else {
            return;
        };
        if let Piece::Data(data) = piece {
            *size += data.len();
        }
        if *size > KEPT {
            self.kept = Kept::Nothing;
        } else {
            pieces.push(piece.clone());
            self.replayed = pieces.len();
        }
    }
}

fn source(error: h2::Error) -> Broken {
    Broken::Source(error.reason())
}

fn sink(error: h2::Error) -> Broken {
    Broken::Sink(error.reason())
}
