//! What was decided, and what was known then: the newest in the status, all of them in the log, as Events those that people
//! have to know of.

use aviary_crds::status::{CanaryRolloutStatus, DecisionRecord};
use rollout_core::state::{Run, State};
use rollout_core::time::Time;
use rollout_core::{By, Event, desired};

use super::exposing::Spending;
use super::guarding::Guarded;
use super::render;
use super::verdicts::{Verdicts, micro_time};
use crate::text::cut;

/// The longest list of decisions that a status keeps.
const KEPT: usize = 20;
/// The longest judgement in one, in bytes.
const JUDGED: usize = 400;

/// The newest, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Decisions(Vec<DecisionRecord>);

/// What is known when something is decided.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub now: Time,
    /// What is decided, and what was before.
    pub after: &'a State,
    pub before: &'a State,
    pub verdicts: &'a Verdicts,
    pub guarded: Option<&'a Guarded>,
    pub spending: Option<&'a Spending>,
}

impl Decisions {
    /// Those of a status outlive a restart.
    pub(super) fn of(status: Option<&CanaryRolloutStatus>) -> Decisions {
        Decisions(status.map_or_else(Vec::new, |status| status.decisions.clone()))
    }

    /// These and `more`, as many as are kept.
    pub(super) fn with(&self, more: &[DecisionRecord]) -> Vec<DecisionRecord> {
        let all = self.0.len() + more.len();
        let all_of_them = self.0.iter().chain(more);
        all_of_them
            .skip(all.saturating_sub(KEPT))
            .cloned()
            .collect()
    }

    pub(super) fn add(&mut self, more: &[DecisionRecord]) {
        self.0 = self.with(more);
    }
}

/// The record of an event whose reason this is; `None`: nothing was decided by it about a run.
pub(super) fn record(event: &Event, reason: &str, known: Known<'_>) -> Option<DecisionRecord> {
    if !is_decision(event) {
        return None;
    }
    let run = run_of(event, known)?;
    let guarded = known.guarded.filter(|guarded| guarded.run == run.number);
    let spending = known.spending.filter(|spending| spending.run == run.number);
    let budget = run.plan.exposure;
    Some(DecisionRecord {
        at: micro_time(known.now),
        decision: reason.to_owned(),
        revision: run.canary.revision.clone(),
        run: i64::try_from(run.number).unwrap_or(i64::MAX),
        weight: i32::from(desired(known.after).weight().get()),
        // The next step begins to count anew with what is decided here.
        requests: known
            .before
            .run
            .as_ref()
            .filter(|it| it.number == run.number)
            .map_or(0, |run| i64::try_from(run.requests).unwrap_or(i64::MAX)),
        by: by(event, known.after),
        judged: cut(known.verdicts.judged().to_owned(), JUDGED),
        guard: guarded.map(|guarded| render::guard(guarded, None)),
        exposure: spending
            .zip(budget)
            .map(|(spending, budget)| render::exposure(spending, budget)),
    })
}

/// Of one run the end and of the next one the beginning may be decided in the same moment.
fn run_of<'a>(event: &Event, known: Known<'a>) -> Option<&'a Run> {
    let (before, after) = (known.before.run.as_ref(), known.after.run.as_ref());
    let begins = matches!(event, Event::RunStarted { .. } | Event::Retried { .. });
    if begins {
        after.or(before)
    } else {
        before.or(after)
    }
}

/// Who asked for it.
fn by(event: &Event, after: &State) -> Option<String> {
    let by = if let Event::LetOn { by, .. }
    | Event::JudgedAnew { by, .. }
    | Event::JudgementSkipped { by, .. }
    | Event::Held { by, .. }
    | Event::Resumed { by }
    | Event::Retried { by, .. }
    | Event::PromotionAborted { by, .. } = event
    {
        Some(by)
    } else if let Event::RolledBack { .. } = event {
        after
            .failure
            .as_ref()
            .and_then(|failure| failure.by.as_ref())
    } else {
        None
    };
    by.map(By::to_string)
}

fn is_decision(event: &Event) -> bool {
    match event {
        Event::RunStarted { .. }
        | Event::Superseded { .. }
        | Event::LeaseLapsed { .. }
        | Event::WeightRaised { .. }
        | Event::AdvancedWithoutEvidence { .. }
        | Event::Paused { .. }
        | Event::PausedByFailure { .. }
        | Event::StableFails
        | Event::LetOn { .. }
        | Event::JudgedAnew { .. }
        | Event::JudgementSkipped { .. }
        | Event::Held { .. }
        | Event::Resumed { .. }
        | Event::Retried { .. }
        | Event::PromotionAborted { .. }
        | Event::PromotionStarted { .. }
        | Event::Promoted { .. }
        | Event::Returning { .. }
        | Event::RolledBack { .. } => true,
        Event::Adopted { .. }
        | Event::FoundPaused { .. }
        | Event::Unsettled { .. }
        | Event::Recreated
        | Event::PlanChanged { .. }
        | Event::WeightAcknowledged { .. }
        | Event::WindowFailed { .. }
        | Event::StableRecovered
        | Event::Ungated { .. }
        | Event::RollbackComplete { .. }
        | Event::LetGo { .. }
        | Event::Recovered { .. } => false,
    }
}

#[cfg(test)]
mod tests;
