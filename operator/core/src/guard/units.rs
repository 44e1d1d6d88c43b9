//! The integers of the guard's state.

use serde::{Deserialize, Serialize};

const BILLION: f64 = 1e9;

/// A natural logarithm of capital, in billionths of a nat, between [`Nats::LEAST`] and [`Nats::MOST`].
///
/// Who has less than e^-100 of the capital is given that: the sum of such gifts over a year is below 1e-35.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Nats(i64);

impl Nats {
    pub(super) const ZERO: Nats = Nats(0);
    pub(super) const LEAST: Nats = Nats(-100 * 1_000_000_000);
    pub(super) const MOST: Nats = Nats(1000 * 1_000_000_000);

    /// Rounded to the nearest; what is no number is the least.
    pub(super) fn of(nats: f64) -> Nats {
        if nats.is_nan() {
            return Nats::LEAST;
        }
        Nats((nats * BILLION).round() as i64).bounded()
    }

    pub(super) fn get(self) -> f64 {
        self.bounded().0 as f64 / BILLION
    }

    fn bounded(self) -> Nats {
        Nats(self.0.clamp(Nats::LEAST.0, Nats::MOST.0))
    }
}

/// A number of at least 0 in billionths: decayed counts, factors. At most 1.8e10.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Nano(u64);

impl Nano {
    /// Rounded to the nearest; below 0, and what is no number, is 0.
    pub(super) fn of(value: f64) -> Nano {
        Nano((value * BILLION).round() as u64)
    }

    pub(super) fn get(self) -> f64 {
        self.0 as f64 / BILLION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_bounded_and_never_nan() {
        assert_eq!(Nats::of(1.234_567_890_6), Nats(1_234_567_891));
        assert_eq!(Nats::of(f64::NEG_INFINITY), Nats::LEAST);
        assert_eq!(Nats::of(f64::INFINITY), Nats::MOST);
        assert_eq!(Nats::of(f64::NAN), Nats::LEAST);
        assert_eq!(Nats(i64::MIN).get(), -100.0);
        assert_eq!(Nano::of(-1.0), Nano(0));
        assert_eq!(Nano::of(f64::NAN), Nano(0));
        assert_eq!(Nano::of(f64::INFINITY), Nano(u64::MAX));
        assert_eq!(Nano::of(0.1).get(), 0.1);
    }
}
