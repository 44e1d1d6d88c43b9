//! What a release's guard was asked for.

use serde::{Deserialize, Serialize};

/// Shares in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct Limits {
    false_alarm: u32,
    max_error_increase: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGuard {
    #[error("guard.falseAlarm is {}%: it has to be above 0% and at most 50%", percent(*.0))]
    FalseAlarm(u32),
    #[error("guard.maxErrorIncrease is {}%: it has to be at most 50%", percent(*.0))]
    MaxErrorIncrease(u32),
}

impl Limits {
    const HALF: u32 = 500_000;

    /// `false_alarm`: how often a good release may be rolled back at most, above 0 and at most a half. `max_error_increase`: how
    /// much higher than stable's the canary's error rate may be, at most a half. Both in parts per million.
    pub fn try_new(false_alarm: u32, max_error_increase: u32) -> Result<Limits, InvalidGuard> {
        if false_alarm == 0 || false_alarm > Limits::HALF {
            return Err(InvalidGuard::FalseAlarm(false_alarm));
        }
        if max_error_increase > Limits::HALF {
            return Err(InvalidGuard::MaxErrorIncrease(max_error_increase));
        }
        Ok(Limits {
            false_alarm,
            max_error_increase,
        })
    }

    /// The natural logarithm of the wealth that is an alarm.
    pub fn log_alarm(self) -> f64 {
        (1e6 / f64::from(self.false_alarm)).ln()
    }

    /// How much higher than stable's the canary's error rate may be, in parts per million: at most a half.
    pub fn max_error_increase(self) -> u32 {
        self.max_error_increase
    }

    /// 0..=0.5
    pub(super) fn margin(self) -> f64 {
        f64::from(self.max_error_increase) / 1e6
    }
}

impl TryFrom<(u32, u32)> for Limits {
    type Error = InvalidGuard;
    fn try_from((alarm, increase): (u32, u32)) -> Result<Limits, InvalidGuard> {
        Limits::try_new(alarm, increase)
    }
}

impl From<Limits> for (u32, u32) {
    fn from(limits: Limits) -> (u32, u32) {
        (limits.false_alarm, limits.max_error_increase)
    }
}

fn percent(millionths: u32) -> f64 {
    f64::from(millionths) / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_shares_and_nonsense_is_refused_by_name() {
        let limits = Limits::try_new(10_000, 5_000).unwrap();
        assert_eq!(limits.margin(), 0.005);
        assert!((limits.log_alarm() - 100.0_f64.ln()).abs() < 1e-12);
        let said = |alarm, increase| Limits::try_new(alarm, increase).unwrap_err().to_string();
        let range = "it has to be above 0% and at most 50%";
        assert_eq!(said(0, 0), format!("guard.falseAlarm is 0%: {range}"));
        assert_eq!(
            said(500_001, 0),
            format!("guard.falseAlarm is 50.0001%: {range}")
        );
        assert_eq!(
            said(1, 600_000),
            "guard.maxErrorIncrease is 60%: it has to be at most 50%"
        );
        assert!(serde_json::from_str::<Limits>("[0,5000]").is_err());
    }
}
