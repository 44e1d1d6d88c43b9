//! A status, as people and tools read it: made anew from what is known, never changed in place. The machine's memory is put
//! beside it by the session.

use aviary_crds::CanaryRolloutStatus;
use aviary_crds::status::{
    CanaryStatus, CauseStatus, ExposureStatus, FailureStatus, GuardStatus, PausedByStatus,
    Phase as PhaseName, StableStatus, StepStatus, WeightStatus,
};
use rollout_core::exposure::ErrorBudget;
use rollout_core::plan::Percent;
use rollout_core::state::{Cause, Phase, State};
use rollout_core::time::Time;
use rollout_core::{Copies, Waiting, desired};

use super::conditions;
use super::events::because;
use super::exposing::Spending;
use super::facts::Facts;
use super::guarding::Guarded;
use super::verdicts::micro_time;
use crate::error_budget::outage;

/// The status, but for the machine's memory; conditions keep the times of `before`.
pub(super) fn status(facts: &Facts<'_>, before: &CanaryRolloutStatus) -> CanaryRolloutStatus {
    let mut new = CanaryRolloutStatus {
        observed_generation: facts.generation,
        conditions: before.conditions.clone(),
        machine: before.machine.clone(),
        verdicts: facts.verdicts.records().to_vec(),
        verdict: facts.verdicts.newest(),
        decisions: facts.decisions.to_vec(),
        ..CanaryRolloutStatus::default()
    };
    match facts.state {
        Some(state) => of_state(&mut new, facts, state),
        None => {
            // Nothing is known now: what was known stays to be seen.
            new = CanaryRolloutStatus {
                observed_generation: facts.generation,
                ..before.clone()
            };
        }
    }
    conditions::set(&mut new, facts);
    new
}

fn of_state(new: &mut CanaryRolloutStatus, facts: &Facts<'_>, state: &State) {
    new.phase = Some(phase_name(state, facts.waiting()));
    new.phase_since = since(state.phase).map(micro_time);
    if !matches!(state.phase, Phase::Unsettled { .. }) {
        new.stable = Some(StableStatus {
            revision: state.stable.revision.clone(),
            content: state.stable.content.clone(),
        });
    }
    let runs = !matches!(
        state.phase,
        Phase::Unsettled { .. } | Phase::Stable | Phase::Failed
    );
    let needed = match &desired(state).copy {
        Copies::One { replicas, .. } => *replicas,
        Copies::None => 0,
    };
    new.canary = state.run.as_ref().map(|run| {
        let ready = facts
            .look
            .copy_of(&run.canary.revision)
            .map_or(0, |copy| super::deployment::ready(copy));
        CanaryStatus {
            revision: run.canary.revision.clone(),
            content: run.canary.content.clone(),
            run: signed(run.number),
            started_at: Some(micro_time(run.started_at)),
            ready: runs.then(|| count(ready)),
            needed: runs.then(|| count(needed)),
            unready_since: run.unready_since.filter(|_| runs).map(micro_time),
            requests: signed(run.requests),
            failed_windows: count(run.failed_in_a_row),
        }
    });
    new.step = state
        .run
        .as_ref()
        .zip(state.phase.step())
        .map(|(run, index)| StepStatus {
            index: i32::try_from(index).unwrap_or(i32::MAX),
            position: format!("{}/{}", index + 1, run.plan.steps().len()),
            weight: i32::from(run.plan.step(index).weight.get()),
            soak_ends_at: soak_ends_at(state).map(micro_time),
            pause_ends_at: match facts.waiting() {
                Some(Waiting::Pause { until }) => until.map(micro_time),
                Some(
                    Waiting::Failure | Waiting::Stable | Waiting::Exposure | Waiting::Evidence,
                )
                | None => None,
            },
        });
    let hold = state.running().and_then(|run| run.on_hold.as_ref());
    new.paused_by = hold.map(|hold| PausedByStatus {
        user: hold.by.to_string(),
        since: micro_time(hold.since),
    });
    let acks = &facts.look.heard.acks;
    let wanted = desired(state).weight();
    let sent = facts.look.heard.sent.canary;
    new.weight = Some(WeightStatus {
        desired: percent(wanted),
        sent: sent.map_or(0, |(_, weight)| percent(weight.min(wanted))),
        // While nothing is released, who is there is nobody's business: a status that followed it would never rest.
        acknowledged: if runs { count(acks.acknowledged) } else { 0 },
        proxies: if runs { count(acks.proxies) } else { 0 },
    });
    new.guard = facts.guarded.map(|guarded| guard(guarded, facts.foresight));
    let budget = state.running().and_then(|run| run.plan.exposure);
    new.exposure = facts
        .spending
        .zip(budget)
        .map(|(spending, budget)| exposure(spending, budget));
    new.failure = state.failure.as_ref().map(|failure| FailureStatus {
        revision: failure.template.revision.clone(),
        content: failure.template.content.clone(),
        run: signed(failure.run),
        cause: cause_name(failure.cause),
        at: Some(micro_time(failure.at)),
        message: match &failure.by {
            Some(by) => because(failure.cause, by.name()),
            None => facts.verdicts.failure().to_owned(),
        },
    });
}

