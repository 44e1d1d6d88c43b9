//! One attempt to send a request: its head and body go to an endpoint while its answer is waited for, and the caller is watched.
//!
//! A caller that closes its sending half may have left, or only said that it has nothing more to ask: TCP does not tell. So it is answered if
//! the answer comes, or goes on, within [`HALF_CLOSED`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use aviary_http1::{Body, Framing, HeadEnd, Malformed, Persistence};
use tokio::io::AsyncWriteExt;
use tokio::time::{Sleep, sleep};
use traffic_core::outcome::Trace;
use traffic_core::retry;

use super::answer::{Answer, Head};
use super::request::Asked;
use super::trace;
use crate::endpoint::http1::{Origin, Upstream, Wanted};
use crate::endpoint::{CallerFault, Cause, Endpoint, Lost, SendError};
use crate::exchange::flight::code;
use crate::exchange::{self, Answered, Hop};
use crate::net::buffers::SMALL;
use crate::net::input::Input;
use crate::net::pump::{Broken, Pump};
use crate::net::stream::{ReadHalf, WriteHalf};
use crate::state::State;
use crate::state::withdrawal::LongStream;

const HALF_CLOSED: Duration = Duration::from_secs(5);

/// The caller's side of a connection.
pub(super) struct Side<'c, 's> {
    pub(super) read: &'c mut ReadHalf<'s>,
    pub(super) write: &'c mut WriteHalf<'s>,
    pub(super) input: &'c mut Input,
}

pub(super) struct Attempt<'c, 's> {
    pub(super) state: &'c State,
    pub(super) asked: &'c Asked,
    pub(super) caller: Side<'c, 's>,
    pub(super) upload: Pump,
    pub(super) uploading: Uploading,
    watched: Watched,
    /// Whether the endpoint has told the caller to go on.
    continued: bool,
    /// The head with this proxy's mark, for the first attempt that needs it.
    marked: Option<Vec<u8>>,
    /// Kept for what the answer may become.
    long: Option<LongStream>,
}

/// How far the request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uploading {
    Going,
    Done,
    /// The endpoint takes no more of it.
    Stopped,
}

/// What is known of the caller once its request is here.
enum Watched {
    There,
    /// It sends no more. With what had gone to it when it was looked at last.
    HalfClosed(Pin<Box<Sleep>>, u64),
    Left,
}

/// What an attempt waits for.
enum Event {
    /// A head of this length.
    Head(usize),
    Malformed(Malformed),
    /// The endpoint's connection ended.
    Ended(Option<io::Error>),
    /// Nothing of the request could be written.
    Unwritten(io::Error),
    Caller(CallerFault),
}

impl<'c, 's> Attempt<'c, 's> {
    /// `head` is the request's, as it goes to the endpoint; attempts that go to an endpoint of a route have the `marked` one instead, if there is one.
    pub(super) fn new(
        state: &'c State,
        asked: &'c Asked,
        (head, marked): (Vec<u8>, Option<Vec<u8>>),
        caller: Side<'c, 's>,
    ) -> Attempt<'c, 's> {
        let body = Body::of_request(asked.framing);
        Attempt {
            state,
            asked,
            caller,
            upload: Pump::new(body, head, state.buffers.clone()).keeping(),
            uploading: Uploading::Going,
            watched: Watched::There,
            continued: false,
            marked,
            long: None,
        }
    }

    /// It goes to one endpoint only: nothing of its body has to be kept.
    pub(super) fn once(&mut self) {
        if self.asked.framing != Framing::Empty {
            self.upload.forget();
        }
    }

    pub(super) fn is_uploaded(&self) -> bool {
        self.uploading == Uploading::Done || self.upload.body().is_done()
    }

    /// Whether there may be more of it than the endpoint's kernel has room for.
    fn is_large(&self) -> bool {
        match self.asked.framing {
            Framing::Empty => false,
            Framing::Length(length) => length > SMALL as u64,
            Framing::Chunked | Framing::Close => true,
        }
    }

    pub(super) fn is_caller_there(&self) -> bool {
        !matches!(self.watched, Watched::Left)
    }

    pub(super) fn is_half_closed(&self) -> bool {
        matches!(self.watched, Watched::HalfClosed(..))
    }

    /// Whether the caller may never send the body that it has announced.
    pub(super) fn may_withhold_body(&self) -> bool {
        self.asked.expects_continue && !self.continued && !self.is_uploaded()
    }

