//! An increase of an error rate.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much more of the canary's requests fail than of stable's, as a share of its requests in parts per million: 0 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Defect(u32);

impl Defect {
    pub const NONE: Defect = Defect(0);
    /// Every request fails, and none of stable's.
    pub const ALL: Defect = Defect(1_000_000);

    /// Rounded up. Less than nothing is nothing, and what is no number is everything.
    pub fn of(share: f64) -> Defect {
        if share.is_nan() {
            return Defect::ALL;
        }
        Defect((share.clamp(0.0, 1.0) * 1e6).ceil() as u32)
    }

    pub fn millionths(self) -> u32 {
        self.0.min(Defect::ALL.0)
    }
}

/// In percent with two digits that count, as people say it: `8.3%`, `0.52%`, `100%`.
impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = f64::from(self.millionths()) / 1e4;
        let decimals = match percent {
            ..1.0 => 2,
            ..10.0 => 1,
            _ => 0,
        };
        write!(f, "{percent:.decimals$}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_rounded_up_bounded_and_never_nan() {
        let of = |share| Defect::of(share).millionths();
        assert_eq!(of(0.000_000_1), 1);
        assert_eq!(of(0.25), 250_000);
        assert_eq!(of(-0.5), 0);
        assert_eq!(of(f64::INFINITY), 1_000_000);
        assert_eq!(Defect::of(f64::NAN), Defect::ALL);
        // A number that somebody wrote into a status by hand.
        assert_eq!(Defect(u32::MAX).millionths(), 1_000_000);
    }

    #[test]
    fn it_is_said_in_percent() {
        let said = [0.0, 0.0052, 0.083, 0.5, 1.0].map(|share| Defect::of(share).to_string());
        assert_eq!(said, ["0.00%", "0.52%", "8.3%", "50%", "100%"]);
    }
}