pub(super) fn guard(guarded: &Guarded, foresight: Option<&str>) -> GuardStatus {
    GuardStatus {
        requests: signed(guarded.canary.started),
        failed: signed(guarded.canary.errors),
        stable_requests: signed(guarded.stable.started),
        stable_failed: signed(guarded.stable.errors),
        evidence: format!("{}%", guarded.percent_to_alarm()),
        foresight: foresight.map(str::to_owned),
    }
}

pub(super) fn exposure(spending: &Spending, budget: ErrorBudget) -> ExposureStatus {
    let exposed = spending.spent.exposed();
    ExposureStatus {
        spent: outage(exposed.spent),
        budget: outage(budget.of_release()),
        undetected: exposed.defect.to_string(),
    }
}

/// Whether people would see a difference.
pub(super) fn differs(a: &CanaryRolloutStatus, b: &CanaryRolloutStatus) -> bool {
    let bare = |status: &CanaryRolloutStatus| CanaryRolloutStatus {
        machine: None,
        // They change with every second: they are written with whatever else is.
        guard: None,
        exposure: None,
        ..status.clone()
    };
    bare(a) != bare(b)
}

/// Pausing is no phase of the machine: it is what people see of a soak that goes nowhere by itself.
fn phase_name(state: &State, waiting: Option<Waiting>) -> PhaseName {
    let on_hold = state.running().is_some_and(|run| run.on_hold.is_some());
    match state.phase {
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. }
            if on_hold || matches!(waiting, Some(Waiting::Pause { .. } | Waiting::Failure)) =>
        {
            PhaseName::Paused
        }
        Phase::Unsettled { .. } => PhaseName::Unsettled,
        Phase::Stable => PhaseName::Stable,
        Phase::Scaling { step: 0, .. } => PhaseName::Starting,
        Phase::Scaling { .. } => PhaseName::Scaling,
        Phase::Shifting { .. } => PhaseName::Shifting,
        Phase::Soaking { .. } => PhaseName::Soaking,
        Phase::Promoting { .. } => PhaseName::Promoting,
        Phase::Returning { .. } => PhaseName::Returning,
        Phase::RollingBack { .. } => PhaseName::RollingBack,
        Phase::Failed => PhaseName::Failed,
    }
}

fn since(phase: Phase) -> Option<Time> {
    match phase {
        Phase::Unsettled { since, .. }
        | Phase::Scaling { since, .. }
        | Phase::Shifting { since, .. }
        | Phase::Soaking { since, .. }
        | Phase::Promoting { since }
        | Phase::Returning { since, .. }
        | Phase::RollingBack { since, .. } => Some(since),
        Phase::Stable | Phase::Failed => None,
    }
}

fn soak_ends_at(state: &State) -> Option<Time> {
    let run = state.run.as_ref()?;
    match state.phase {
        Phase::Soaking { step, since } => Some(since + run.plan.step(step).soak),
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Scaling { .. }
        | Phase::Shifting { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => None,
    }
}

fn cause_name(cause: Cause) -> CauseStatus {
    match cause {
        Cause::AnalysisFailed => CauseStatus::AnalysisFailed,
        Cause::WorseThanStable => CauseStatus::WorseThanStable,
        Cause::ProgressDeadlineExceeded => CauseStatus::ProgressDeadlineExceeded,
        Cause::CanaryLost => CauseStatus::CanaryLost,
        Cause::NotMeshed => CauseStatus::NotMeshed,
        Cause::Aborted => CauseStatus::Aborted,
        Cause::HookRefused => CauseStatus::HookRefused,
        Cause::Revoked => CauseStatus::Revoked,
        Cause::TemplateReverted => CauseStatus::TemplateReverted,
        Cause::Deleted => CauseStatus::Deleted,
        Cause::BreakGlass => CauseStatus::BreakGlass,
        Cause::FoundPaused => CauseStatus::FoundPaused,
    }
}

fn percent(weight: Percent) -> i32 {
    i32::from(weight.get())
}

fn count(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
