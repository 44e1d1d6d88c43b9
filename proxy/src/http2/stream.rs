//! One stream of a caller's, from its head to the end of its answer. Resets pass with their codes, both ways.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Method, Request, Response};
use tokio::task::yield_now;
use traffic_core::authorize;
use traffic_core::outcome::Dialect;

use super::attempt::{Answer, Attempt, Head};
use super::head;
use super::pump::{Broken, Pump};
use crate::drain::Outbox;
use crate::exchange::flight::{Flight, Manner};
use crate::exchange::{Arrived, Delivery, Facts, Marking, Policy, Refusal};
use crate::metrics::Limit;
use crate::state::State;
use crate::telemetry::Flag;

pub(super) async fn serve(
    state: Rc<State>,
    policy: Rc<Policy>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    outbox: Rc<Outbox>,
) {
    let _filled = outbox.filled_at_the_end();
    let mut arrived = Arrived::now(&state);
    let (mut head, body) = request.into_parts();
    let dialect = head::dialect_of(&head.headers);
    if head.method == Method::CONNECT {
        let refusal = Refusal::of(501, "CONNECT over HTTP/2 is not supported");
        return answer(&mut respond, &refusal, dialect, None);
    }
    if !head::is_for_one(&head) {
        let refusal = Refusal::of(400, "Host or :authority is not whom the request is for");
        return answer(&mut respond, &refusal, dialect, None);
    }
    // Bytes are h2's to count.
    if head.headers.len() > state.common.limits.request(policy.side()).fields {
        state.metrics().refused(Limit::Head);
        let refusal = Refusal::of(431, "the head has more fields than the proxy takes");
        return answer(&mut respond, &refusal, dialect, None);
    }
    let theirs = head::take_mark(&mut head.headers);
    let facts = Facts {
        authority: head::authority(&head),
        mark: match &*policy {
            Policy::Inbound { .. } => theirs.as_ref().map(HeaderValue::as_bytes),
            Policy::Outbound { .. } => None,
        },
        waits: match dialect {
            Dialect::Grpc => head::grpc_timeout(&head.headers),
            Dialect::Http => None,
        },
        dialect,
        request: authorize::Request {
            method: head.method.as_str(),
            path: head.uri.path_and_query().map_or("", PathAndQuery::as_str),
            upgrade: false,
        },
        protocol: "HTTP/2",
    };
    let exchange = loop {
        match policy.begin(&state, arrived, facts, &head::Fields(&head.headers)) {
            Ok(exchange) => break exchange,
            // In a box: hardly any request waits.
            Err(hold) => arrived = Box::pin(hold.over(&state)).await,
        }
    };
    head::prepare(&mut head, policy.address());
    let is_empty = body.is_end_stream();
    let token = &state.common.token;
    let (head, mark, upload) = match exchange.marking() {
        Marking::Always => {
            head::mark(&mut head.headers, &state.mark);
            (Head::Kept(head), None, Pump::keeping(is_empty))
        }
        Marking::LaterOn => {
            let mark = Some(state.mark.clone());
            (Head::Kept(head), mark, Pump::keeping(is_empty))
        }
        Marking::Never => (Head::Once(Some(head)), None, Pump::once(is_empty)),
    };
    let mut attempt = Attempt {
        head,
        mark,
        body,
        respond,
        upload,
        dialect,
        long: None,
    };
    match exchange.run(&state, &mut attempt).await {
        Ok((answer, flight)) => relay(&mut attempt, answer, flight, token).await,
        Err(refusal) => answer(&mut attempt.respond, &refusal, dialect, theirs),
    }
}

/// Answers with a refusal of the proxy's own, or with a reset where that says more.
/// `mark`: what a calling sidecar wrote, and wants to read again if the application never saw the request.
fn answer(
    respond: &mut SendResponse<Bytes>,
    refusal: &Refusal,
    dialect: Dialect,
    mark: Option<HeaderValue>,
) {
    if let Some(code) = refusal.reset {
        return respond.send_reset(Reason::from(code));
    }
    let mark = mark.filter(|_| refusal.delivery == Delivery::Unsent);
    let response = head::refuse(refusal, dialect, mark);
    // Sending fails only on a stream that the caller has ended, and then nobody waits for it.
    match dialect {
        Dialect::Grpc => drop(respond.send_response(response, true)),
        Dialect::Http => {
            if let Ok(mut sender) = respond.send_response(response, false) {
                let text = format!("aviary-proxy: {}\n", refusal.reason);
                let _ = sender.send_data(Bytes::from(text), true);
            }
        }
    }
}

