//! How long a call to a Service may take, how many there may be at once, and which are made again, as the Service's owner says, and how long its caller waits.
//!
//! Nothing is bounded unless somebody says so: only they know how long an answer may take. A call that takes longer than it may counts
//! as its revision's failure, since it was not answered.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::Faults;
use crate::retry::policy::Retries;

/// The longest time that may be set.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What the owner of a Service says. Times are above zero, and at most [`LONGEST`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// From a request's head to the end of its answer.
    pub request: Option<Duration>,
    /// From the head of an answer on: without a byte either way.
    pub idle: Option<Duration>,
    /// Requests in progress of one sidecar to one revision.
    pub requests: Option<NonZeroU32>,
    /// `None`: nothing is sent again that an application may have seen.
    pub retries: Option<Retries>,
    /// Put into requests on purpose. Nothing is while a release is judged, whatever is said here.
    pub faults: Option<Arc<Faults>>,
}

/// Whose patience it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The caller has said how long it waits.
    Caller,
    Service,
    /// The Service's, for one attempt of several.
    Attempt,
}

/// How long a request may take from its head on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    pub after: Duration,
    pub whose: Whose,
}

impl Bounds {
    /// A time that may be set.
    pub fn time(time: Duration) -> Option<Duration> {
        (!time.is_zero() && time <= LONGEST).then_some(time)
    }

    /// For a request whose caller waits for as long as `asked`: the shorter of the two.
    pub fn timeout(&self, asked: Option<Duration>) -> Option<Timeout> {
        let of = |whose| move |after| Timeout { after, whose };
        let (caller, service) = (
            asked.map(of(Whose::Caller)),
            self.request.map(of(Whose::Service)),
        );
        caller
            .into_iter()
            .chain(service)
            .min_by_key(|timeout| timeout.after)
    }
}

impl Timeout {
    /// Whether a caller that leaves after this time has waited for all of it. It began to count before the request came here, and
    /// what it wrote into the request is rounded up: so the last tenth is the end.
    pub fn is_over_for_caller(&self, elapsed: Duration) -> bool {
        match self.whose {
            Whose::Caller => elapsed >= self.after - self.after / 10,
            Whose::Service | Whose::Attempt => false,
        }
    }
}

/// The header `grpc-timeout`: at most eight digits and a unit. `None`: it is none.
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn timeout(request: Option<u64>, asked: Option<u64>) -> Option<(Duration, Whose)> {
        let bounds = Bounds {
            request: request.map(seconds),
            ..Bounds::default()
        };
        let timeout = bounds.timeout(asked.map(seconds))?;
        Some((timeout.after, timeout.whose))
    }

    #[test]
    fn the_shorter_patience_counts() {
        assert_eq!(timeout(None, None), None);
        assert_eq!(timeout(Some(5), None), Some((seconds(5), Whose::Service)));
        assert_eq!(timeout(None, Some(5)), Some((seconds(5), Whose::Caller)));
        assert_eq!(timeout(Some(9), Some(5)), Some((seconds(5), Whose::Caller)));
        assert_eq!(
            timeout(Some(5), Some(9)),
            Some((seconds(5), Whose::Service))
        );
    }

    #[test]
    fn a_caller_that_leaves_at_the_end_of_its_own_time_has_waited_for_it() {
        let own = Timeout {
            after: seconds(10),
            whose: Whose::Caller,
        };
        for (elapsed, is_over) in [(0, false), (8, false), (9, true), (10, true), (11, true)] {
            assert_eq!(
                own.is_over_for_caller(seconds(elapsed)),
                is_over,
                "{elapsed} s"
            );
        }
        let services = Timeout {
            whose: Whose::Service,
            ..own
        };
        assert!(!services.is_over_for_caller(seconds(10)));
    }

    #[test]
    fn times_of_grpc_have_at_most_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(seconds(3600))),
            ("2M", Some(seconds(120))),
            ("15S", Some(seconds(15))),
            ("1500m", Some(Duration::from_millis(1500))),
            ("20u", Some(Duration::from_micros(20))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(seconds(99_999_999 * 3600))),
            ("0m", Some(Duration::ZERO)),
            ("100000000n", None),
            ("", None),
            ("S", None),
            ("15", None),
            ("15s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
            ("1S ", None),
        ] {
            assert_eq!(grpc_timeout(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn only_times_that_end_within_a_day_can_be_set() {
        for (time, is_one) in [
            (Duration::ZERO, false),
            (Duration::from_millis(1), true),
            (LONGEST, true),
            (LONGEST + Duration::from_millis(1), false),
        ] {
            assert_eq!(Bounds::time(time).is_some(), is_one, "{time:?}");
        }
    }
}