    async fn on(&mut self, mut upstream: Upstream) -> Result<Box<Answer>, Undelivered> {
        self.upload.rewind();
        self.uploading = Uploading::Going;
        if self.is_large() {
            upstream.bear_silence();
        }
        let mut input = Input::new(self.state.buffers.clone());
        loop {
            let mut scan = HeadEnd::default();
            let (mut read, mut write) = upstream.stream.split();
            let event =
                poll_fn(|cx| self.poll_answer(cx, (&mut read, &mut write), &mut input, &mut scan))
                    .await;
            let length = match event {
                Event::Head(length) => length,
                Event::Malformed(malformed) => return Err(Lost::Malformed(malformed).into()),
                Event::Caller(fault) => return Err(SendError::Caller(fault).into()),
                Event::Unwritten(error) => return Err(Undelivered::Unwritten(error)),
                Event::Ended(error) => {
                    let is_silent = input.is_empty();
                    let reason =
                        error.map_or_else(|| "end of connection".to_owned(), |e| e.to_string());
                    return Err(match (upstream.origin, is_silent) {
                        (Origin::Reused, true) => Undelivered::Idle(reason),
                        _ => Lost::Closed(reason).into(),
                    });
                }
            };
            let mut out = self.state.buffers.small();
            let read = Head::read(
                &input.bytes()[..length],
                self.asked,
                self.persistence(),
                &self.state.common.token,
                &mut out,
            );
            let head = read.map_err(Lost::Malformed)?;
            if head.is_interim() {
                input.consume(length);
                self.continued = true;
                let written = self.caller.write.write_all(&out).await;
                self.state.buffers.give(out);
                if written.is_err() {
                    self.watched = Watched::Left;
                    return Err(SendError::Caller(CallerFault::Left).into());
                }
                continue;
            }
            if head.is_unsent {
                head.recycle(length, upstream, input);
                return Err(SendError::Unsent(Cause::Marked).into());
            }
            input.consume(length);
            return Ok(Answer::new(head, out, upstream, input, &self.state.buffers));
        }
    }

    /// Sends what there is to send, reads what there is to read, and looks at the caller.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        (read, write): (&mut ReadHalf<'_>, &mut WriteHalf<'_>),
        input: &mut Input,
        scan: &mut HeadEnd,
    ) -> Poll<Event> {
        if let Err(fault) = self.poll_upload(cx, write) {
            match fault {
                Fault::Caller(fault) => return Poll::Ready(Event::Caller(fault)),
                Fault::Unwritten(error) => return Poll::Ready(Event::Unwritten(error)),
            }
        }
        loop {
            if !input.is_empty() {
                match scan.find(input.bytes(), &self.asked.answer) {
                    Ok(Some(length)) => return Poll::Ready(Event::Head(length)),
                    Ok(None) => {}
                    Err(malformed) => return Poll::Ready(Event::Malformed(malformed)),
                }
            }
            match input.poll_fill(read, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Event::Ended(None)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Ended(Some(error))),
                Poll::Pending => break,
            }
        }
        match self.poll_caller(cx, 0) {
            Poll::Ready(()) => Poll::Ready(Event::Caller(CallerFault::Left)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Moves the request on.
    pub(super) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut WriteHalf<'_>,
    ) -> Result<(), Fault> {
        if self.uploading != Uploading::Going {
            return Ok(());
        }
        let polled = self
            .upload
            .poll(cx, self.caller.read, self.caller.input, to, |_| {});
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.uploading = Uploading::Done,
            Poll::Ready(Err(Broken::Sink(error))) => {
                self.uploading = Uploading::Stopped;
                if self.upload.total() == 0 {
                    return Err(Fault::Unwritten(error));
                }
            }
            Poll::Ready(Err(Broken::Malformed(malformed))) => {
                self.uploading = Uploading::Stopped;
                return Err(Fault::Caller(CallerFault::Malformed(malformed)));
            }
            Poll::Ready(Err(Broken::Source(_) | Broken::Ended)) => {
                self.watched = Watched::Left;
                return Err(Fault::Caller(CallerFault::Left));
            }
        }
        Ok(())
    }

    /// Ready when the caller has left. `sent` bytes of the answer have gone to it.
    pub(super) fn poll_caller(&mut self, cx: &mut Context<'_>, sent: u64) -> Poll<()> {
        match (&self.watched, self.uploading) {
            // As long as there is something to upload, that is what looks at the caller.
            (Watched::There, Uploading::Going) => Poll::Pending,
            _ => self.poll_watched(cx, sent),
        }
    }

    fn poll_watched(&mut self, cx: &mut Context<'_>, sent: u64) -> Poll<()> {
        loop {
            match &mut self.watched {
                Watched::Left => return Poll::Ready(()),
                Watched::HalfClosed(patience, before) => {
                    if patience.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.watched = if sent > *before {
                        Watched::HalfClosed(Box::pin(sleep(HALF_CLOSED)), sent)
                    } else {
                        Watched::Left
                    };
                }
                // What it sends while it waits is its next request, or its body's rest.
                Watched::There => {
                    if !self.caller.input.has_room() {
                        return Poll::Pending;
                    }
                    match self.caller.input.poll_fill(self.caller.read, cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(0)) => {
                            let patience = Box::pin(sleep(HALF_CLOSED));
                            self.watched = Watched::HalfClosed(patience, sent);
                        }
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(_)) => self.watched = Watched::Left,
                    }
                }
            }
        }
    }

    /// What becomes of the caller's connection after an answer that can keep it.
    fn persistence(&self) -> Persistence {
        let keeps = self.asked.persistence == Persistence::KeepAlive
            && !self.may_withhold_body()
            && !self.is_half_closed()
            && self.state.common.phases.now() == crate::drain::Phase::Serving;
        if keeps {
            Persistence::KeepAlive
        } else {
            Persistence::Close
        }
    }
}

