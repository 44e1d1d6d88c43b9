//! The parsed spec: after this nobody sees the raw one.

use std::fmt;

use crate::time::Span;

/// A whole percentage, 0..=100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub weight: Percent,
    /// Counted from the acknowledgement of the weight by every live proxy.
    pub soak: Span,
    /// Requests of the canary that have to be judged in this step.
    pub min_requests: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capacity {
    /// The weight's share of the Deployment's replicas, rounded up.
    Proportional,
    /// As many as the Deployment has.
    Full,
}

/// What to do when the hold for missing evidence is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    Advance,
    Pause,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    steps: Vec<Step>,
    /// Failed windows in a row that are tolerated.
    pub failure_limit: u32,
    /// The length of a window.
    pub interval: Span,
    /// How long to wait for evidence after the soak, and what to do then.
    pub hold: Span,
    pub then: Then,
    pub progress_deadline: Span,
    pub capacity: Capacity,
}

/// The fields of a plan that have no rule of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    pub failure_limit: u32,
    pub interval: Span,
    pub hold: Span,
    pub then: Then,
    pub progress_deadline: Span,
    pub capacity: Capacity,
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
        }
        let last = steps.last().ok_or(InvalidPlan::NoSteps)?;
        if last.weight != Percent::ALL {
            return Err(InvalidPlan::NotAll(last.weight));
        }
        if limits.interval <= Span(0) {
            return Err(InvalidPlan::Interval);
        }
        let Limits {
            failure_limit,
            interval,
            hold,
            then,
            progress_deadline,
            capacity,
        } = limits;
        Ok(Plan {
            steps,
            failure_limit,
            interval,
            hold,
            then,
            progress_deadline,
            capacity,
        })
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step at `index`, or the last one: a shorter spec may have been applied while a run was further on.
    pub fn step(&self, index: usize) -> &Step {
        self.steps
            .get(index)
            .or(self.steps.last())
            .expect("a plan has at least one step")
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
        }
    }

    fn plan(weights: &[i64]) -> Result<Plan, InvalidPlan> {
        let steps = weights.iter().map(|w| Step {
            weight: Percent::new(*w).unwrap(),
            soak: Span(0),
            min_requests: 0,
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
