//! The parsed spec: after this nobody sees the raw one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exposure::{Defect, ErrorBudget};
use crate::time::Span;

/// A whole percentage, 0..=100.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "i64", into = "i64")]
pub struct Percent(u8);

impl Percent {
    pub const ZERO: Percent = Percent(0);
    pub const ALL: Percent = Percent(100);

    pub fn new(percent: i64) -> Result<Percent, InvalidPlan> {
        match u8::try_from(percent) {
            Ok(p) if p <= 100 => Ok(Percent(p)),
            Ok(_) | Err(_) => Err(InvalidPlan::Percent(percent)),
        }
    }

    pub fn get(self) -> u8 {
        self.0
    }

    /// What is left of the whole.
    pub fn rest(self) -> Percent {
        Percent(100 - self.0)
    }

    /// How much of `all` is `some`, rounded down; everything, if there is nothing to cover.
    pub fn covered(some: u32, all: u32) -> Percent {
        let share = u64::from(some) * 100 / u64::from(all.max(1));
        if all == 0 {
            return Percent::ALL;
        }
        Percent(u8::try_from(share.min(100)).unwrap_or(100))
    }
}

impl TryFrom<i64> for Percent {
    type Error = InvalidPlan;
    fn try_from(percent: i64) -> Result<Percent, InvalidPlan> {
        Percent::new(percent)
    }
}

impl From<Percent> for i64 {
    fn from(percent: Percent) -> i64 {
        i64::from(percent.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub weight: Percent,
    /// Counted from the acknowledgement of the weight by every live proxy.
    pub soak: Span,
    /// Requests of the canary that have to be judged in this step.
    pub min_requests: u64,
    /// What the step waits for once it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

impl Step {
    /// What the step spends of an error budget when the canary fails by `defect` more than stable: weight x defect x soak, as
    /// time in which everything fails, rounded up.
    pub fn cost(&self, defect: Defect) -> Span {
        let weight = i128::from(self.weight.get());
        let defect = i128::from(defect.millionths());
        let cost = i128::from(self.soak.0.max(0)) * weight * defect;
        let cost = (cost + 99_999_999) / 100_000_000;
        Span(i64::try_from(cost).unwrap_or(i64::MAX))
    }
}

/// What a step that has passed waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pause {
    /// A person lets the run go on.
    Promote,
    /// The same, or this time.
    For(Span),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Capacity {
    /// The weight's share of the Deployment's replicas, rounded up.
    Proportional,
    /// As many as the Deployment has.
    Full,
}

/// What to do when the hold for missing evidence is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Then {
    Advance,
    Pause,
}

/// What more failed windows than are tolerated do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnFailure {
    /// The weight goes to 0 at once.
    #[default]
    Rollback,
    /// The weight stays, and never rises before a person lets the run be judged anew.
    Pause,
}

/// What becomes of a Deployment whose release is under way when its CanaryRollout is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Deletion {
    /// It stays paused, and stable serves.
    #[default]
    Leave,
    /// It rolls to its new template by itself, if nothing is wrong with that so far.
    Promote,
}

/// The steps, which rise and end at 100 %, and the limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Plan {
    steps: Vec<Step>,
    limits: Limits,
}

/// The fields of a plan that have no rule of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Failed windows in a row that are tolerated.
    pub failure_limit: u32,
    /// The length of a window.
    pub interval: Span,
    /// How long to wait for evidence after the soak, and what to do then.
    pub hold: Span,
    pub then: Then,
    pub progress_deadline: Span,
    pub capacity: Capacity,
    #[serde(default)]
    pub on_failure: OnFailure,
    #[serde(default)]
    pub deletion: Deletion,
    /// What a release may spend of its service's error budget; `None`: nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<ErrorBudget>,
}

/// A plan as it is stored: read back, it is checked again.
#[derive(Serialize, Deserialize)]
struct Parts {
    steps: Vec<Step>,
    limits: Limits,
}

impl TryFrom<Parts> for Plan {
    type Error = InvalidPlan;
    fn try_from(parts: Parts) -> Result<Plan, InvalidPlan> {
        Plan::new(parts.steps, parts.limits)
    }
}

impl From<Plan> for Parts {
    fn from(plan: Plan) -> Parts {
        Parts {
            steps: plan.steps,
            limits: plan.limits,
        }
    }
}

