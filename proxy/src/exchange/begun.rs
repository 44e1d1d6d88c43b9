//! A request, as it came, and what is decided of it before it is sent.

use std::time::{Duration, Instant};

use traffic_core::outcome::Dialect;
use traffic_core::retry::methods::Call;

use super::patience::Deadline;
use super::tally::Tally;
use super::{Facts, Refusal, Target};
use crate::drain::Stream;
use crate::state::State;
use crate::state::destination::LocalRoute;

/// A request whose head is here.
#[derive(Debug)]
pub struct Arrived {
    /// What its time is counted from.
    pub(super) at: Instant,
    /// A drain waits for it from here to its end.
    pub(super) stream: Stream,
}

impl Arrived {
    pub fn now(state: &State) -> Arrived {
        Arrived {
            at: Instant::now(),
            stream: Stream::open(state.metrics()),
        }
    }
}

/// A request, as it came.
pub(super) struct Came<'r, H> {
    pub(super) at: Instant,
    pub(super) facts: Facts<'r>,
    pub(super) head: &'r H,
}

/// Where a request goes, and until when it has to be over.
pub(super) struct Begun {
    pub(super) target: Target,
    /// In a box, since it goes from hand to hand.
    pub(super) tally: Box<Tally>,
    pub(super) deadline: Option<Deadline>,
    pub(super) delay: Option<Duration>,
}

impl Begun {
    pub(super) fn new(target: Target, tally: Tally) -> Begun {
        Begun {
            target,
            tally: Box::new(tally),
            deadline: None,
            delay: None,
        }
    }

    pub(super) fn refused(refusal: Refusal, tally: Tally) -> Begun {
        Begun::new(Target::Refused(Box::new(refusal)), tally)
    }
}

/// Counts a request towards what may be sent again on its route. Says whether it may be itself.
pub(super) fn is_repeatable(route: &LocalRoute, arrived: Instant, facts: Facts<'_>) -> bool {
    let Some(retries) = &route.retries else {
        return false;
    };
    retries.request(arrived);
    let call = match facts.dialect {
        Dialect::Grpc => Call::Grpc,
        Dialect::Http => Call::Other,
    };
    retries.policy.methods.cover(facts.request.method, call)
}
