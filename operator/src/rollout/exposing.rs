//! What the present run has spent of its error budget: each second of outcomes, whatever the weight.

use rollout_core::exposure::{Exposed, Spent};
use rollout_core::guard::Counts;
use rollout_core::state::{Run, State};
use serde::{Deserialize, Serialize};

use crate::outcomes::Closed;

/// What is kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    pub run: u64,
    pub spent: Spent,
}

/// The sums of a run whose plan has a budget. Those of another plan go on: what is spent is spent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exposing(Option<Spending>);

impl Exposing {
    /// Goes on with what is persisted.
    pub(super) fn recall(&mut self, spending: Option<Spending>) {
        self.0 = spending;
    }

    pub(super) fn follow(&mut self, state: &State) {
        let has_budget = |run: &&Run| run.plan.exposure.is_some();
        let run = state.running().filter(has_budget).map(|run| run.number);
        if self.0.map(|spending| spending.run) != run {
            self.0 = run.map(|run| Spending {
                run,
                spent: Spent::default(),
            });
        }
    }

    pub(super) fn see(&mut self, seconds: &[Closed]) {
        let Some(spending) = &mut self.0 else {
            return;
        };
        for closed in seconds {
            let [canary, stable] = [&closed.canary, &closed.stable].map(|of| {
                let (started, errors) = Closed::counts(of);
                Counts::new(started, errors)
            });
            spending.spent.see(closed.at, canary, stable);
        }
    }

    pub(super) fn spending(&self) -> Option<&Spending> {
        self.0.as_ref()
    }

    /// What is known of this state's run.
    pub(super) fn exposed(&self, state: &State) -> Exposed {
        let run = state.running().map(|run| run.number);
        let spending = self.0.filter(|spending| Some(spending.run) == run);
        spending.map_or_else(Exposed::default, |spending| spending.spent.exposed())
    }
}

#[cfg(test)]
mod tests {
    use rollout_core::exposure::{Defect, ErrorBudget};
    use rollout_core::plan::{Limits, Plan};
    use rollout_core::state::Phase;
    use rollout_core::time::{Span, Time};
    use traffic_core::outcome;

    use super::*;
    use crate::rollout::testing;

    fn state(budget: Option<ErrorBudget>) -> State {
        let mut state = testing::state(Phase::Soaking {
            step: 0,
            since: Time(0),
        });
        let run = state.run.as_mut().unwrap();
        let limits = Limits {
            exposure: budget,
            ..*run.plan
        };
        run.plan = Plan::new(run.plan.steps().to_vec(), limits).unwrap();
        state
    }

    fn second(at: i64, failed: u64) -> Closed {
        let counts = |started: u64, failed: u64| outcome::Counts {
            started,
            ended: outcome::PerClass::from([started - failed, failed, 0, 0]),
            ..outcome::Counts::default()
        };
        Closed {
            at,
            canary: counts(10, failed),
            stable: counts(90, 0),
        }
    }

    #[test]
    fn a_run_with_a_budget_is_counted_from_its_beginning_to_its_end() {
        let budget = ErrorBudget::try_new(999_000, 30, 50_000).ok();
        let mut exposing = Exposing::default();
        exposing.follow(&state(None));
        exposing.see(&[second(0, 10)]);
        assert_eq!(exposing.spending(), None, "nobody asks");

        let mut running = state(budget);
        exposing.follow(&running);
        let seconds: Vec<Closed> = (0..60).map(|at| second(at, 5)).collect();
        exposing.see(&seconds);
        assert_eq!(exposing.exposed(&running).spent, Span(3_000));
        assert!(exposing.exposed(&running).defect < Defect::ALL);

        // Another operator goes on.
        let kept = serde_json::to_string(exposing.spending().unwrap()).unwrap();
        let mut other = Exposing::default();
        other.recall(serde_json::from_str(&kept).unwrap());
        other.follow(&running);
        other.see(&seconds);
        assert_eq!(other.exposed(&running).spent, Span(3_000), "seen already");

        running.run.as_mut().unwrap().number += 1;
        assert_eq!(other.exposed(&running), Exposed::default());
        other.follow(&running);
        assert_eq!(other.spending().unwrap().spent, Spent::default());
        other.follow(&testing::state(Phase::Stable));
        assert_eq!(other.spending(), None);
    }
}
