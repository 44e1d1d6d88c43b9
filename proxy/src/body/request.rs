//! A request's body on its way to an endpoint. It remembers the first 64 KiB (by reference, not by copy), so that a small request that was
//! provably never processed can be sent again, and whether it was the caller who broke it off.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// More than this is not kept for another attempt.
const KEPT: usize = 64 * 1024;

/// What is known of a body that was handed to a connection.
#[derive(Clone, Debug, Default)]
pub struct Upload(Option<Rc<RefCell<Record>>>);

#[derive(Debug, Default)]
struct Record {
    pieces: Vec<Piece>,
    size: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// More may come; all of it so far is kept.
    #[default]
    Open,
    /// All of it came and is kept.
    Whole,
    /// It outgrew what is kept.
    TooLong,
    /// The caller broke it off.
    Broken,
}

#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Upload {
    /// The same body once more, if all of it is in hand.
    pub fn again(&self) -> Option<RequestBody> {
        let Some(record) = &self.0 else {
            return Some(RequestBody::empty());
        };
        let record = record.borrow();
        match record.state {
            State::Whole => Some(RequestBody(Source::Kept(
                record.pieces.iter().cloned().collect(),
            ))),
            State::Open | State::TooLong | State::Broken => None,
        }
    }

    /// Whether the caller left before its body was whole.
    pub fn is_broken(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|record| record.borrow().state == State::Broken)
    }

    /// The answer is coming: there will be no other attempt, so nothing needs to be kept.
    pub fn forget(&self) {
        if let Some(record) = &self.0 {
            record.borrow_mut().give_up();
        }
    }
}

impl Record {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if self.state != State::Open {
            return;
        }
        if let Some(data) = frame.data_ref() {
            self.size += data.len();
            self.pieces.push(Piece::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.pieces.push(Piece::Trailers(trailers.clone()));
        }
        if self.size > KEPT {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.pieces = Vec::new();
        if self.state != State::Broken {
            self.state = State::TooLong;
        }
    }

    fn end(&mut self) {
        if self.state == State::Open {
            self.state = State::Whole;
        }
    }
}

#[derive(Debug)]
pub struct RequestBody(Source);

#[derive(Debug)]
enum Source {
    Caller {
        body: Incoming,
        record: Rc<RefCell<Record>>,
    },
    Kept(VecDeque<Piece>),
}

impl RequestBody {
    pub fn empty() -> RequestBody {
        RequestBody(Source::Kept(VecDeque::new()))
    }

    pub fn from_caller(body: Incoming) -> (RequestBody, Upload) {
        if body.is_end_stream() {
            return (RequestBody::empty(), Upload(None));
        }
        let record = Rc::new(RefCell::new(Record::default()));
        (
            RequestBody(Source::Caller {
                body,
                record: record.clone(),
            }),
            Upload(Some(record)),
        )
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Source::Caller { body, record } => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                let mut record = record.borrow_mut();
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        record.keep(frame);
                        if body.is_end_stream() {
                            record.end();
                        }
                    }
                    Poll::Ready(None) => record.end(),
                    Poll::Ready(Some(Err(_))) => {
                        record.pieces = Vec::new();
                        record.state = State::Broken;
                    }
                    Poll::Pending => {}
                }
                polled
            }
            Source::Kept(pieces) => Poll::Ready(pieces.pop_front().map(|piece| {
                Ok(match piece {
                    Piece::Data(data) => Frame::data(data),
                    Piece::Trailers(trailers) => Frame::trailers(trailers),
                })
            })),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Caller { body, .. } => body.is_end_stream(),
            Source::Kept(pieces) => pieces.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Caller { body, .. } => body.size_hint(),
            Source::Kept(pieces) => {
                let exact = pieces.iter().map(|piece| match piece {
                    Piece::Data(data) => data.len() as u64,
                    Piece::Trailers(_) => 0,
                });
                SizeHint::with_exact(exact.sum())
            }
        }
    }
}
