//! Attempts that came to nothing: what is known of them, and what the caller is told if there is no other one.

use std::num::NonZeroU32;

use traffic_core::bounds::Whose;
use traffic_core::outcome::Class;
use traffic_core::retry::Failure;

use super::REFUSED_STREAM;
use crate::endpoint::{CallerFault, Cause, Lost, SendError};
use crate::telemetry::Flag;

/// An attempt that came to nothing.
pub(super) struct Failed {
    pub(super) why: Failure,
    pub(super) class: Class,
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) reset: Option<u32>,
    pub(super) flag: Flag,
}

impl Failed {
    pub(super) fn overflow(route: &str, revision: &str, most: NonZeroU32) -> Failed {
        Failed {
            why: Failure::Full,
            class: Class::Unsent,
            status: 503,
            reason: format!(
                "{route} revision {revision} has {most} requests of this proxy's in progress, as many as there may be"
            ),
            reset: None,
            flag: Flag::Overflow,
        }
    }

    pub(super) fn no_endpoint(route: &str, revision: &str) -> Failed {
        Failed {
            why: Failure::Unsent,
            class: Class::Unsent,
            status: 503,
            reason: format!("no healthy endpoint of {route} revision {revision}"),
            reset: None,
            flag: Flag::NoEndpoint,
        }
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Failed {
        let (reason, flag) = (error.to_string(), Flag::from(&error));
        let (why, class, status, reset) = match error {
            SendError::Unsent(Cause::Refused) => {
                (Failure::Unsent, Class::Unsent, 503, Some(REFUSED_STREAM))
            }
            SendError::Unsent(_) => (Failure::Unsent, Class::Unsent, 503, None),
            SendError::Unknown(Lost::Reset { code, .. }) => {
                (Failure::Reset, Class::Failure, 502, Some(code))
            }
            SendError::Unknown(_) => (Failure::Reset, Class::Failure, 502, None),
            SendError::Caller(CallerFault::Left) => (Failure::Over, Class::ClientClosed, 400, None),
            SendError::Caller(CallerFault::Malformed(malformed)) => {
                (Failure::Over, Class::ClientClosed, malformed.status(), None)
            }
            SendError::TimedOut(timeout) => {
                let why = match timeout.whose {
                    Whose::Attempt => Failure::Reset,
                    Whose::Caller | Whose::Service => Failure::Over,
                };
                (why, Class::Failure, 504, None)
            }
            // Says nothing about the revision; and what became of the request nobody knows.
            SendError::Withdrawn => (Failure::Over, Class::ClientClosed, 503, None),
        };
        Failed {
            why,
            class,
            status,
            reason,
            reset,
            flag,
        }
    }
}
