//! One attempt to send a request: its head and body go to an endpoint while the head of its answer is waited for.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use traffic_core::outcome::{Dialect, Trace};
use traffic_core::retry;

use super::pump::{Broken, Pump};
use crate::endpoint::http2::Lease;
use crate::endpoint::{CallerFault, Cause, Endpoint, Lost, SendError};
use crate::exchange::flight::code;
use crate::exchange::{self, Answered, Hop};
use crate::state::withdrawal::LongStream;

/// Connections that turn out to be closing. Another one is worth a try, endlessly many are not.
const CLOSING: usize = 3;

pub(super) struct Attempt {
    pub(super) head: Head,
    /// This proxy's, for attempts that go to an endpoint of a route, if the head has it not.
    pub(super) mark: Option<HeaderValue>,
    pub(super) body: RecvStream,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) upload: Pump,
    pub(super) dialect: Dialect,
    pub(super) long: Option<LongStream>,
}

/// The request's head, as long as it may be needed.
pub(super) enum Head {
    Kept(Parts),
    Once(Option<Parts>),
}

/// In a box, since it goes from hand to hand.
pub(super) struct Answer {
    pub(super) response: Response<RecvStream>,
    pub(super) sender: SendStream<Bytes>,
    /// Held to the end of the stream.
    pub(super) lease: Lease,
}

enum Event {
    Answered(Response<RecvStream>),
    Failed(h2::Error),
    /// The caller gave up, with this code.
    Caller(Reason),
    Withdrawn,
}

impl Head {
    fn take(&mut self) -> Option<Parts> {
        match self {
            Head::Kept(head) => Some(head.clone()),
            Head::Once(head) => head.take(),
        }
    }

    /// Which request it is. Of one that goes to one endpoint only nobody asks.
    pub(super) fn trace(&self) -> Option<Trace> {
        match self {
            Head::Kept(head) => super::head::trace(head),
            Head::Once(_) => None,
        }
    }
}

impl Attempt {
    async fn on(&mut self, lease: Lease, head: Parts) -> Result<Box<Answer>, SendError> {
        self.upload.rewind();
        let request = Request::from_parts(head, ());
        let sent = lease.sender().send_request(request, self.upload.is_empty());
        let (mut response, mut sender) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                lease.close();
                return Err(Cause::Closed(error.to_string()).into());
            }
        };
        let event = poll_fn(|cx| self.poll_answer(cx, &mut response, &mut sender)).await;
        match event {
            Event::Answered(response) => Ok(Box::new(Answer {
                response,
                sender,
                lease,
            })),
            Event::Failed(error) => Err(judge(&error)),
            Event::Caller(reason) => {
                sender.send_reset(reason);
                Err(CallerFault::Left.into())
            }
            Event::Withdrawn => {
                sender.send_reset(Reason::CANCEL);
                Err(SendError::Withdrawn)
            }
        }
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut ResponseFuture,
        sender: &mut SendStream<Bytes>,
    ) -> Poll<Event> {
        // If the endpoint takes no more, its answer says why.
        if let Err(reason) = self.poll_upload(cx, sender) {
            return Poll::Ready(Event::Caller(reason));
        }
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            // It fails only on a stream that is gone, which the look below sees.
            let _ = self.respond.send_informational(interim);
        }
        match Pin::new(response).poll(cx) {
            Poll::Ready(Ok(response)) => return Poll::Ready(Event::Answered(response)),
            Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
            Poll::Pending => {}
        }
        if let Poll::Ready(reset) = self.respond.poll_reset(cx) {
            return Poll::Ready(Event::Caller(reset.unwrap_or(Reason::CANCEL)));
        }
        match &mut self.long {
            // A stream that its server has not answered yet. One whose caller has said all may be a call that is about to be answered.
            Some(long) if self.dialect == Dialect::Grpc && self.upload.is_going() => {
                Pin::new(long).poll(cx).map(|()| Event::Withdrawn)
            }
            Some(_) | None => Poll::Pending,
        }
    }

    /// Moves the request's body on. An error is the caller's: it broke off with this code.
    pub(super) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        sender: &mut SendStream<Bytes>,
    ) -> Result<(), Reason> {
        match self.upload.poll(cx, &mut self.body, sender, |_| {}) {
            Poll::Ready(Err(Broken::Source(reason))) => Err(reason.unwrap_or(Reason::CANCEL)),
            Poll::Ready(Ok(()) | Err(Broken::Sink(_))) | Poll::Pending => Ok(()),
        }
    }
}

impl exchange::Attempt for Attempt {
    type Answer = Box<Answer>;

    async fn send(
        &mut self,
        endpoint: &Rc<Endpoint>,
        hop: Hop,
    ) -> Result<Answered<Box<Answer>>, SendError> {
        let mut closing = 0;
        loop {
            let lease = endpoint.http2.acquire().await.map_err(Cause::Connect)?;
            let mut sender = lease.sender();
            if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
                lease.close();
                closing += 1;
                if closing == CLOSING {
                    return Err(Cause::Closed(error.to_string()).into());
                }
                continue;
            }
            let Some(mut head) = self.head.take() else {
                return Err(Cause::Closed("the request went out already".to_owned()).into());
            };
            if let (Hop::Endpoint, Some(mark)) = (hop, &self.mark) {
                super::head::mark(&mut head.headers, mark);
            }
            let answer = self.on(lease, head).await?;
            return Ok(Answered {
                status: answer.response.status().as_u16(),
                answer,
            });
        }
    }

    fn trace(&self) -> Option<Trace> {
        self.head.trace()
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.respond.poll_reset(cx).map(|_| ())
    }

    fn long(&mut self) -> &mut Option<LongStream> {
        &mut self.long
    }

    fn grpc_status(answer: &Box<Answer>) -> Option<u16> {
        let headers = answer.response.headers();
        match super::head::dialect_of(headers) {
            // What a sidecar turns away it turns away for all.
            Dialect::Grpc if super::head::is_marked_unsent(headers) => None,
            Dialect::Grpc => code(super::head::grpc_status(headers)?),
            Dialect::Http => None,
        }
    }

    /// Both halves of its stream are dropped, which resets it if it is not over.
    fn discard(&mut self, answer: Box<Answer>) {
        drop(answer);
    }

    fn settle(&mut self) {
        self.upload.forget();
    }

    fn body(&self) -> retry::Body {
        if self.upload.is_whole() {
            retry::Body::Whole
        } else {
            retry::Body::Started
        }
    }
}

/// REFUSED_STREAM, and a stream above the last one of an orderly GOAWAY, were never processed (RFC 9113, 8.7).
fn judge(error: &h2::Error) -> SendError {
    let is_refused = error.is_remote()
        && ((error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM))
            || (error.is_go_away() && error.reason() == Some(Reason::NO_ERROR)));
    match error.reason() {
        _ if is_refused => Cause::Refused.into(),
        Some(reason) if error.is_reset() => Lost::Reset {
            code: reason.into(),
            reason: error.to_string(),
        }
        .into(),
        Some(_) | None => Lost::Closed(error.to_string()).into(),
    }
}
