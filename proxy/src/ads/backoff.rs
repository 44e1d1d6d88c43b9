//! Waiting times between attempts: doubling from 0.1 s to 5 s, each cut by up to a half at random, so that the proxies of a
//! cluster do not come back in step after the control plane was away.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Backoff {
    attempts: u32,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::up_to(LONGEST)
    }
}

impl Backoff {
    /// With another longest wait than 5 s.
    pub(super) fn up_to(longest: Duration) -> Backoff {
        Backoff {
            attempts: 0,
            longest,
        }
    }

    /// `chance` is between 0 and 1.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let longest = FIRST
            .saturating_mul(1 << self.attempts.min(16))
            .min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        longest.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }

    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds_and_start_over_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 100);
    }

    #[test]
    fn a_longer_limit_takes_longer_to_reach() {
        let mut backoff = Backoff::up_to(Duration::from_secs(60));
        let waits: Vec<u128> = (0..11).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(waits[5..], [3_200, 6_400, 12_800, 25_600, 51_200, 60_000]);
    }

    #[test]
    fn chance_cuts_at_most_a_half() {
        for _ in 0..100 {
            assert_eq!(Backoff::default().next(1.0).as_millis(), 50);
        }
        let mut late = Backoff {
            attempts: u32::MAX,
            ..Backoff::default()
        };
        assert_eq!(late.next(1.0).as_millis(), 2_500);
    }
}