/// `token` is this proxy's.
async fn relay(attempt: &mut Attempt, answer: Box<Answer>, mut flight: Flight, token: &str) {
    let Answer {
        response,
        mut sender,
        lease,
    } = *answer;
    let (mut head, mut body) = response.into_parts();
    flight.head(
        head::content_type(&head.headers),
        head::grpc_status(&head.headers),
    );
    if flight.says_too_many() && head::is_unsent(&head.headers, token) {
        flight.turned_away();
    }
    head::finish(&mut head.headers);
    let is_empty = body.is_end_stream();
    let response = Response::from_parts(head, ());
    let Ok(mut to_caller) = attempt.respond.send_response(response, is_empty) else {
        return;
    };
    if is_empty {
        flight.moved(|| (attempt.upload.moved(), 0));
        return complete(attempt, flight);
    }
    let mut download = Pump::once(false);
    let ended = poll_fn(|cx| {
        if let Err(reason) = attempt.poll_upload(cx, &mut sender) {
            return Poll::Ready(Ended::Left(reason));
        }
        let polled = poll_download(cx, &mut download, &mut body, &mut to_caller, &mut flight);
        if polled.is_pending() {
            if flight.poll_withdrawn(cx).is_ready() {
                return Poll::Ready(Ended::Withdrawn);
            }
            let moved = || download.moved() + attempt.upload.moved();
            return flight.poll_over(cx, moved).map(|()| Ended::TimedOut);
        }
        polled
    })
    .await;
    flight.moved(|| (attempt.upload.moved(), download.moved()));
    match ended {
        Ended::Whole => complete(attempt, flight),
        Ended::Broken(reason) => {
            // h2 forgets what is queued on a stream that is reset. The connection's turn comes first, and it leaves.
            yield_now().await;
            to_caller.send_reset(reason);
            flight.traced(|| attempt.head.trace());
            flight.broken(Flag::Reset);
        }
        Ended::Left(reason) => {
            sender.send_reset(reason);
            flight.left();
        }
        Ended::Withdrawn => {
            sender.send_reset(Reason::CANCEL);
            // They fail only on a stream that the caller has ended.
            match flight.manner() {
                Manner::Grpc => drop(to_caller.send_trailers(head::withdrawn())),
                Manner::Events | Manner::Whole => drop(to_caller.send_data(Bytes::new(), true)),
            }
            flight.withdrawn();
        }
        Ended::TimedOut => {
            sender.send_reset(Reason::CANCEL);
            match flight.dialect() {
                // It fails only on a stream that the caller has ended.
                Dialect::Grpc => drop(to_caller.send_trailers(head::too_late())),
                Dialect::Http => {
                    yield_now().await;
                    to_caller.send_reset(Reason::CANCEL);
                }
            }
            flight.traced(|| attempt.head.trace());
            flight.broken(Flag::TimedOut);
        }
    }
    drop(lease);
}

/// The end of a gRPC call says whether it failed; its head is still here.
fn complete(attempt: &Attempt, mut flight: Flight) {
    if flight.fails() {
        flight.traced(|| attempt.head.trace());
    }
    flight.complete();
}

enum Ended {
    Whole,
    Broken(Reason),
    /// The caller gave up, with this code.
    Left(Reason),
    /// It took longer than it may.
    TimedOut,
    /// Its revision gets nothing any more.
    Withdrawn,
}

fn poll_download(
    cx: &mut Context<'_>,
    download: &mut Pump,
    body: &mut RecvStream,
    to_caller: &mut SendStream<Bytes>,
    flight: &mut Flight,
) -> Poll<Ended> {
    let polled = download.poll(cx, body, to_caller, |trailers| {
        flight.trailer(head::grpc_status(trailers));
    });
    match polled {
        Poll::Ready(Ok(())) => Poll::Ready(Ended::Whole),
        Poll::Ready(Err(Broken::Source(reason))) => Poll::Ready(Ended::Broken(
            reason
                .filter(|reason| *reason != Reason::NO_ERROR)
                .unwrap_or(Reason::INTERNAL_ERROR),
        )),
        Poll::Ready(Err(Broken::Sink(reason))) => {
            Poll::Ready(Ended::Left(reason.unwrap_or(Reason::CANCEL)))
        }
        Poll::Pending => to_caller
            .poll_reset(cx)
            .map(|reset| Ended::Left(reset.unwrap_or(Reason::CANCEL))),
    }
}
