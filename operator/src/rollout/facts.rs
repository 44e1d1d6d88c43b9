//! What a status is made of.

use aviary_crds::status::DecisionRecord;
use rollout_core::plan::Plan;
use rollout_core::state::State;
use rollout_core::{Exposed, Waiting, waiting};

use super::exposing::Spending;
use super::guarding::Guarded;
use super::hooks::Waits;
use super::look::Look;
use super::problems::Problem;
use super::verdicts::Verdicts;

/// What a status is made of.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub look: &'a Look,
    /// `None` before anything is known of the Deployment.
    pub state: Option<&'a State>,
    /// The plan of the spec; a run has its own.
    pub plan: Option<&'a Plan>,
    pub verdicts: &'a Verdicts,
    /// The newest, oldest first.
    pub decisions: &'a [DecisionRecord],
    pub problem: Option<&'a Problem>,
    pub guarded: Option<&'a Guarded>,
    pub foresight: Option<&'a str>,
    pub spending: Option<&'a Spending>,
    /// Requests that proxies held back from the canary in the last second of which any were; `None`: they do not.
    pub withheld: Option<u64>,
    /// The hook that the run waits for, and nothing else.
    pub hook: Option<&'a Waits>,
    pub generation: Option<i64>,
}

impl<'a> Facts<'a> {
    /// What the release waits for.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        let doubt = self.guarded.is_some_and(Guarded::doubts);
        waiting(self.state?, doubt, self.exposed(), self.look.now)
    }

    /// What is known of the canary's failures.
    pub(super) fn exposed(&self) -> Exposed {
        let spending = self.spending.map(|spending| spending.spent.exposed());
        spending.unwrap_or_default()
    }

    /// The plan in force.
    pub(super) fn plan_in_force(&self) -> Option<&'a Plan> {
        let of_run = self.state.and_then(|state| state.run.as_ref());
        of_run.map(|run| &run.plan).or(self.plan)
    }
}
