//! What was seen in one second.

use serde::{Deserialize, Serialize};

use super::sketch::Sketch;

/// What one arm did in one second: first attempts, counted when they started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Counts {
    pub started: u64,
    /// How many of them failed.
    pub errors: u64,
}

impl Counts {
    /// More requests of an arm in a second than this count as this many, with the same share of errors.
    pub const MOST: u64 = 1_000_000;

    pub fn new(started: u64, errors: u64) -> Counts {
        Counts { started, errors }
    }

    /// Within what the guard reckons with: at most [`Counts::MOST`] requests, and no more errors than requests.
    pub(super) fn bounded(self) -> Counts {
        let errors = self.errors.min(self.started);
        if self.started <= Counts::MOST {
            return Counts { errors, ..self };
        }
        let share = errors as f64 / self.started as f64;
        Counts {
            started: Counts::MOST,
            errors: (share * Counts::MOST as f64).round() as u64,
        }
    }

    pub(super) fn plus(self, more: Counts) -> Counts {
        Counts {
            started: self.started.saturating_add(more.started),
            errors: self.errors.saturating_add(more.errors),
        }
    }

    /// Requests and errors; a state that somebody wrote by hand is no reason for more errors than requests.
    pub(super) fn numbers(self) -> (f64, f64) {
        (self.started as f64, self.errors.min(self.started) as f64)
    }
}

impl From<(u64, u64)> for Counts {
    fn from((started, errors): (u64, u64)) -> Counts {
        Counts { started, errors }
    }
}

impl From<Counts> for (u64, u64) {
    fn from(counts: Counts) -> (u64, u64) {
        (counts.started, counts.errors)
    }
}

/// One revision in one second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arm {
    pub counts: Counts,
    /// How long its first attempts waited for an answer; who had none in time is in the last bucket.
    pub latency: Sketch,
}

/// Both revisions in one second, under one acknowledged weight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Seconds since the Unix epoch.
    pub at: i64,
    /// Which acknowledged weight it was under: any other number than before begins a new one. 0: the canary has none, and the
    /// guard learns from stable alone. A second in which the weight rose may be given in two parts, the later with the
    /// higher number.
    pub epoch: u64,
    pub canary: Arm,
    pub stable: Arm,
}
