//! An answer on its way to the caller, from its head on.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use aviary_http1::{Body, Persistence};

use super::After;
use super::answer::Answer;
use super::attempt::{Attempt, Fault, Uploading};
use crate::endpoint::http1::Upstream;
use crate::exchange::flight::Flight;
use crate::net::input::Input;
use crate::net::parting::Spoken;
use crate::net::pump::{Broken, Pump};
use crate::net::stream::{ReadHalf, WriteHalf};

/// How an answer ended.
pub(super) enum Ended {
    Whole(After),
    Switched {
        upstream: Upstream,
        input: Input,
        spoken: Spoken,
    },
    Broken(Broken),
    /// The caller did not wait for it.
    Left,
    /// It took longer than it may.
    TimedOut,
    /// Its revision gets nothing any more.
    Withdrawn,
}

impl Attempt<'_, '_> {
    /// Moves the answer on to the caller, and what is left of the request to the endpoint.
    pub(super) async fn relay(&mut self, mut answer: Box<Answer>, flight: &mut Flight) -> Ended {
        let ended = {
            let Answer {
                head,
                upstream,
                input,
                download,
                ..
            } = &mut *answer;
            let (mut read, mut write) = upstream.stream.split();
            poll_fn(|cx| {
                let whole = |body: &Body| match head.status {
                    // Here the answer is what follows.
                    101 => flight.switched(),
                    _ => {
                        flight.trailer(body.trailer("grpc-status"));
                        flight.complete();
                    }
                };
                let relayed = self.poll_relay(cx, (&mut read, &mut write), input, download, whole);
                if relayed.is_pending() {
                    if flight.poll_withdrawn(cx).is_ready() {
                        return Poll::Ready(Relayed::Withdrawn);
                    }
                    let moved = || download.total() + self.upload.total();
                    return flight.poll_over(cx, moved).map(|()| Relayed::TimedOut);
                }
                relayed
            })
            .await
        };
        flight.moved(|| (self.upload.body_bytes(), answer.download.body_bytes()));
        match ended {
            Relayed::Whole => {}
            Relayed::Broken(error) => return Ended::Broken(error),
            Relayed::Left => return Ended::Left,
            Relayed::TimedOut => return Ended::TimedOut,
            Relayed::Withdrawn => return Ended::Withdrawn,
        }
        let Answer {
            head,
            upstream,
            input,
            ..
        } = *answer;
        if head.status == 101 {
            return Ended::Switched {
                upstream,
                input,
                spoken: head.spoken,
            };
        }
        let is_reusable = self.uploading == Uploading::Done
            && head.persistence == Persistence::KeepAlive
            // What comes unasked belongs to nobody.
            && input.is_empty();
        if is_reusable {
            upstream.release(head.idle_timeout, Instant::now());
        }
        let after = match (head.onward, self.is_uploaded()) {
            (Persistence::KeepAlive, true) => After::KeepAlive,
            (Persistence::Close, true) if self.caller.input.is_empty() => After::Close,
            (Persistence::KeepAlive | Persistence::Close, _) => After::Linger,
        };
        Ended::Whole(after)
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        (read, write): (&mut ReadHalf<'_>, &mut WriteHalf<'_>),
        input: &mut Input,
        download: &mut Pump,
        whole: impl FnMut(&Body),
    ) -> Poll<Relayed> {
        match self.poll_upload(cx, write) {
            Ok(()) | Err(Fault::Unwritten(_)) => {}
            Err(Fault::Caller(_)) => return Poll::Ready(Relayed::Left),
        }
        match download.poll(cx, read, input, self.caller.write, whole) {
            Poll::Ready(Ok(())) => return Poll::Ready(Relayed::Whole),
            Poll::Ready(Err(Broken::Sink(_))) => return Poll::Ready(Relayed::Left),
            Poll::Ready(Err(broken)) => return Poll::Ready(Relayed::Broken(broken)),
            Poll::Pending => {}
        }
        self.poll_caller(cx, download.total())
            .map(|()| Relayed::Left)
    }
}

enum Relayed {
    Whole,
    Broken(Broken),
    Left,
    TimedOut,
    Withdrawn,
}
