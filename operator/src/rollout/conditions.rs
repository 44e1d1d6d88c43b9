//! What a status says to people and to tools: one sentence, and the conditions.
//!
//! `Ready`, `Reconciling` and `Stalled` follow kstatus: while a release runs an object is Reconciling; Stalled means that
//! nothing moves until somebody acts.

use aviary_crds::condition;
use aviary_crds::status::{CanaryRolloutStatus, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time as KubeTime};
use k8s_openapi::jiff::Timestamp;
use rollout_core::plan::Plan;
use rollout_core::state::{Phase, State};
use rollout_core::time::{Span, Time};

use super::events::because;
use super::observe::Acknowledgement;

/// Why a rollout cannot do what it is asked, whatever its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// CamelCase, for tools.
    pub reason: &'static str,
    pub message: String,
}

/// What the sentence is made of.
pub struct Facts<'a> {
    pub plan: &'a Plan,
    pub state: &'a State,
    pub now: Time,
    pub target: &'a str,
    pub acknowledgement: &'a Acknowledgement,
    pub ready: u32,
    pub needed: u32,
    pub suspended: bool,
    pub frozen: bool,
    /// The newest judgement, in words.
    pub judged: &'a str,
    /// What was seen when the weight went to 0.
    pub failure: &'a str,
}

fn seconds(span: Span) -> String {
    let seconds = (span.0.max(0) + 999) / 1000;
    match (seconds / 60, seconds % 60) {
        (0, rest) => format!("{rest}s"),
        (minutes, 0) => format!("{minutes}m"),
        (minutes, rest) => format!("{minutes}m{rest}s"),
    }
}

/// What happens now, and what happens next and when.
pub fn sentence(facts: &Facts<'_>) -> String {
    let Facts {
        plan,
        state,
        now,
        target,
        acknowledgement,
        ready,
        needed,
        judged,
        ..
    } = facts;
    let canary = state
        .run
        .as_ref()
        .map_or("", |run| run.canary.revision.as_str());
    let stable = &state.stable.revision;
    let held = match (facts.suspended, facts.frozen) {
        (true, _) => " Suspended: nothing is raised until spec.suspend is false.",
        (false, true) => " Frozen: nothing is raised while the ConfigMap aviary-freeze exists.",
        (false, false) => "",
    };
    let of = |step: usize| format!("step {}/{}", step + 1, plan.steps().len());
    let lag =
        if acknowledgement.complete() {
            String::new()
        } else {
            let who = if acknowledgement.laggards.is_empty() {
                String::new()
            } else {
                format!(" (waiting for {})", acknowledgement.laggards.join(", "))
            };
            let refused = acknowledgement.rejected.as_ref().map_or_else(String::new, |text| {
            format!("; the configuration was refused by {text}: it goes on with its last good one")
        });
            format!(
                "; {} of {} proxies have acknowledged{who}{refused}",
                acknowledgement.acknowledged, acknowledgement.proxies
            )
        };
    let deadline = |since: Time| seconds((since + plan.progress_deadline) - *now);
    match state.phase {
        Phase::Stable if state.target != state.stable => {
            format!(
                "revision {stable} serves everyone; revision {} waits to be released.{held}",
                state.target.revision
            )
        }
        Phase::Stable => format!(
            "revision {stable} serves everyone; change the template of Deployment {target} to start a release"
        ),
        Phase::Scaling { step, since } => {
            let weight = plan.step(step).weight;
            format!(
                "{}: {ready} of {needed} pods of revision {canary} are Ready; then its weight goes to {weight}{lag}; rolled back in {} otherwise.{held}",
                of(step),
                deadline(since)
            )
        }
        Phase::Shifting { step, since } => {
            format!(
                "{}: weight {} of revision {canary} was sent{lag}; rolled back in {} otherwise.{held}",
                of(step),
                plan.step(step).weight,
                deadline(since)
            )
        }
        Phase::Soaking { step, since } => {
            let weight = plan.step(step).weight;
            let left = (since + plan.step(step).soak) - *now;
            let next = if plan.is_last(step) {
                "it is promoted".to_owned()
            } else {
                format!("weight {}", plan.step(step + 1).weight)
            };
            let run = state.run.as_ref();
            let wait = if left > Span(0) {
                format!("{} more, then {next}", seconds(left))
            } else if run.is_some_and(|run| run.failed_in_a_row > 0) {
                format!("the soak is over, but the last window failed ({judged})")
            } else {
                format!(
                    "the soak is over, but evidence is missing ({judged}); noEvidence decides {} after the soak",
                    seconds(plan.hold)
                )
            };
            format!(
                "{}: revision {canary} has weight {weight}: {wait}{lag}.{held}",
                of(step)
            )
        }
        Phase::Promoting { since } if *now - since >= plan.progress_deadline => {
            format!(
                "the promotion of revision {canary} is stuck: Deployment {target} does not finish its rollout (kubectl describe deployment {target}); all traffic stays on the healthy canary"
            )
        }
        Phase::Promoting { .. } => {
            format!(
                "every step passed: Deployment {target} rolls to revision {canary} while the canary carries the traffic"
            )
        }
        Phase::RollingBack { cause, .. } => {
            format!(
                "weight 0: {}; revision {stable} serves everyone, the canary's pods go when every proxy has acknowledged{lag}",
                because(cause, facts.failure)
            )
        }
        Phase::Failed => {
            let cause = state
                .failure
                .as_ref()
                .map_or_else(String::new, |failure| because(failure.cause, facts.failure));
            format!(
                "revision {canary} was rolled back: {cause}; revision {stable} serves everyone; change the template of Deployment {target} (a fixed version, or the stable one) to go on"
            )
        }
    }
}

