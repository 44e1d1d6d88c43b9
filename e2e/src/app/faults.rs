//! Failures and delays on request: a share of the requests, evenly interleaved, and a fixed delay for each.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aviary_crds::units::{UnitError, duration, percent};

/// A share in thousandths of a percent, written `5%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    const WHOLE: u64 = 100_000;

    /// Whether request `n` (from 0) is one of the share: of any `k` in a row, the share of `k` is, give or take one.
    pub fn takes(self, n: u64) -> bool {
        // The share grows by this much with each request, and is reached when it passes a whole.
        let before = (n % Self::WHOLE) * u64::from(self.0) % Self::WHOLE;
        before + u64::from(self.0) >= Self::WHOLE
    }

    fn by_chance(self) -> bool {
        self.0 > 0 && fastrand::u64(..Self::WHOLE) < u64::from(self.0)
    }
}

impl FromStr for Share {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Share, UnitError> {
        percent(text).map(Share)
    }
}

/// A delay, written `20ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay(pub Duration);

impl FromStr for Delay {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Delay, UnitError> {
        duration(text).map(Delay)
    }
}

/// What the payment service does wrong.
#[derive(Debug, Default)]
pub struct Faults {
    errors: Share,
    noise: Share,
    delay: Delay,
    answered: AtomicU64,
}

impl Faults {
    pub fn new(errors: Share, delay: Delay) -> Faults {
        Faults {
            errors,
            noise: Share::default(),
            delay,
            answered: AtomicU64::new(0),
        }
    }

    /// Besides, each request fails with this chance, whatever became of others.
    #[must_use]
    pub fn with_noise(self, noise: Share) -> Faults {
        Faults { noise, ..self }
    }

    /// Whether the next request fails. The places are those of the multiples of the golden ratio: even, the same in every
    /// run, and never in step with the caller, whose every fifth request is of another kind.
    pub fn next_fails(&self) -> bool {
        let n = self.answered.fetch_add(1, Ordering::Relaxed);
        let place = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        place * Share::WHOLE < u64::from(self.errors.0) << 32 || self.noise.by_chance()
    }

    pub async fn dawdle(&self) {
        if self.delay.0 > Duration::ZERO {
            tokio::time::sleep(self.delay.0).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_of_requests_has_its_share_give_or_take_one() {
        for (text, one_in) in [("5%", 20), ("1%", 100), ("50%", 2), ("0.5%", 200)] {
            let share: Share = text.parse().unwrap();
            for start in [0, 1, 7, 99_990] {
                let taken = (start..start + 10 * one_in)
                    .filter(|n| share.takes(*n))
                    .count() as i64;
                assert!((taken - 10).abs() <= 1, "{text} from {start}: {taken}");
            }
        }
    }

    #[test]
    fn faults_come_at_their_rate_among_all_requests_and_among_every_fifth() {
        for (text, share) in [("5%", 0.05), ("1%", 0.01), ("50%", 0.5)] {
            let faults = Faults::new(text.parse().unwrap(), Delay::default());
            let fails: Vec<bool> = (0..10_000).map(|_| faults.next_fails()).collect();
            for start in (0..9_600).step_by(100) {
                let failed = fails[start..start + 400]
                    .iter()
                    .filter(|fails| **fails)
                    .count();
                assert!(
                    (failed as f64 - 400.0 * share).abs() <= 2.0,
                    "{text} from {start}: {failed}"
                );
            }
            let fifth = fails.iter().step_by(5).filter(|fails| **fails).count();
            assert!(
                (fifth as f64 - 2000.0 * share).abs() <= 3.0,
                "{text}: {fifth}"
            );
        }
        let none = Faults::new("0%".parse().unwrap(), Delay::default());
        assert!((0..1000).all(|_| !none.next_fails()));
        let all = Faults::new("100%".parse().unwrap(), Delay::default());
        assert!((0..1000).all(|_| all.next_fails()));
        let noisy = |noise: &str| Faults::default().with_noise(noise.parse().unwrap());
        assert!((0..1000).all(|_| noisy("100%").next_fails()));
        let half = noisy("50%");
        assert!((0..1000).any(|_| half.next_fails()) && (0..1000).any(|_| !half.next_fails()));
    }

    #[test]
    fn nothing_takes_none_and_everything_takes_all() {
        assert!((0..1000).all(|n| !Share::default().takes(n)));
        let all: Share = "100%".parse().unwrap();
        assert!((0..1000).all(|n| all.takes(n)));
    }

    #[test]
    fn a_share_without_its_sign_is_refused() {
        assert!("5".parse::<Share>().is_err());
        assert!("20".parse::<Delay>().is_err());
    }
}
