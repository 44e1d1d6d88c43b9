//! Whether a request is sent again by the word of the Service's owner: what `traffic_core::retry` decides, paid and counted. A request of a Service that says nothing
//! of it has none of this.

use std::time::{Duration, Instant};

use traffic_core::bounds::{Timeout, Whose};
use traffic_core::retry::{self, Allowed, Body, Decision, Failure, Price};

use super::patience::Deadline;
use crate::metrics::ArmMetrics;
use crate::state::retries::RouteRetries;

/// What holds for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again<'r> {
    pub(super) of: &'r RouteRetries,
    /// Whether its method is one that may reach an application twice.
    pub(super) is_listed: bool,
}

impl Again<'_> {
    fn allowed(&self) -> Allowed<'_> {
        Allowed {
            retries: &self.of.policy,
            is_listed: self.is_listed,
        }
    }

    /// When an attempt that begins `now` is over: one that may be followed by another has a time of its own.
    pub(super) fn deadline(&self, whole: Option<Deadline>, now: Instant) -> Option<Deadline> {
        let each = self.of.policy.each.filter(|_| self.is_listed);
        let timeout = |after: Duration| Timeout {
            after,
            whose: Whose::Attempt,
        };
        Deadline::earlier(whole, Deadline::of(each.map(timeout), now))
    }

    /// What an answer with these statuses is, if it is one that requests are sent again for.
    pub(super) fn failure(&self, status: u16, grpc_status: Option<u16>) -> Option<Failure> {
        let failure = match (status, grpc_status) {
            (500.., _) => Failure::Status(status),
            (_, Some(code)) => Failure::Grpc(code),
            (_, None) => return None,
        };
        self.of.policy.on.has(failure).then_some(failure)
    }
}

/// Whether a request goes to stable once more after a failure of `arm`, having been sent again `retries` times. What it costs is spent then.
pub(super) fn goes(
    again: Option<&Again<'_>>,
    arm: &ArmMetrics,
    retries: u8,
    (failure, body): (Failure, Body),
) -> bool {
    let price = match retry::after(retries, failure, body, again.map(Again::allowed)) {
        Decision::Stable(price) => price,
        Decision::GiveUp => return false,
    };
    let Some(again) = again else { return true };
    let is_paid = match price {
        Price::Free => true,
        Price::Budgeted => again.of.spend(Instant::now()),
    };
    if let Some(counts) = arm.retries() {
        if is_paid {
            counts.sent(failure);
        } else {
            counts.over_budget(failure);
        }
    }
    is_paid
}
