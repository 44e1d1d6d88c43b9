//! One question, "are more of the canary's requests bad than of stable's, by more than the margin?", asked every second.

use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::batch::Batch;
use super::capital::Capital;
use super::dispersion::Dispersion;
use super::second::Counts;

/// How a second stands to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The canary has no weight.
    Alone,
    /// The first second of a weight.
    Begins,
    /// The same weight as before.
    GoesOn,
}

/// A test martingale: the capital of somebody who bets against the canary's innocence, from 1 on. O(1) memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct EProcess {
    capital: Capital,
    baseline: Baseline,
    dispersion: Dispersion,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<Batch>,
}

impl EProcess {
    pub(super) fn new() -> EProcess {
        EProcess {
            capital: Capital::new(),
            baseline: Baseline::default(),
            dispersion: Dispersion::default(),
            batch: None,
        }
    }

    /// Judges a second by what is known before it, and then learns from it.
    pub(super) fn see(&mut self, turn: Turn, margin: f64, canary: Counts, stable: Counts) {
        let (canary, stable) = (canary.bounded(), stable.bounded());
        match turn {
            Turn::Alone => self.batch = None,
            Turn::Begins => {
                // Rates under two weights have no common mean. What is dropped lacks an arm.
                self.batch = None;
                self.capital.second(true);
                self.judge(margin, canary, stable);
            }
            Turn::GoesOn => {
                self.capital.second(false);
                self.judge(margin, canary, stable);
            }
        }
        self.baseline.see(stable);
        self.dispersion.see(stable);
    }

    fn judge(&mut self, margin: f64, canary: Counts, stable: Counts) {
        let mut batch = match self.batch.take() {
            Some(batch) if !batch.is_stale() => batch,
            Some(_) | None => Batch::open(self.baseline, &self.dispersion),
        };
        batch.add(canary, stable);
        if batch.is_complete() {
            self.capital.earn(batch.log_factors(margin));
        } else {
            self.batch = Some(batch);
        }
    }

    /// The natural logarithm of the capital.
    pub(super) fn wealth(&self) -> f64 {
        self.capital.log()
    }
}
