//! What the reports of the sidecars mean: the guard sees what is bad in time and blames nothing else, and nothing is raised
//! beyond an error budget.

use rollout_core::State;
use rollout_core::exposure::Defect;
use rollout_core::state::{Cause, Phase};

use super::super::agenda::Process;
use super::{Check, Rise, Run};
use crate::outcomes::Closed;

/// The guard blames nothing for fewer seconds with failures.
const FEWEST: u32 = 3;
/// Half of four requests a second beside a stable revision that never fails: seen before.
const MOST: u32 = 12;
const BUSY: u64 = 4;
/// This part of what is reckoned here is more than a budget beyond doubt: the operator sums up in its own way.
const PLAINLY: f64 = 0.9;
/// By so many milliseconds at least.
const MARGIN: f64 = 200.0;

/// What one process was told of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    canary: (u64, u64),
    /// Full outage, in milliseconds.
    spent: f64,
    /// Seconds in which the canary failed.
    failing: u32,
    /// Seconds in a row under one weight in which it plainly failed more than stable.
    worse: u32,
    /// Under which weight the newest second was, in percent.
    weight: u32,
    /// Stable failed in some second: the guard takes its time then, and rightly.
    stable_failed: bool,
}

impl Check {
    /// A process takes in a second. `weight`: that of the run in percent, if its guard looks; 0 otherwise.
    pub(in super::super) fn counted(
        &mut self,
        process: Process,
        run: Run,
        second: &Closed,
        weight: u32,
    ) {
        let (canary, stable) = (
            Closed::counts(&second.canary),
            Closed::counts(&second.stable),
        );
        let steady = |((_, of), it): (&(Process, Run), &Counted)| *of != run || !it.stable_failed;
        let judged = self.is_judged && stable.1 == 0 && self.counted.iter().all(steady);
        let counted = self.counted.entry((process, run.clone())).or_default();
        counted.canary.0 += canary.0;
        counted.canary.1 += canary.1;
        counted.stable_failed |= stable.1 > 0;
        counted.failing += u32::from(canary.1 > 0);
        let all = canary.0 + stable.0;
        #[allow(clippy::cast_precision_loss)] // a few hundred
        if all > 0 && stable.1 == 0 {
            counted.spent += canary.1 as f64 / all as f64 * 1000.0;
        }
        let worse = weight > 0
            && weight == counted.weight
            && judged
            && stable.0 >= BUSY
            && canary.0 >= BUSY
            && canary.1 * 4 >= canary.0;
        counted.weight = weight;
        counted.worse = if worse { counted.worse + 1 } else { 0 };
        if counted.worse > MOST {
            self.violated(format!(
                "run {} has been worse than stable for {MOST} s, and the guard has not seen it",
                run.1
            ));
        }
    }

    /// A person has it judged anew, or the guard begins anew for other reasons.
    pub(super) fn judged_anew(&mut self) {
        for counted in self.counted.values_mut() {
            counted.worse = 0;
        }
    }

    /// The guard gives as its cause what somebody has told it.
    pub(super) fn is_guards_cause(&mut self, state: &State) {
        let (Phase::RollingBack { cause, .. }, Some(run)) = (state.phase, &state.run) else {
            return;
        };
        if cause != Cause::WorseThanStable {
            return;
        }
        let of = (run.canary.revision.clone(), run.number);
        let told = |(_, counted): &(&(Process, Run), &Counted)| counted.failing;
        let mine = self.counted.iter().filter(|((_, run), _)| *run == of);
        let seen: u32 = mine.map(|it| told(&it)).sum();
        if seen < FEWEST {
            self.violated(format!(
                "the guard took run {} away after {seen} seconds with failures",
                of.1
            ));
        }
    }

    /// A raise is written: what is spent, and what the step could spend when the canary goes on failing as it did, is within
    /// the budget for at least one process. What the operator reckons with is never less than that.
    pub(super) fn within_budget(&mut self, state: &State, rise: Option<Rise>) {
        let rises = rise.is_some_and(|rise| !rise.answered);
        let (true, Some(run), Some(step)) = (rises, &state.run, state.phase.step()) else {
            return;
        };
        let Some(budget) = run.plan.exposure else {
            return;
        };
        let of = (run.canary.revision.clone(), run.number);
        let step = run.plan.step(step);
        let told: Vec<Counted> = self
            .counted
            .iter()
            .filter(|((_, run), _)| *run == of)
            .map(|(_, counted)| *counted)
            .collect();
        #[allow(clippy::cast_precision_loss)] // milliseconds of a few minutes
        let fits = |counted: &Counted| {
            let (started, failed) = counted.canary;
            let share = failed as f64 / started.max(1) as f64;
            let defect = if started == 0 {
                Defect::ALL
            } else {
                Defect::of(share)
            };
            let most = budget.of_release().0 as f64;
            (counted.spent + step.cost(defect).0 as f64) * PLAINLY <= most + MARGIN
        };
        if !told.is_empty() && !told.iter().any(fits) {
            self.violated(format!(
                "run {} rose to {} beyond its error budget of {} ms: {told:?}",
                of.1,
                step.weight,
                budget.of_release().0
            ));
        }
    }
}
