//! Stable's rate in the last half minute: what the next bet takes for the truth about stable. A wrong one costs power, never
//! validity.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::second::Counts;
use super::units::Nano;

/// 30 s.
static DECAY: LazyLock<f64> = LazyLock::new(|| 0.5_f64.powf(1.0 / 30.0));

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Baseline {
    errors: Nano,
    requests: Nano,
}

impl Baseline {
    /// As if half an error in 250 requests had been seen before: 0.2 % where nothing is known.
    pub(super) fn share(self) -> f64 {
        ((self.errors.get() + 0.5) / (self.requests.get() + 250.0)).clamp(1e-5, 0.9)
    }

    pub(super) fn see(&mut self, stable: Counts) {
        let (started, errors) = stable.numbers();
        self.errors = Nano::of(self.errors.get() * *DECAY + errors);
        self.requests = Nano::of(self.requests.get() * *DECAY + started);
    }
}
