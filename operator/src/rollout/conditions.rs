//! The conditions of a status, for tools.
//!
//! `Ready`, `Reconciling` and `Stalled` follow kstatus: while a release runs an object is Reconciling; Stalled means that
//! nothing moves until somebody acts.

mod standing;

use aviary_crds::condition;
use aviary_crds::status::{CanaryRolloutStatus, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time as KubeTime};
use k8s_openapi::jiff::Timestamp;
use rollout_core::state::{Cause, State};

use super::events::{from_outside, why};
use super::facts::Facts;
use super::sentence::sentence;
use crate::reason::Reason;
use crate::text::cut;
use standing::Standing;

/// The longest message, in bytes.
const MESSAGE: usize = 1500;

/// Sets all conditions, and the sentence. A problem outranks everything.
pub(super) fn set(status: &mut CanaryRolloutStatus, facts: &Facts<'_>) {
    let message = match facts.problem {
        Some(problem) => problem.message.clone(),
        None => sentence(facts),
    };
    let message = cut(message, MESSAGE);
    status.message = Some(message.clone());
    let mut conditions = std::mem::take(&mut status.conditions);
    let mut put = |type_: &str, value: &str, reason: &str, message: String| {
        set_condition(&mut conditions, type_, value, reason, message, facts);
    };
    let standing = Standing::of(status, facts);
    let stalled = standing.stalled;
    put(
        condition::READY,
        truth(standing.ready),
        standing.reason,
        message.clone(),
    );
    put(
        condition::RECONCILING,
        truth(standing.reconciling),
        standing.reason,
        message.clone(),
    );
    let why = if stalled { message } else { String::new() };
    put(condition::STALLED, truth(stalled), standing.reason, why);
    if let Some(state) = facts.state {
        let (value, reason) = match status.verdict {
            Some(Verdict::Pass) => ("True", Reason::Passed),
            Some(Verdict::Fail) => ("False", Reason::Failed),
            Some(Verdict::NoEvidence) => ("Unknown", Reason::NoEvidence),
            None => ("Unknown", Reason::NotJudgedYet),
        };
        put(
            condition::ANALYSIS,
            value,
            reason.name(),
            facts.verdicts.judged().to_owned(),
        );
        let (value, reason, message) = promoted(state);
        put(condition::PROMOTED, value, reason, message);
        let (value, reason, message) = rolled_back(state, facts);
        put(condition::ROLLED_BACK, value, reason, message);
        let (value, reason, message) = outside_callers(state, facts.verdicts.outside());
        put(condition::OUTSIDE_CALLERS, value, reason, message);
    }
    match &facts.look.lacking {
        None => put(
            condition::MESHED,
            "True",
            Reason::Meshed.name(),
            String::new(),
        ),
        Some(lacking) => put(
            condition::MESHED,
            "False",
            lacking.reason.name(),
            lacking.message.clone(),
        ),
    }
    let strangers = &facts.look.heard.sent.strangers;
    if strangers.is_empty() {
        put(
            condition::EXCLUSIVE,
            "True",
            Reason::Exclusive.name(),
            String::new(),
        );
    } else {
        let message = format!(
            "not all pods behind the Services are of Deployment {}: {}; they serve in the stable arm, and are never a part of a release",
            facts.look.rollout.spec.target_ref.name,
            strangers.join(", ")
        );
        put(
            condition::EXCLUSIVE,
            "False",
            Reason::NotExclusive.name(),
            cut(message, MESSAGE),
        );
    }
    status.conditions = conditions;
}

fn promoted(state: &State) -> (&'static str, &'static str, String) {
    match &state.run {
        Some(run) if run.canary == state.stable && state.failure.is_none() => (
            "True",
            Reason::Promoted.name(),
            format!("revision {} was promoted", run.canary.revision),
        ),
        Some(_) => ("False", Reason::NotPromoted.name(), String::new()),
        None => ("False", Reason::NothingReleasedYet.name(), String::new()),
    }
}

fn rolled_back(state: &State, facts: &Facts<'_>) -> (&'static str, &'static str, String) {
    match &state.failure {
        Some(failure) if failure.cause != Cause::FoundPaused => (
            "True",
            failure.cause.name(),
            format!(
                "revision {}: {}",
                failure.template.revision,
                why(state, failure.cause, facts.verdicts.failure())
            ),
        ),
        Some(_) | None => ("False", Reason::NotRolledBack.name(), String::new()),
    }
}

fn outside_callers(state: &State, a_minute: Option<u64>) -> (&'static str, &'static str, String) {
    match (state.running(), a_minute) {
        (None, _) => ("False", Reason::NoRelease.name(), String::new()),
        (Some(_), None) => ("Unknown", Reason::NotMeasured.name(), String::new()),
        (Some(_), Some(0)) => ("False", Reason::NoneSeen.name(), String::new()),
        (Some(_), Some(requests)) => (
            "True",
            Reason::CallsFromOutside.name(),
            from_outside(requests),
        ),
    }
}

/// What tools see of the conditions.
pub(super) fn reasons(status: &CanaryRolloutStatus) -> Vec<(&str, &str, &str)> {
    status
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
        .collect()
}

fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// A condition keeps the time of its last change of status.
fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    value: &str,
    reason: &str,
    message: String,
    facts: &Facts<'_>,
) {
    let old = conditions.iter().find(|old| old.type_ == type_);
    let since = old.filter(|old| old.status == value).map_or_else(
        || {
            let now = Timestamp::from_millisecond(facts.look.now.0);
            KubeTime(now.unwrap_or(Timestamp::UNIX_EPOCH))
        },
        |old| old.last_transition_time.clone(),
    );
    let new = Condition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: facts.generation,
    };
    match conditions.iter_mut().find(|old| old.type_ == type_) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests;
