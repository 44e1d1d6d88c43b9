//! Requests that go nowhere: what their callers are told.

use std::time::Duration;

use traffic_core::rate::{TooMany, Whose};

use super::{Delivery, Refusal};
use crate::telemetry::Flag;

/// RFC 9110, 15.5.4.
const FORBIDDEN: u16 = 403;
/// RFC 6585, 4.
const TOO_MANY_REQUESTS: u16 = 429;

impl Refusal {
    /// Another endpoint would say the same.
    pub(crate) fn of(status: u16, reason: impl Into<String>) -> Refusal {
        Refusal {
            status,
            reason: reason.into(),
            reset: None,
            delivery: Delivery::Unknown,
            retry_after: None,
            flag: Flag::None,
        }
    }

    /// Its caller may not have it.
    pub(super) fn denied(reason: String) -> Refusal {
        Refusal::of(FORBIDDEN, reason)
    }

    pub(super) fn too_many(TooMany { whose, rate, wait }: TooMany) -> Refusal {
        let whose = match whose {
            Whose::All => "this pod takes of all callers together",
            Whose::Callers => "this pod takes of each caller",
        };
        let reason = format!("more requests came than the {rate} that {whose}");
        Refusal {
            retry_after: Some(wait),
            delivery: Delivery::Unsent,
            flag: Flag::RateLimited,
            ..Refusal::of(TOO_MANY_REQUESTS, reason)
        }
    }

    pub(super) fn fault(status: u16) -> Refusal {
        Refusal {
            flag: Flag::FaultAbort,
            ..Refusal::of(status, "the owner of the Service asks for this fault")
        }
    }

    /// For a header that has whole seconds: rounded up.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        let wait = self.retry_after?;
        Some(wait.as_secs() + u64::from(wait > Duration::from_secs(wait.as_secs())))
    }
}
