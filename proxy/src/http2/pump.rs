//! Moves a body from one stream to another, frame by frame, trailers included. What is taken from one side is released there only when the other
//! side has room for it: a reader that stalls holds up its own stream and nobody else's.
//!
//! What comes meanwhile is taken and joined, up to the window of its stream: h2 ends a connection on which too many small frames lie unread, and that
//! connection is everybody's.

mod pieces;

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use pieces::Pieces;

/// More than this of a body is not kept for another attempt.
const KEPT: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Pump {
    stage: Stage,
    /// Read and not written yet.
    pending: Option<Piece>,
    /// Read while that waited for room.
    behind: Option<Box<Behind>>,
    /// Nothing comes after what was read.
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

/// After its end comes nothing.
#[derive(Debug, Default)]
struct Behind {
    data: Pieces,
    end: Option<Result<Piece, Broken>>,
}

impl Behind {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.end.is_none()
    }

    fn pop(&mut self) -> Option<Result<Piece, Broken>> {
        match self.data.pop() {
            Some(data) => Some(Ok(Piece::Data(data))),
            None => self.end.take(),
        }
    }
}

#[derive(Debug)]
enum Kept {
    Everything(Whole),
    Nothing,
}

/// All that was read since the beginning.
#[derive(Debug, Default)]
struct Whole {
    data: Pieces,
    size: usize,
    end: Option<Box<Piece>>,
}

impl Whole {
    fn len(&self) -> usize {
        self.data.len() + usize::from(self.end.is_some())
    }

    fn get(&self, index: usize) -> Option<Piece> {
        let data = self.data.get(index).map(Piece::Data);
        let end = || self.end.as_deref().filter(|_| index == self.data.len());
        data.or_else(|| end().cloned())
    }
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
            behind: None,
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
            kept: Kept::Everything(Whole::default()),
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
        matches!(self.kept, Kept::Everything(_))
    }

    pub(super) fn forget(&mut self) {
        // What is kept and did not go out in this attempt is still to be sent.
        if let Kept::Everything(whole) = &self.kept
            && self.replayed == whole.len()
        {
            self.kept = Kept::Nothing;
        }
    }

    /// Begins again with what is kept.
    pub(super) fn rewind(&mut self) {
        if let Kept::Everything(_) = self.kept
            && !self.is_empty()
        {
            // What is pending, and behind that, is the last of the kept pieces.
            (self.pending, self.is_last, self.replayed) = (None, false, 0);
            self.behind = None;
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
                            self.gather(cx, from);
                            return Poll::Pending;
                        }
                    };
                    let mut rest = data;
                    let now = rest.split_to(room.min(length));
                    let count = now.len();
                    self.moved += count as u64;
                    let behind = self.behind.as_ref();
                    let is_behind = behind.is_some_and(|behind| !behind.is_empty());
                    let is_last = self.is_last && rest.is_empty() && !is_behind;
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
                    let behind = self.behind.as_mut().and_then(|behind| behind.pop());
                    let piece = match behind {
                        Some(read) => read?,
                        None => ready!(self.poll_piece(cx, from))?,
                    };
                    self.pending = Some(piece);
                }
            }
        }
    }

    /// Takes what comes while there is no room for what was read before it.
    fn gather(&mut self, cx: &mut Context<'_>, from: &mut RecvStream) {
        while !self.is_last {
            if self.behind.as_ref().is_some_and(|it| it.end.is_some()) {
                return;
            }
            let Poll::Ready(read) = self.poll_piece(cx, from) else {
                return;
            };
            let behind = self.behind.get_or_insert_default();
            match read {
                Ok(Piece::Data(data)) => behind.data.push(data),
                end => behind.end = Some(end),
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
        if let Kept::Everything(whole) = &self.kept
            && let Some(piece) = whole.get(self.replayed)
        {
            self.replayed += 1;
            self.is_last = self.replayed == whole.len() && from.is_end_stream();
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
        let Kept::Everything(whole) = &mut self.kept else {
            return;
        };
        match piece {
            Piece::Data(data) if whole.size + data.len() > KEPT => {
                self.kept = Kept::Nothing;
                return;
            }
            Piece::Data(data) => {
                whole.size += data.len();
                whole.data.push(data.clone());
            }
            end => whole.end = Some(Box::new(end.clone())),
        }
        self.replayed = whole.len();
    }
}

fn source(error: h2::Error) -> Broken {
    Broken::Source(error.reason())
}

fn sink(error: h2::Error) -> Broken {
    Broken::Sink(error.reason())
}