impl std::ops::Deref for Plan {
    type Target = Limits;
    fn deref(&self) -> &Limits {
        &self.limits
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlan {
    #[error("{0} is not a percentage between 0 and 100")]
    Percent(i64),
    #[error("there are no steps: give at least one, with weight 100")]
    NoSteps,
    #[error("step {index} has weight {weight}, which does not rise above the step before")]
    NotRising { index: usize, weight: Percent },
    #[error("the last step has weight {0}; it has to be 100%")]
    NotAll(Percent),
    #[error("analysis.interval has to be longer than 0")]
    Interval,
    #[error("the pause of step {0} has to be longer than 0, or without a length")]
    Pause(usize),
}

impl Plan {
    pub fn new(steps: Vec<Step>, limits: Limits) -> Result<Plan, InvalidPlan> {
        let mut before = Percent::ZERO;
        for (index, step) in steps.iter().enumerate() {
            if step.weight <= before {
                return Err(InvalidPlan::NotRising {
                    index,
                    weight: step.weight,
                });
            }
            before = step.weight;
            if matches!(step.pause, Some(Pause::For(span)) if !span.is_positive()) {
                return Err(InvalidPlan::Pause(index));
            }
        }
        let last = steps.last().ok_or(InvalidPlan::NoSteps)?;
        if last.weight != Percent::ALL {
            return Err(InvalidPlan::NotAll(last.weight));
        }
        if limits.interval <= Span(0) {
            return Err(InvalidPlan::Interval);
        }
        Ok(Plan { steps, limits })
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step at `index`; beyond the end, the last one.
    pub fn step(&self, index: usize) -> &Step {
        self.steps
            .get(index)
            .or(self.steps.last())
            .expect("a plan has at least one step")
    }

    /// The weight before the step at `index` is reached.
    pub fn weight_before(&self, index: usize) -> Percent {
        index
            .checked_sub(1)
            .map_or(Percent::ZERO, |before| self.step(before).weight)
    }

    /// This plan for a run that is at `current`, a step of another plan: with the steps below it and above it, and
    /// `current` between them, with its weight and soak as it was begun. Gives the place of `current` too.
    ///
    /// So an edited plan never raises what is sent now; what comes next is its own next step.
    pub fn around(&self, current: Step) -> (Plan, usize) {
        let below = self
            .steps
            .iter()
            .filter(|step| step.weight < current.weight);
        let above = self
            .steps
            .iter()
            .filter(|step| step.weight > current.weight);
        let place = below.clone().count();
        let steps = below.chain([&current]).chain(above).copied().collect();
        let plan = Plan {
            steps,
            limits: self.limits,
        };
        (plan, place)
    }

    /// What is left of this plan for a run that is at the step `place`, or before the first one, when the steps after it and
    /// every judgement are skipped: that step, and the last one, without a soak.
    #[must_use]
    pub fn straight(&self, place: Option<usize>) -> Plan {
        let at = place.map(|place| self.step(place));
        let last = self.step(self.steps.len() - 1);
        let beyond = at.is_none_or(|at| at.weight < last.weight);
        let steps = at
            .into_iter()
            .chain(beyond.then_some(last))
            .map(|step| Step {
                weight: step.weight,
                soak: Span(0),
                min_requests: 0,
                pause: None,
            });
        Plan {
            steps: steps.collect(),
            limits: self.limits,
        }
    }

    /// The same steps with the limits of `other`.
    #[must_use]
    pub fn limited_by(&self, other: &Plan) -> Plan {
        Plan {
            steps: self.steps.clone(),
            limits: other.limits,
        }
    }

    pub fn is_last(&self, index: usize) -> bool {
        index + 1 >= self.steps.len()
    }

    /// The pods that a weight needs, of a Deployment with `base` replicas.
    pub fn replicas(&self, base: u32, weight: Percent) -> u32 {
        match self.capacity {
            Capacity::Full => base.max(1),
            Capacity::Proportional => {
                let share = u64::from(base) * u64::from(weight.get());
                u32::try_from(share.div_ceil(100))
                    .unwrap_or(u32::MAX)
                    .max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            failure_limit: 2,
            interval: Span::seconds(10),
            hold: Span::seconds(600),
            then: Then::Advance,
            progress_deadline: Span::seconds(600),
            capacity: Capacity::Proportional,
            on_failure: OnFailure::Rollback,
            deletion: Deletion::Leave,
            exposure: None,
        }
    }

    #[test]
    fn a_step_costs_its_weight_times_the_defect_times_its_soak() {
        let step = |weight, soak| Step {
            weight: Percent(weight),
            soak,
            min_requests: 0,
            pause: None,
        };
        let ten = step(10, Span::seconds(120));
        assert_eq!(ten.cost(Defect::ALL), Span::seconds(12));
        assert_eq!(ten.cost(Defect::of(0.05)), Span(600));
        assert_eq!(ten.cost(Defect::NONE), Span(0));
        assert_eq!(step(1, Span(1)).cost(Defect::of(1e-6)), Span(1), "up");
        let longest = step(100, Span(i64::MAX));
        assert_eq!(longest.cost(Defect::ALL), Span(i64::MAX));
        assert_eq!(step(100, Span(-5)).cost(Defect::ALL), Span(0));
    }

    #[test]
    fn a_share_is_shown_in_percent() {
        assert_eq!(Percent::new(7).unwrap().to_string(), "7%");
    }

    fn plan(weights: &[i64]) -> Result<Plan, InvalidPlan> {
        let steps = weights.iter().map(|w| Step {
            weight: Percent::new(*w).unwrap(),
            soak: Span(0),
            min_requests: 0,
            pause: None,
        });
        Plan::new(steps.collect(), limits())
    }

    #[test]
    fn weights_rise_and_end_at_one_hundred() {
        assert!(plan(&[1, 10, 50, 100]).is_ok());
        assert!(plan(&[100]).is_ok());
        assert_eq!(plan(&[]), Err(InvalidPlan::NoSteps));
        assert_eq!(
            plan(&[10, 10, 100]),
            Err(InvalidPlan::NotRising {
                index: 1,
                weight: Percent(10)
            })
        );
        assert_eq!(
            plan(&[0, 100]),
            Err(InvalidPlan::NotRising {
                index: 0,
                weight: Percent(0)
            })
        );
        assert_eq!(plan(&[1, 50]), Err(InvalidPlan::NotAll(Percent(50))));
        assert_eq!(Percent::new(101), Err(InvalidPlan::Percent(101)));
        assert_eq!(Percent::new(-1), Err(InvalidPlan::Percent(-1)));
    }

    #[test]
    fn a_pause_of_no_time_is_refused() {
        let mut steps = plan(&[10, 100]).unwrap().steps().to_vec();
        for (pause, expected) in [
            (Pause::Promote, None),
            (Pause::For(Span(1)), None),
            (Pause::For(Span(0)), Some(InvalidPlan::Pause(1))),
            (Pause::For(Span(-1)), Some(InvalidPlan::Pause(1))),
        ] {
            steps[1].pause = Some(pause);
            assert_eq!(Plan::new(steps.clone(), limits()).err(), expected);
        }
    }

    #[test]
    fn an_edited_plan_goes_around_the_step_that_is_begun() {
        let at = |weight| Step {
            weight: Percent(weight),
            soak: Span(7),
            min_requests: 3,
            pause: None,
        };
        let weights = |plan: &Plan| plan.steps.iter().map(|s| s.weight.0).collect::<Vec<_>>();
        let edited = plan(&[1, 20, 60, 100]).unwrap();
        for (current, expected, place) in [
            (10, vec![1, 10, 20, 60, 100], 1),
            (60, vec![1, 20, 60, 100], 2),
            (100, vec![1, 20, 60, 100], 3),
        ] {
            let (plan, index) = edited.around(at(current));
            assert_eq!((weights(&plan), index), (expected, place));
            assert_eq!(*plan.step(index), at(current), "as it was begun");
        }
    }

    #[test]
    fn what_is_covered_is_a_share_rounded_down_that_is_whole_only_when_nothing_is_missing() {
        for (some, all, expected) in [
            (0, 4, 0),
            (3, 4, 75),
            (1, 3, 33),
            (2, 3, 66),
            (999, 1000, 99),
            (4, 4, 100),
            (5, 4, 100),
            (0, 0, 100),
            (u32::MAX - 1, u32::MAX, 99),
            (u32::MAX, u32::MAX, 100),
        ] {
            assert_eq!(
                Percent::covered(some, all),
                Percent(expected),
                "{some} of {all}"
            );
        }
        for all in 1..=120 {
            let mut before = Percent::ZERO;
            for some in 0..=all {
                let covered = Percent::covered(some, all);
                assert!(covered >= before, "{some} of {all}");
                assert!(
                    u32::from(covered.0) * all <= some * 100,
                    "never more than there is"
                );
                assert_eq!(covered == Percent::ALL, some == all, "{some} of {all}");
                assert_eq!(u32::from(covered.rest().0), 100 - u32::from(covered.0));
                before = covered;
            }
        }
    }

    #[test]
    fn a_stored_plan_is_read_back_and_a_mutilated_one_refused() {
        let plan = plan(&[1, 10, 100]).unwrap();
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(serde_json::from_value::<Plan>(json.clone()).unwrap(), plan);
        let mut mutilated = json;
        mutilated["steps"] = serde_json::json!([]);
        let error = serde_json::from_value::<Plan>(mutilated).unwrap_err();
        assert!(error.to_string().contains("there are no steps"), "{error}");
    }

    #[test]
    fn proportional_capacity_is_the_share_rounded_up_and_never_nothing() {
        let plan = plan(&[100]).unwrap();
        for base in 0..=50 {
            for weight in 0..=100_i64 {
                let got = plan.replicas(base, Percent::new(weight).unwrap());
                assert!(got >= 1);
                assert!(
                    i64::from(got) * 100 >= i64::from(base) * weight,
                    "{base} x {weight}%"
                );
                assert!(
                    got == 1 || (i64::from(got) - 1) * 100 < i64::from(base) * weight,
                    "{base} x {weight}%"
                );
            }
        }
    }
}
