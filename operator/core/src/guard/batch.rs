//! The seconds that one factor is made of: as few as have a request of both arms.

use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::bet::{EFFECTS, log_factor};
use super::dispersion::Dispersion;
use super::second::Counts;
use super::units::Nano;

/// Seconds after which a batch that still lacks an arm is dropped: that depends on requests alone, not on errors.
const LONGEST: u8 = 60;

/// Seconds that wait for a request of the other arm, and the bet that was made before the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Batch {
    canary: Counts,
    stable: Counts,
    seconds: u8,
    baseline: Baseline,
    phi: Nano,
    gain: Nano,
}

impl Batch {
    /// The bet: from what is known before the batch's first second.
    pub(super) fn open(baseline: Baseline, dispersion: &Dispersion) -> Batch {
        Batch {
            canary: Counts::default(),
            stable: Counts::default(),
            seconds: 0,
            baseline,
            phi: Nano::of(dispersion.phi()),
            gain: Nano::of(dispersion.gain()),
        }
    }

    pub(super) fn add(&mut self, canary: Counts, stable: Counts) {
        self.canary = self.canary.plus(canary);
        self.stable = self.stable.plus(stable);
        self.seconds = self.seconds.saturating_add(1);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.canary.started > 0 && self.stable.started > 0
    }

    pub(super) fn is_stale(&self) -> bool {
        self.seconds >= LONGEST
    }

    /// What each effect earns, nats: deflated by stable's dispersion, and no more than the gain. Neither raises what is
    /// expected: the one by Jensen's inequality, the other by being less.
    pub(super) fn log_factors(&self, margin: f64) -> [f64; EFFECTS.len()] {
        let (phi, gain) = (self.phi.get().max(1.0), self.gain.get());
        let baseline = self.baseline.share();
        EFFECTS.map(|effect| {
            (log_factor(baseline, margin, effect, self.canary, self.stable) / phi).min(gain)
        })
    }
}
