//! A request's body on its way to an endpoint. What went out of it stays in hand (by reference, not by copy) up to 64 KiB, so that a
//! request that was provably never processed can be sent again, the beginning from here and the rest from the caller.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use traffic_core::retry;

/// More than this is not kept for another attempt.
const KEPT: usize = 64 * 1024;

/// The caller's side of a body; `None` if there is none.
#[derive(Clone, Debug, Default)]
pub struct Upload(Option<Rc<RefCell<Source>>>);

#[derive(Debug)]
struct Source {
    body: Incoming,
    /// What was read so far, while it is kept.
    pieces: Vec<Piece>,
    size: usize,
    keeping: Keeping,
    caller: Caller,
    /// Which attempt may read. Connections let go of the body of a failed attempt late.
    attempt: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    Everything,
    /// It outgrew what is kept, or there will be no other attempt.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    There,
    /// Broke off its own request.
    Gone,
}

#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// One attempt's view of the body.
#[derive(Debug)]
pub struct RequestBody {
    source: Option<Rc<RefCell<Source>>>,
    attempt: u32,
    /// How many of the kept pieces this attempt has sent.
    sent: usize,
}

impl Upload {
    pub fn new(body: Incoming) -> Upload {
        if body.is_end_stream() {
            return Upload(None);
        }
        Upload(Some(Rc::new(RefCell::new(Source {
            body,
            pieces: Vec::new(),
            size: 0,
            keeping: Keeping::Everything,
            caller: Caller::There,
            attempt: 0,
        }))))
    }

    /// The body for an attempt. The one before loses it. From its beginning, as long as [`Upload::state`] says that it is whole.
    pub fn attempt(&self) -> RequestBody {
        let attempt = self.0.as_ref().map_or(0, |source| {
            let mut source = source.borrow_mut();
            source.attempt += 1;
            source.attempt
        });
        RequestBody {
            source: self.0.clone(),
            attempt,
            sent: 0,
        }
    }

    /// Whether another attempt could send all of it.
    pub fn state(&self) -> retry::Body {
        match &self.0 {
            None => retry::Body::Whole,
            Some(source) => match source.borrow().keeping {
                Keeping::Everything => retry::Body::Whole,
                Keeping::Nothing => retry::Body::Started,
            },
        }
    }

    /// Whether the caller left before its body was whole.
    pub fn is_broken(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|source| source.borrow().caller == Caller::Gone)
    }

    /// There will be no other attempt, so nothing needs to be kept.
    pub fn forget(&self) {
        if let Some(source) = &self.0 {
            source.borrow_mut().keeping = Keeping::Nothing;
        }
    }
}

impl Source {
    /// Remembers what the caller just sent; says how many pieces are kept.
    fn keep(&mut self, frame: &Frame<Bytes>) -> usize {
        if let Some(data) = frame.data_ref() {
            self.size += data.len();
            if self.keeping == Keeping::Everything {
                self.pieces.push(Piece::Data(data.clone()));
            }
        } else if let (Some(trailers), Keeping::Everything) = (frame.trailers_ref(), self.keeping) {
            self.pieces.push(Piece::Trailers(trailers.clone()));
        }
        if self.size > KEPT {
            self.keeping = Keeping::Nothing;
        }
        // Only here, where all that was kept has been sent.
        if self.keeping == Keeping::Nothing {
            self.pieces = Vec::new();
        }
        self.pieces.len()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(source) = &this.source else {
            return Poll::Ready(None);
        };
        let mut source = source.borrow_mut();
        if source.attempt != this.attempt {
            // A failed attempt's connection that has not noticed yet.
            return Poll::Ready(None);
        }
        if let Some(piece) = source.pieces.get(this.sent) {
            this.sent += 1;
            return Poll::Ready(Some(Ok(match piece.clone() {
                Piece::Data(data) => Frame::data(data),
                Piece::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        let frame = ready!(Pin::new(&mut source.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => this.sent = source.keep(frame),
            Some(Err(_)) => {
                source.caller = Caller::Gone;
                source.keeping = Keeping::Nothing;
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| {
            let source = source.borrow();
            source.pieces.len() <= self.sent && source.body.is_end_stream()
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(source) = &self.source else {
            return SizeHint::with_exact(0);
        };
        let source = source.borrow();
        let kept = source
            .pieces
            .iter()
            .skip(self.sent)
            .map(|piece| match piece {
                Piece::Data(data) => data.len() as u64,
                Piece::Trailers(_) => 0,
            });
        let (kept, rest) = (kept.sum::<u64>(), source.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(kept + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(kept + upper);
        }
        hint
    }
}
