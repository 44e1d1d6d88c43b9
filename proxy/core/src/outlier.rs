//! Which endpoint gets nothing for a while: one that fails several times in a row.
//!
//! ```text
//!         5 failures in a row            30 s, 60 s, ... 5 min
//!   in ────────────────────────> out ────────────────────────> on trial ── an answer ──> in
//!                                 ^                               │
//!                                 └───────── a failure ───────────┘
//! ```
//!
//! Five in a row, 30 s and 5 min are Envoy's defaults. Each time it is out for twice as long as the time before, until it has been well
//! for as long as it was out. It is for [`balance`](crate::balance) to say how many may be out at once.
//!
//! It knows no revision: what fails because of its version fails at all of its endpoints, and then none is out.

use std::time::{Duration, Instant};

/// Failures in a row.
pub const CONSECUTIVE: u8 = 5;
/// How long the first time.
pub const SHORTEST: Duration = Duration::from_secs(30);
/// and at most.
pub const LONGEST: Duration = Duration::from_secs(300);

/// One endpoint, as one worker sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outlier {
    /// In a row.
    failures: u8,
    out: Option<Out>,
}

/// The newest time out.
#[derive(Clone, Copy, Debug)]
struct Out {
    until: Instant,
    length: Duration,
}

impl Outlier {
    /// Whether it gets nothing.
    pub fn is_out(&self, now: Instant) -> bool {
        self.out.is_some_and(|out| now < out.until)
    }

    /// Whether an answer would change anything.
    pub fn is_suspect(&self) -> bool {
        self.failures > 0 || self.out.is_some()
    }

    /// A whole answer that is no failure. Its head alone says little: gRPC says how it went at the end.
    pub fn well(&mut self, now: Instant) {
        self.failures = 0;
        if let Some(out) = self.out
            && now.saturating_duration_since(out.until) >= out.length
        {
            self.out = None;
        }
    }

    /// For how long it is out from now on; `None`: it is not, or was before.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        // What was on its way when it went says nothing new.
        if self.is_out(now) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < CONSECUTIVE {
            return None;
        }
        let length = self.out.map_or(SHORTEST, |out| LONGEST.min(out.length * 2));
        let until = now + length;
        self.out = Some(Out { until, length });
        // On trial afterwards: one more is enough.
        self.failures = CONSECUTIVE - 1;
        Some(length)
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to count from"
)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Fails until it is out, and says for how long.
    fn out(outlier: &mut Outlier, now: Instant) -> Duration {
        for _ in 1..CONSECUTIVE {
            assert_eq!(outlier.failed(now), None);
            assert!(!outlier.is_out(now));
        }
        outlier.failed(now).unwrap()
    }

    #[test]
    fn five_in_a_row_are_out_for_half_a_minute_and_an_answer_between_them_forgives() {
        let now = Instant::now();
        let mut outlier = Outlier::default();
        for _ in 0..100 {
            for _ in 1..CONSECUTIVE {
                assert_eq!(outlier.failed(now), None);
            }
            outlier.well(now);
        }
        assert_eq!(out(&mut outlier, now), SHORTEST);
        assert!(outlier.is_out(now + seconds(29)) && !outlier.is_out(now + SHORTEST));
    }

    #[test]
    fn what_ends_while_it_is_out_changes_nothing() {
        let now = Instant::now();
        let mut outlier = Outlier::default();
        out(&mut outlier, now);
        for _ in 0..50 {
            assert_eq!(outlier.failed(now + seconds(1)), None);
        }
        assert!(!outlier.is_out(now + SHORTEST));
    }

    #[test]
    fn on_trial_one_failure_is_enough_for_twice_as_long_up_to_five_minutes() {
        let mut now = Instant::now();
        let mut outlier = Outlier::default();
        now += out(&mut outlier, now);
        for expected in [60, 120, 240, 300, 300] {
            let length = outlier.failed(now).unwrap();
            assert_eq!(length, seconds(expected));
            now += length;
        }
    }

    #[test]
    fn it_begins_anew_once_it_has_been_well_for_as_long_as_it_was_out() {
        for (well, expected) in [(29, 60), (30, 30)] {
            let mut now = Instant::now();
            let mut outlier = Outlier::default();
            now += out(&mut outlier, now);
            outlier.well(now);
            outlier.well(now + seconds(well));
            let again = out(&mut outlier, now + seconds(well));
            assert_eq!(again, seconds(expected), "well for {well} s");
        }
    }
}
