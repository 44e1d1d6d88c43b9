//! The conditions of a status, for tools.
//!
//! `Ready`, `Reconciling` and `Stalled` follow kstatus: while a release runs an object is Reconciling; Stalled means that
//! nothing moves until somebody acts.

use aviary_crds::condition;
use aviary_crds::status::{CanaryRolloutStatus, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time as KubeTime};
use k8s_openapi::jiff::Timestamp;
use rollout_core::advance::inconclusive;
use rollout_core::state::{Cause, Phase, State, Unsettled};

use super::events::{because, from_outside};
use super::facts::Facts;
use super::sentence::sentence;
use crate::text::cut;

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
            Some(Verdict::Pass) => ("True", "Passed"),
            Some(Verdict::Fail) => ("False", "Failed"),
            Some(Verdict::NoEvidence) => ("Unknown", "NoEvidence"),
            None => ("Unknown", "NotJudgedYet"),
        };
        put(
            condition::ANALYSIS,
            value,
            reason,
            facts.verdicts.judged().to_owned(),
        );
        let (value, reason, message) = promoted(state);
        put(condition::PROMOTED, value, reason, message);
        let (value, reason, message) = rolled_back(state, facts);
        put(condition::ROLLED_BACK, value, reason, message);
        let (value, reason, message) = outside_callers(state, facts.verdicts.outside());
        put(condition::OUTSIDE_CALLERS, value, reason, message);
    }
    let strangers = &facts.look.heard.sent.strangers;
    if strangers.is_empty() {
        put(condition::EXCLUSIVE, "True", "Exclusive", String::new());
    } else {
        let message = format!(
            "not all pods behind the Services are of Deployment {}: {}; they serve in the stable arm, and are never a part of a release",
            facts.look.rollout.spec.target_ref.name,
            strangers.join(", ")
        );
        put(
            condition::EXCLUSIVE,
            "False",
            "NotExclusive",
            cut(message, MESSAGE),
        );
    }
    status.conditions = conditions;
}

/// What kstatus asks for.
struct Standing {
    ready: bool,
    reconciling: bool,
    stalled: bool,
    reason: &'static str,
}

impl Standing {
    fn of(status: &CanaryRolloutStatus, facts: &Facts<'_>) -> Standing {
        let name = status.phase.map_or("Pending", |phase| phase.name());
        let standing = |ready, reconciling, stalled, reason| Standing {
            ready,
            reconciling,
            stalled,
            reason,
        };
        let now = facts.look.now;
        let of_phase = match facts.state.map(|state| (state, state.phase)) {
            None => standing(false, false, false, name),
            Some((state, Phase::Stable)) if state.target == state.stable => {
                standing(true, false, false, name)
            }
            Some((state, Phase::Failed)) => {
                let found = state.failure.as_ref().map(|failure| failure.cause);
                let reason = match found {
                    Some(Cause::FoundPaused) => "FoundPaused",
                    Some(_) | None => name,
                };
                standing(false, false, true, reason)
            }
            Some((_, Phase::Unsettled { why, .. })) => match why {
                Unsettled::Rolling => standing(false, true, false, "Rolling"),
                Unsettled::HalfRolled => standing(false, false, true, "HalfRolled"),
                Unsettled::NothingServes => standing(false, false, true, "NothingServes"),
                Unsettled::BreakGlass => standing(false, false, true, "BreakGlass"),
                Unsettled::Clearing => standing(false, true, false, "Clearing"),
                Unsettled::Leaving => standing(false, true, false, "Leaving"),
            },
            Some((
                state,
                Phase::Promoting { since }
                | Phase::Shifting { since, .. }
                | Phase::Returning { since, .. },
            )) => {
                let late = state
                    .run
                    .as_ref()
                    .is_some_and(|run| now - since >= run.plan.progress_deadline);
                standing(false, true, late, name)
            }
            Some((state, Phase::Soaking { .. })) if inconclusive(state, now) => {
                standing(false, true, true, "Inconclusive")
            }
            Some((
                _,
                Phase::Stable
                | Phase::Scaling { .. }
                | Phase::Soaking { .. }
                | Phase::RollingBack { .. },
            )) => standing(false, true, false, name),
        };
        match facts.problem {
            Some(problem) => Standing {
                ready: false,
                stalled: true,
                reason: problem.reason,
                ..of_phase
            },
            None => of_phase,
        }
    }
}

