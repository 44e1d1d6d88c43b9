//! What is made of a request once it is known what came of its attempts: an answer on its way, or what the caller is told instead.

use std::time::Instant;

use traffic_core::outcome::{Class, Said};
use traffic_core::retry::Failure;

use super::failed::Failed;
use super::flight::Flight;
use super::patience::Patience;
use super::{Answered, Delivery, Exchange, REFUSED_STREAM, Refusal, Target};
use crate::endpoint::InFlight;
use crate::state::State;
use crate::state::withdrawal::LongStream;

impl Exchange {
    pub(super) fn answered<A>(
        mut self,
        state: &State,
        answered: Answered<A>,
        in_flight: InFlight,
        long: Option<LongStream>,
    ) -> (A, Flight) {
        let now = Instant::now();
        if answered.status >= 500 {
            in_flight.failed(now);
        } else {
            in_flight.answered(now);
        }
        let app = match &self.target {
            Target::App(app) => Some(app),
            Target::Split { own, .. } => own.as_ref().filter(|_| self.tally.is_held()),
            Target::Passing(_) | Target::Refused(_) => None,
        };
        if let Some(app) = app {
            let mut known = app.metrics.borrow_mut();
            let port =
                known.get_or_insert_with(|| state.metrics().port(app.endpoint.address().port()));
            self.tally.of_port(port);
        }
        self.tally.answered(now);
        self.tally.said(Said::Status(answered.status));
        let idle = match &self.target {
            Target::Split { route, .. } => route.ready.route.bounds.idle,
            Target::Passing(_) | Target::App(_) | Target::Refused(_) => None,
        };
        let patience = Patience::of((self.deadline, self.timer), idle, now);
        let lasts = (patience, long);
        let flight = Flight::new(answered.status, self.tally, in_flight, lasts, self.stream);
        (answered.answer, flight)
    }

    pub(super) fn give_up(mut self, state: &State, failed: Failed) -> Refusal {
        if let Target::App(app) = &self.target
            && let Some(port) = &*app.metrics.borrow()
        {
            self.tally.of_port(port);
        }
        self.tally
            .refused(failed.flag, failed.status, &failed.reason);
        self.tally.end(failed.class);
        let is_callers = failed.class == Class::ClientClosed;
        let delivery = match (&self.target, failed.why) {
            (Target::App(_), Failure::Unsent) if !is_callers => Delivery::Unsent,
            _ => Delivery::Unknown,
        };
        let (reason, reset) = match &self.target {
            Target::App(app) if !is_callers => {
                let port = app.endpoint.address().port();
                if state.may_log() {
                    tracing::warn!(
                        port,
                        reason = failed.reason,
                        "the application gave no answer"
                    );
                }
                let reset = match delivery {
                    Delivery::Unsent => Some(REFUSED_STREAM),
                    Delivery::Unknown => failed.reset,
                };
                (
                    format!("the application gave no answer: {}", failed.reason),
                    reset,
                )
            }
            Target::Split { route, .. } if !is_callers => {
                if state.may_log() {
                    let route = &route.ready.route.name;
                    tracing::warn!(route, reason = failed.reason, "a request failed");
                }
                (failed.reason, failed.reset)
            }
            Target::Split { .. } | Target::Passing(_) | Target::App(_) | Target::Refused(_) => {
                (failed.reason, failed.reset)
            }
        };
        Refusal {
            reset,
            delivery,
            ..Refusal::of(failed.status, reason)
        }
    }
}
