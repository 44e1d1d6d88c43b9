//! The share of a service's error budget that one release may spend.

use serde::{Deserialize, Serialize};

use crate::time::Span;

const DAY: i128 = 86_400_000;
const WHOLE: u32 = 1_000_000;

/// An objective ("99.9 % of the requests of 30 days succeed"), and the share of what it leaves that one release may spend
/// (B. Beyer et al., "Site Reliability Engineering", 2016, chapter 3). Shares in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32, u32)", into = "(u32, u32, u32)")]
pub struct ErrorBudget {
    objective: u32,
    days: u32,
    share: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExposure {
    #[error(
        "exposure.objective is {}%: it has to be at least 50% and below 100%, since what it leaves is the error budget",
        percent(*.0)
    )]
    Objective(u32),
    #[error("exposure.window is {0}d: it has to be 1d to 366d, for example 30d")]
    Window(u32),
    #[error("exposure.budget is {}%: it has to be above 0% and at most 100%", percent(*.0))]
    Budget(u32),
}

impl ErrorBudget {
    const LONGEST: u32 = 366;

    /// `objective`: the share of requests that has to succeed, at least a half and less than all. `days`: over how long, 1 to 366.
    /// `share`: what one release may spend of the error budget, above 0 and at most all.
    pub fn try_new(objective: u32, days: u32, share: u32) -> Result<ErrorBudget, InvalidExposure> {
        if !(WHOLE / 2..WHOLE).contains(&objective) {
            return Err(InvalidExposure::Objective(objective));
        }
        if !(1..=ErrorBudget::LONGEST).contains(&days) {
            return Err(InvalidExposure::Window(days));
        }
        if share == 0 || share > WHOLE {
            return Err(InvalidExposure::Budget(share));
        }
        Ok(ErrorBudget {
            objective,
            days,
            share,
        })
    }

    /// What one release may spend, as time in which everything fails, rounded down.
    pub fn of_release(self) -> Span {
        let whole = i128::from(WHOLE);
        let left = i128::from(WHOLE - self.objective);
        let time = DAY * i128::from(self.days) * left * i128::from(self.share) / (whole * whole);
        Span(i64::try_from(time).unwrap_or(i64::MAX))
    }

    /// The share of the requests that has to succeed, parts per million.
    pub fn objective(self) -> u32 {
        self.objective
    }

    /// Over how many days.
    pub fn days(self) -> u32 {
        self.days
    }

    /// The share of the error budget that one release may spend, parts per million.
    pub fn share(self) -> u32 {
        self.share
    }
}

impl TryFrom<(u32, u32, u32)> for ErrorBudget {
    type Error = InvalidExposure;
    fn try_from((objective, days, share): (u32, u32, u32)) -> Result<Self, InvalidExposure> {
        ErrorBudget::try_new(objective, days, share)
    }
}

impl From<ErrorBudget> for (u32, u32, u32) {
    fn from(budget: ErrorBudget) -> (u32, u32, u32) {
        (budget.objective, budget.days, budget.share)
    }
}

fn percent(millionths: u32) -> f64 {
    f64::from(millionths) / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_may_spend_its_share_of_what_the_objective_leaves() {
        for (objective, days, share, seconds) in [
            // 43.2 minutes of 30 days, and a twentieth of them.
            (999_000, 30, 1_000_000, 2592.0),
            (999_000, 30, 50_000, 129.6),
            (999_900, 30, 50_000, 12.96),
            (990_000, 7, 100_000, 604.8),
            (500_000, 366, 1_000_000, 15_811_200.0),
            (999_990, 1, 10, 0.0),
        ] {
            let budget = ErrorBudget::try_new(objective, days, share).unwrap();
            let of_release = budget.of_release().0 as f64 / 1000.0;
            assert_eq!(of_release, seconds, "{objective} {days} {share}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name_also_from_a_status() {
        let said = |objective, days, share| {
            let error = ErrorBudget::try_new(objective, days, share).unwrap_err();
            error.to_string()
        };
        let objective =
            "it has to be at least 50% and below 100%, since what it leaves is the error budget";
        for (millionths, shown) in [(1_000_000, "100"), (499_999, "49.9999")] {
            assert_eq!(
                said(millionths, 30, 1),
                format!("exposure.objective is {shown}%: {objective}")
            );
        }
        let window = "it has to be 1d to 366d, for example 30d";
        assert_eq!(
            said(999_000, 0, 1),
            format!("exposure.window is 0d: {window}")
        );
        assert_eq!(
            said(999_000, 367, 1),
            format!("exposure.window is 367d: {window}")
        );
        let budget = "it has to be above 0% and at most 100%";
        assert_eq!(
            said(999_000, 30, 0),
            format!("exposure.budget is 0%: {budget}")
        );
        assert!(serde_json::from_str::<ErrorBudget>("[1000000,30,1]").is_err());
        let good = ErrorBudget::try_new(999_000, 30, 50_000).unwrap();
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<ErrorBudget>(&text).unwrap(), good);
    }
}
