//! Sends a request to one endpoint after the other, as long as there is no answer that is passed on and another attempt may be made.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use traffic_core::config::Route;
use traffic_core::outcome::{Class, Dialect, End, Said, classify};
use traffic_core::split::Pick;

use super::again::{self, Again};
use super::failed::Failed;
use super::patience::{Deadline, Timer};
use super::{Answered, Attempt, Exchange, Hop};
use crate::endpoint::{Endpoint, InFlight, SendError};
use crate::metrics::Limit;
use crate::state::State;
use crate::state::destination::LocalRoute;

impl Exchange {
    pub(super) async fn split<A: Attempt>(
        &mut self,
        state: &State,
        attempt: &mut A,
        (route, pick, again): (&LocalRoute, Pick, Option<Again<'_>>),
        mut own: Option<Rc<Endpoint>>,
    ) -> Result<(Answered<A::Answer>, InFlight), Failed> {
        let (mut arm, mut tried) = (route.arm(pick), None);
        let mut now = match self.delay {
            None => self.arrived,
            // No endpoint has made it wait.
            Some(_) => Instant::now(),
        };
        let (mut retries, mut revision) = (0, route.revision(pick));
        let Route { name, bounds, .. } = &*route.ready.route;
        loop {
            let place = match bounds.requests {
                None => Ok(None),
                Some(most) => arm.metrics.place(most).map(Some).ok_or(most),
            };
            let next = match own.take() {
                Some(endpoint) => Some((endpoint, Hop::AsItIs)),
                None => {
                    let picked = state.pick(&arm.endpoints, tried, now);
                    picked.map(|endpoint| (endpoint, Hop::Endpoint))
                }
            };
            let ended = match (place, next) {
                (Ok(place), Some((endpoint, hop))) => {
                    tried = Some(endpoint.address());
                    self.tally.goes_to(endpoint.address(), revision);
                    let in_flight = InFlight::at(&endpoint, now, place);
                    let deadline = match &again {
                        None => self.deadline,
                        Some(again) => again.deadline(self.deadline, now),
                    };
                    let to = (&endpoint, hop);
                    *attempt.long() = arm.long_stream();
                    let bound = (deadline.as_ref(), &mut self.timer);
                    match try_once(attempt, to, &in_flight, bound).await {
                        Ok(answered) => {
                            if answered.status >= 500 {
                                self.tally.traced(|| attempt.trace());
                            }
                            let failure = again.as_ref().and_then(|again| {
                                let code = A::grpc_status(&answered.answer);
                                again.failure(answered.status, code)
                            });
                            let goes = |failure| {
                                let what = (failure, attempt.body());
                                again::goes(again.as_ref(), &arm.metrics, retries, what)
                            };
                            if !failure.is_some_and(goes) {
                                return Ok((answered, in_flight));
                            }
                            Ok(self.discarded(attempt, answered, &in_flight))
                        }
                        Err(failed) => Err(failed),
                    }
                }
                (Ok(_), None) => Err(Failed::no_endpoint(name, revision)),
                (Err(most), _) => {
                    state.metrics().refused(Limit::Overflow);
                    Err(Failed::overflow(name, revision, most))
                }
            };
            let class = match ended {
                Ok(class) => class,
                Err(failed) => {
                    self.tally.traced(|| attempt.trace());
                    let what = (failed.why, attempt.body());
                    if !again::goes(again.as_ref(), &arm.metrics, retries, what) {
                        return Err(failed);
                    }
                    tracing::debug!(route = name, reason = failed.reason, "sent again to stable");
                    failed.class
                }
            };
            self.tally.retry(&route.stable.metrics, class);
            (arm, retries) = (&route.stable, retries + 1);
            (revision, now) = (route.revision(Pick::Stable), Instant::now());
        }
    }

    /// An answer that is not passed on says of its endpoint and its revision what it would have said. Gives its class.
    fn discarded<A: Attempt>(
        &mut self,
        attempt: &mut A,
        Answered { status, answer }: Answered<A::Answer>,
        in_flight: &InFlight,
    ) -> Class {
        let now = Instant::now();
        let grpc_status = A::grpc_status(&answer);
        let class = classify(End::Complete {
            status,
            dialect: grpc_status.map_or(Dialect::Http, |_| Dialect::Grpc),
            grpc_status,
        });
        if class == Class::Failure {
            in_flight.failed(now);
        } else {
            in_flight.answered(now);
        }
        self.tally.answered(now);
        self.tally.said(match grpc_status {
            Some(code) => Said::Grpc(code),
            None => Said::Status(status),
        });
        if grpc_status.is_some() {
            self.tally.traced(|| attempt.trace());
        }
        attempt.discard(answer);
        class
    }
}

pub(super) async fn try_once<A: Attempt>(
    attempt: &mut A,
    (endpoint, hop): (&Rc<Endpoint>, Hop),
    in_flight: &InFlight,
    (deadline, timer): (Option<&Deadline>, &mut Timer),
) -> Result<Answered<A::Answer>, Failed> {
    let mut sending = pin!(attempt.send(endpoint, hop));
    let sent = poll_fn(|cx| match (sending.as_mut().poll(cx), deadline) {
        (Poll::Ready(sent), _) => Poll::Ready(sent),
        (Poll::Pending, Some(deadline)) => timer.poll(cx, *deadline).map(Err),
        (Poll::Pending, None) => Poll::Pending,
    });
    let sent = match (sent.await, deadline) {
        (Err(error), Some(deadline)) => deadline.judge(Err(error)),
        (sent, _) => sent,
    };
    match sent {
        Ok(answered) => Ok(answered),
        Err(error) => {
            match error {
                SendError::Caller(_) | SendError::Withdrawn => {}
                SendError::Unsent(_) | SendError::Unknown(_) | SendError::TimedOut(_) => {
                    in_flight.failed(Instant::now());
                }
            }
            Err(Failed::from(error))
        }
    }
}
