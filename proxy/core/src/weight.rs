//! A share of requests.

use std::fmt;

/// A share of requests in units of 1/100 000 (0.001 %), between none and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// The number of units in the whole.
    pub const SCALE: u32 = 100_000;
    pub const ZERO: Weight = Weight(0);
    pub const ALL: Weight = Weight(Self::SCALE);

    /// `units` of 1/100 000.
    pub fn new(units: u32) -> Result<Weight, WeightAboveWhole> {
        if units > Self::SCALE {
            Err(WeightAboveWhole(units))
        } else {
            Ok(Weight(units))
        }
    }

    /// A whole percentage, 0..=100.
    pub fn percent(percent: u32) -> Result<Weight, WeightAboveWhole> {
        Weight::new(percent.saturating_mul(Self::SCALE / 100))
    }

    pub fn units(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) * 100.0 / f64::from(Self::SCALE))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("weight {0}/100000 is above the whole")]
pub struct WeightAboveWhole(pub u32);