/// Why the request did not go on.
pub(super) enum Fault {
    Caller(CallerFault),
    Unwritten(io::Error),
}

/// An attempt on one connection that came to nothing.
enum Undelivered {
    /// Nothing was written.
    Unwritten(io::Error),
    /// The endpoint closed an idle connection at the same moment, most likely.
    Idle(String),
    Failed(SendError),
}

impl<E: Into<SendError>> From<E> for Undelivered {
    fn from(error: E) -> Undelivered {
        Undelivered::Failed(error.into())
    }
}

impl exchange::Attempt for Attempt<'_, '_> {
    type Answer = Box<Answer>;

    async fn send(
        &mut self,
        endpoint: &Rc<Endpoint>,
        hop: Hop,
    ) -> Result<Answered<Box<Answer>>, SendError> {
        if hop == Hop::Endpoint
            && let Some(head) = self.marked.take()
        {
            self.upload.replace_head(head);
        }
        let mut wanted = if self.asked.is_repeatable {
            Wanted::Any
        } else {
            Wanted::Sure
        };
        loop {
            let acquired = endpoint.http1.acquire(wanted).await;
            let upstream = acquired.map_err(|error| Cause::Connect(Rc::new(error)))?;
            let origin = upstream.origin;
            let error = match self.on(upstream).await {
                Ok(answer) => {
                    return Ok(Answered {
                        status: answer.head.status,
                        answer,
                    });
                }
                Err(Undelivered::Failed(error)) => return Err(error),
                Err(Undelivered::Unwritten(error)) if origin == Origin::Fresh => {
                    return Err(Cause::Closed(error.to_string()).into());
                }
                Err(Undelivered::Unwritten(error)) => error.to_string(),
                Err(Undelivered::Idle(reason)) if !self.asked.is_repeatable => {
                    return Err(Lost::Closed(reason).into());
                }
                Err(Undelivered::Idle(reason)) => reason,
            };
            tracing::debug!(error, "an idle connection was closed; trying a fresh one");
            wanted = Wanted::Fresh;
        }
    }

    fn trace(&self) -> Option<Trace> {
        self.upload.kept().and_then(trace::of)
    }

    fn grpc_status(answer: &Box<Answer>) -> Option<u16> {
        code(answer.grpc_status.as_deref()?)
    }

    fn discard(&mut self, answer: Box<Answer>) {
        if self.uploading == Uploading::Done {
            answer.recycle();
        }
    }

    fn settle(&mut self) {
        self.upload.forget();
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_watched(cx, 0)
    }

    fn long(&mut self) -> &mut Option<LongStream> {
        &mut self.long
    }

    fn body(&self) -> retry::Body {
        if self.upload.is_kept() {
            retry::Body::Whole
        } else {
            retry::Body::Started
        }
    }
}