fn promoted(state: &State) -> (&'static str, &'static str, String) {
    match &state.run {
        Some(run) if run.canary == state.stable && state.failure.is_none() => (
            "True",
            "Promoted",
            format!("revision {} was promoted", run.canary.revision),
        ),
        Some(_) => ("False", "NotPromoted", String::new()),
        None => ("False", "NothingReleasedYet", String::new()),
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
                because(failure.cause, facts.verdicts.failure())
            ),
        ),
        Some(_) | None => ("False", "NotRolledBack", String::new()),
    }
}

/// Why `OutsideCallers` is True, and the note about it.
pub(super) const FROM_OUTSIDE: &str = "CallsFromOutside";

fn outside_callers(state: &State, a_minute: Option<u64>) -> (&'static str, &'static str, String) {
    match (state.running(), a_minute) {
        (None, _) => ("False", "NoRelease", String::new()),
        (Some(_), None) => ("Unknown", "NotMeasured", String::new()),
        (Some(_), Some(0)) => ("False", "NoneSeen", String::new()),
        (Some(_), Some(requests)) => ("True", FROM_OUTSIDE, from_outside(requests)),
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
mod tests {
    use rollout_core::plan::{Percent, Plan};
    use rollout_core::time::Time;
    use serde_json::{Value, json};

    use super::*;
    use crate::key::Key;
    use crate::rollout::heard::{Acknowledgement, Laggard};
    use crate::rollout::problems::Problem;
    use crate::rollout::render;
    use crate::rollout::testing::{self, state};
    use crate::rollout::verdicts::Verdicts;

    struct Case {
        state: State,
        spec: Value,
        acks: Acknowledgement,
        strangers: Vec<String>,
        problem: Option<Problem>,
        outside: Option<u64>,
        now: Time,
    }

    fn case(phase: Phase) -> Case {
        Case {
            state: state(phase),
            spec: json!({}),
            acks: Acknowledgement::default(),
            strangers: Vec::new(),
            problem: None,
            outside: None,
            now: Time(30_000),
        }
    }

    fn soaking() -> Phase {
        Phase::Soaking {
            step: 0,
            since: Time(0),
        }
    }

    impl Case {
        fn status(&self) -> CanaryRolloutStatus {
            let plan: Plan = testing::plan();
            let mut look = testing::look(testing::rollout(json!({"spec": self.spec})), self.now);
            look.heard.acks = self.acks.clone();
            look.heard.sent.strangers = self.strangers.clone();
            let mut verdicts = Verdicts::default();
            verdicts.count(&testing::answer(self.outside), Percent::ALL);
            let facts = Facts {
                look: &look,
                state: Some(&self.state),
                plan: Some(&plan),
                verdicts: &verdicts,
                problem: self.problem.as_ref(),
                generation: Some(3),
            };
            render::status(&facts, &CanaryRolloutStatus::default())
        }

        fn message(&self) -> String {
            self.status().message.unwrap()
        }
    }

    fn value(status: &CanaryRolloutStatus, type_: &str) -> String {
        let condition = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
        format!("{}/{}", condition.status, condition.reason)
    }

    #[test]
    fn a_soak_says_how_long_it_takes_and_what_comes_then() {
        let status = case(soaking()).status();
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
        assert_eq!(value(&status, condition::EXCLUSIVE), "True/Exclusive");
    }

    #[test]
    fn a_failure_is_stalled_and_says_what_to_do() {
        let status = case(Phase::Failed).status();
        assert_eq!(value(&status, condition::STALLED), "True/Failed");
        assert_eq!(
            value(&status, condition::ROLLED_BACK),
            "True/AnalysisFailed"
        );
        let message = status.message.unwrap();
        assert!(message.contains("change the template"), "{message}");
    }

    #[test]
    fn what_was_found_paused_did_not_fail_and_says_what_to_do() {
        let mut found = case(Phase::Failed);
        found.state.run = None;
        found.state.failure.as_mut().unwrap().cause = Cause::FoundPaused;
        let status = found.status();
        assert_eq!(value(&status, condition::STALLED), "True/FoundPaused");
        assert_eq!(
            value(&status, condition::ROLLED_BACK),
            "False/NotRolledBack"
        );
        let message = status.message.unwrap();
        assert!(
            message.contains("found paused on revision new"),
            "{message}"
        );
    }

    #[test]
    fn who_lags_until_when_and_who_refuses_is_named() {
        let mut lagging = case(Phase::Shifting {
            step: 0,
            since: Time(0),
        });
        lagging.spec = json!({"suspend": true});
        lagging.acks = Acknowledgement {
            proxies: 3,
            acknowledged: 1,
            settled: 1,
            laggards: vec![
                Laggard {
                    pod: Key::new("shop", "client-1"),
                    until: None,
                },
                Laggard {
                    pod: Key::new("shop", "client-2"),
                    until: Some(Time(61_000)),
                },
            ],
            rejected: Some("shop/client-1: route has no stable arm".to_owned()),
        };
        let message = lagging.message();
        for part in [
            "1 of 3 proxies",
            "waiting for shop/client-1, shop/client-2 until 00:01:01Z",
            "route has no stable arm",
            "Suspended",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_problem_outranks_the_phase() {
        let mut stuck = case(soaking());
        stuck.problem = Some(Problem {
            reason: "CopyNotMade",
            message: "exceeded quota".to_owned(),
        });
        let status = stuck.status();
        assert_eq!(value(&status, condition::READY), "False/CopyNotMade");
        assert_eq!(value(&status, condition::STALLED), "True/CopyNotMade");
        assert_eq!(value(&status, condition::RECONCILING), "True/CopyNotMade");
        assert_eq!(status.message.as_deref(), Some("exceeded quota"));
    }

    #[test]
    fn pods_of_something_else_behind_the_service_are_named() {
        let mut shared = case(Phase::Stable);
        shared.strangers = vec!["pod shop/other-1".to_owned()];
        let status = shared.status();
        assert_eq!(value(&status, condition::EXCLUSIVE), "False/NotExclusive");
        let said = status
            .conditions
            .iter()
            .find(|c| c.type_ == condition::EXCLUSIVE);
        assert!(said.unwrap().message.contains("pod shop/other-1"));
    }

    #[test]
    fn callers_that_no_weight_holds_are_counted_while_a_release_runs() {
        let mut called = case(soaking());
        assert_eq!(
            value(&called.status(), condition::OUTSIDE_CALLERS),
            "Unknown/NotMeasured"
        );
        called.outside = Some(0);
        assert_eq!(
            value(&called.status(), condition::OUTSIDE_CALLERS),
            "False/NoneSeen"
        );
        called.outside = Some(120);
        let status = called.status();
        assert_eq!(
            value(&status, condition::OUTSIDE_CALLERS),
            "True/CallsFromOutside"
        );
        let said = status
            .conditions
            .iter()
            .find(|c| c.type_ == condition::OUTSIDE_CALLERS);
        let message = &said.unwrap().message;
        for part in ["about 120 requests", "aviary.dev/inject=enabled"] {
            assert!(message.contains(part), "{message}");
        }
        called.state.phase = Phase::Failed;
        assert_eq!(
            value(&called.status(), condition::OUTSIDE_CALLERS),
            "False/NoRelease"
        );
    }

    #[test]
    fn evidence_that_allows_nothing_is_said_to_be_inconclusive() {
        let mut late = case(soaking());
        late.now = Time(90_000 + 600_000);
        let status = late.status();
        assert_eq!(value(&status, condition::STALLED), "True/Inconclusive");
    }

    #[test]
    fn every_doubt_about_what_serves_says_why() {
        let reasons: std::collections::BTreeSet<String> = Unsettled::ALL
            .map(|why| {
                let status = case(Phase::Unsettled {
                    why,
                    since: Time(0),
                })
                .status();
                assert!(value(&status, condition::READY).starts_with("False/"));
                value(&status, condition::RECONCILING)
            })
            .into();
        assert_eq!(reasons.len(), Unsettled::ALL.len());
    }

    /// Refusals and reasons of others can be long: etcd takes 1.5 MiB in all.
    #[test]
    fn a_status_stays_small_whatever_others_say() {
        let mut loud = case(Phase::Shifting {
            step: 0,
            since: Time(0),
        });
        loud.acks.proxies = 1;
        loud.acks.rejected = Some("x".repeat(1 << 20));
        loud.strangers = vec!["y".repeat(1 << 20)];
        let size = serde_json::to_string(&loud.status()).unwrap().len();
        assert!(size < 50_000, "{size}");
    }
}