/// Sets all conditions. `problem` outranks everything.
pub fn set(
    status: &mut CanaryRolloutStatus,
    facts: Option<&Facts<'_>>,
    problem: Option<&Problem>,
    generation: Option<i64>,
) {
    let message = match (problem, facts) {
        (Some(problem), _) => problem.message.clone(),
        (None, Some(facts)) => sentence(facts),
        (None, None) => String::new(),
    };
    status.message = Some(message.clone());
    let phase = facts.map(|facts| facts.state.phase);
    let name = status.phase.map_or("Pending", |phase| phase.name());
    let (mut ready, mut reconciling, mut stalled) = match phase {
        Some(Phase::Stable)
            if facts.is_some_and(|facts| facts.state.target == facts.state.stable) =>
        {
            ("True", "False", "False")
        }
        Some(Phase::Failed) => ("False", "False", "True"),
        Some(Phase::Promoting { since })
            if facts.is_some_and(|f| f.now - since >= f.plan.progress_deadline) =>
        {
            ("False", "True", "True")
        }
        Some(_) => ("False", "True", "False"),
        None => ("False", "False", "False"),
    };
    let mut reason = name;
    if let Some(problem) = problem {
        (ready, stalled) = ("False", "True");
        reconciling = if reconciling == "True" {
            "True"
        } else {
            "False"
        };
        reason = problem.reason;
    }
    let mut put = |type_: &str, value: &str, reason: &str, message: String| {
        set_condition(
            &mut status.conditions,
            type_,
            value,
            reason,
            message,
            generation,
        );
    };
    put(condition::READY, ready, reason, message.clone());
    put(condition::RECONCILING, reconciling, reason, message.clone());
    put(
        condition::STALLED,
        stalled,
        reason,
        if stalled == "True" {
            message
        } else {
            String::new()
        },
    );
    let Some(facts) = facts else { return };
    let (value, reason) = match status.verdict {
        Some(Verdict::Pass) => ("True", "Passed"),
        Some(Verdict::Fail) => ("False", "Failed"),
        Some(Verdict::NoEvidence) => ("Unknown", "NoEvidence"),
        None => ("Unknown", "NotJudgedYet"),
    };
    let run = facts.state.run.as_ref();
    let promoted =
        run.is_some_and(|run| run.canary == facts.state.stable) && facts.state.failure.is_none();
    let failure = facts.state.failure.as_ref();
    let mut put = |type_: &str, value: &str, reason: &str, message: String| {
        set_condition(
            &mut status.conditions,
            type_,
            value,
            reason,
            message,
            generation,
        );
    };
    put(condition::ANALYSIS, value, reason, facts.judged.to_owned());
    let revision = run.map_or_else(String::new, |run| run.canary.revision.clone());
    let (value, reason, message) = if promoted {
        (
            "True",
            "Promoted",
            format!("revision {revision} was promoted"),
        )
    } else {
        (
            "False",
            if run.is_some() {
                "NotPromoted"
            } else {
                "NothingReleasedYet"
            },
            String::new(),
        )
    };
    put(condition::PROMOTED, value, reason, message);
    let (value, reason, message) = match failure {
        Some(failure) => (
            "True",
            failure.cause.name(),
            format!(
                "revision {}: {}",
                failure.template.revision,
                because(failure.cause, facts.failure)
            ),
        ),
        None => ("False", "NotRolledBack", String::new()),
    };
    put(condition::ROLLED_BACK, value, reason, message);
}

fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    value: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
) {
    let changed_at = conditions
        .iter()
        .find(|old| old.type_ == type_ && old.status == value)
        .map_or_else(
            || KubeTime(Timestamp::now()),
            |old| old.last_transition_time.clone(),
        );
    let new = Condition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: changed_at,
        observed_generation: generation,
    };
    match conditions.iter_mut().find(|old| old.type_ == type_) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::plan::{Capacity, Limits, Percent, Step, Then};
    use rollout_core::state::{Cause, Failure, Run, Template};

    fn plan() -> Plan {
        let step = |weight| Step {
            weight: Percent::new(weight).unwrap(),
            soak: Span::seconds(90),
            min_requests: 0,
        };
        let limits = Limits {
            failure_limit: 2,
            interval: Span::seconds(10),
            hold: Span::seconds(600),
            then: Then::Advance,
            progress_deadline: Span::seconds(600),
            capacity: Capacity::Proportional,
        };
        Plan::new(vec![step(10), step(100)], limits).unwrap()
    }

    fn state(phase: Phase) -> State {
        let template = |name: &str| Template {
            revision: name.to_owned(),
            content: name.to_owned(),
        };
        let mut state = State::adopt(template("old"), 1);
        state.target = template("new");
        state.phase = phase;
        state.run = Some(Run {
            canary: template("new"),
            number: 7,
            started_at: Time(0),
            base_replicas: 4,
            judged_until: Time(0),
            failed_in_a_row: 0,
            requests: 0,
            passed: false,
            unready_since: None,
            held_since: None,
        });
        state
    }

    fn status_of(
        state: &State,
        acknowledgement: &Acknowledgement,
        suspended: bool,
    ) -> CanaryRolloutStatus {
        let plan = plan();
        let facts = Facts {
            plan: &plan,
            state,
            now: Time(30_000),
            target: "payment",
            acknowledgement,
            ready: 1,
            needed: 1,
            suspended,
            frozen: false,
            judged: "success-rate: 95% of 60 requests",
            failure: "success-rate: 95% of 60 requests",
        };
        let mut status = CanaryRolloutStatus::default();
        super::super::status::write(&mut status, Some(&plan), state);
        set(&mut status, Some(&facts), None, Some(3));
        status
    }

    fn value(status: &CanaryRolloutStatus, type_: &str) -> String {
        let condition = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
        format!("{}/{}", condition.status, condition.reason)
    }

    #[test]
    fn a_soak_says_how_long_it_takes_and_what_comes_then() {
        let status = status_of(
            &state(Phase::Soaking {
                step: 0,
                since: Time(0),
            }),
            &Acknowledgement::default(),
            false,
        );
        assert_eq!(
            status.message.as_deref(),
            Some("step 1/2: revision new has weight 10%: 1m more, then weight 100%.")
        );
        assert_eq!(value(&status, condition::READY), "False/Soaking");
        assert_eq!(value(&status, condition::RECONCILING), "True/Soaking");
        assert_eq!(value(&status, condition::STALLED), "False/Soaking");
        assert_eq!(
            value(&status, condition::ROLLED_BACK),
            "False/NotRolledBack"
        );
    }

    #[test]
    fn a_failure_is_stalled_and_says_what_to_do() {
        let mut failed = state(Phase::Failed);
        failed.failure = Some(Failure {
            template: failed.target.clone(),
            run: 7,
            cause: Cause::AnalysisFailed,
            at: Time(0),
        });
        let status = status_of(&failed, &Acknowledgement::default(), false);
        assert_eq!(value(&status, condition::STALLED), "True/Failed");
        assert_eq!(
            value(&status, condition::ROLLED_BACK),
            "True/AnalysisFailed"
        );
        let message = status.message.unwrap();
        assert!(
            message.contains("95% of 60 requests") && message.contains("change the template"),
            "{message}"
        );
    }

    #[test]
    fn who_lags_and_who_refuses_is_named() {
        let acknowledgement = Acknowledgement {
            proxies: 3,
            acknowledged: 2,
            laggards: vec!["shop/client-1".to_owned()],
            rejected: Some("shop/client-1: route has no stable arm".to_owned()),
        };
        let status = status_of(
            &state(Phase::Shifting {
                step: 0,
                since: Time(0),
            }),
            &acknowledgement,
            true,
        );
        let message = status.message.unwrap();
        for part in [
            "2 of 3 proxies",
            "waiting for shop/client-1",
            "route has no stable arm",
            "Suspended",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_problem_outranks_the_phase() {
        let mut status = CanaryRolloutStatus::default();
        let problem = Problem {
            reason: "TargetNotFound",
            message: "Deployment payment does not exist".to_owned(),
        };
        set(&mut status, None, Some(&problem), Some(1));
        assert_eq!(value(&status, condition::READY), "False/TargetNotFound");
        assert_eq!(value(&status, condition::STALLED), "True/TargetNotFound");
        assert_eq!(
            status.message.as_deref(),
            Some("Deployment payment does not exist")
        );
    }
}
