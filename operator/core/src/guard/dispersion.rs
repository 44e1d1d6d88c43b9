//! How much more stable's errors vary than independent ones would: they come in bursts, and a burst is no sign of a bad canary.
//!
//! Measured by successive differences (J. von Neumann, "Distribution of the ratio of the mean square successive difference to
//! the variance", 1941), so that a slow change of the rate does not count, over sums of 1 s and of 10 s.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::second::Counts;
use super::units::Nano;

/// Independent errors, as many as this, are thought to have been seen before.
const PRIOR: f64 = 5.0;
/// One difference counts at most this much: after an incident that everybody had, the guard is not blind for long.
const MOST: f64 = 50.0;
/// The same where it is asked how long bursts last: where there are many requests, a pod that fails for two seconds is a
/// difference of hundreds.
const MOST_OF_BURSTS: f64 = 1000.0;
/// The most that an effect may earn in a factor, nats: an alarm at 1 % needs three bad seconds.
const GAIN: f64 = 2.0;

/// 300 s.
static DECAY: LazyLock<f64> = LazyLock::new(|| 0.5_f64.powf(1.0 / 300.0));
static DECAY_10: LazyLock<f64> = LazyLock::new(|| 0.5_f64.powf(10.0 / 300.0));

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Dispersion {
    one: Differences,
    ten: Differences,
    /// As `ten`, for the gain.
    bursts: Differences,
    /// The sum of the present ten seconds, and how many of them have been seen.
    sum: Counts,
    seconds: u8,
}

impl Dispersion {
    /// By how much log factors are divided: at least 1.
    pub(super) fn phi(&self) -> f64 {
        self.one.phi().max(self.ten.phi()).max(1.0)
    }

    /// The most that an effect may earn in a factor, nats: less while bursts last longer than a second.
    pub(super) fn gain(&self) -> f64 {
        GAIN * (self.one.phi().max(1.0) / self.bursts.phi()).clamp(0.2, 1.0)
    }

    pub(super) fn see(&mut self, stable: Counts) {
        self.one.see(stable, *DECAY, MOST);
        self.sum = self.sum.plus(stable);
        self.seconds = self.seconds.saturating_add(1);
        if self.seconds >= 10 {
            self.ten.see(self.sum, *DECAY_10, MOST);
            self.bursts.see(self.sum, *DECAY_10, MOST_OF_BURSTS);
            self.sum = Counts::default();
            self.seconds = 0;
        }
    }
}

/// Squared standardised differences of successive sums, decayed, weighted by errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Differences {
    squares: Nano,
    errors: Nano,
    last: Counts,
}

impl Differences {
    fn phi(&self) -> f64 {
        (PRIOR + self.squares.get()) / (PRIOR + self.errors.get())
    }

    fn see(&mut self, now: Counts, decay: f64, most: f64) {
        if let Some((square, errors)) = difference(self.last, now) {
            self.squares = Nano::of(self.squares.get() * decay + square.min(most) * errors);
            self.errors = Nano::of(self.errors.get() * decay + errors);
        }
        self.last = now;
    }
}

/// The squared standardised difference of two shares, and the errors in both; `None` where there is nothing to compare.
fn difference(before: Counts, now: Counts) -> Option<(f64, f64)> {
    let ((n, x), (m, y)) = (before.numbers(), now.numbers());
    let errors = x + y;
    let pooled = errors / (n + m);
    if n <= 0.0 || m <= 0.0 || pooled <= 0.0 || pooled >= 1.0 {
        return None;
    }
    let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
    let square = (y / m - x / n).powi(2) / variance;
    Some((square, errors))
}
