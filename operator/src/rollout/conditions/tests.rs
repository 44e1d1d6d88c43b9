use aviary_crds::status::Phase as PhaseName;
use kube_runtime::watcher::Event;
use rollout_core::exposure::{ErrorBudget, Spent};
use rollout_core::plan::{Pause, Percent, Plan};
use rollout_core::state::{Phase, Unsettled};
use rollout_core::time::{Span, Time};
use serde_json::{Value, json};

use super::*;
use crate::key::Key;
use crate::rollout::exposing::Spending;
use crate::rollout::heard::{Acknowledgement, Laggard};
use crate::rollout::measure::StableOutcome;
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
    stable: StableOutcome,
    paused: bool,
    spending: Option<Spending>,
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
        stable: StableOutcome::default(),
        paused: false,
        spending: None,
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
        let (views, mut writers) = testing::views();
        if self.paused {
            let deployment = testing::object(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"namespace": "shop", "name": "payment", "uid": "uid", "labels": {"aviary.dev/rollout": "payment"}},
                "spec": {"paused": true, "template": {}},
            }));
            writers.originals.apply(Event::Apply(deployment));
        }
        let rollout = testing::rollout(json!({"spec": self.spec}));
        let mut look = testing::look_at(&views, rollout, self.now);
        look.heard.acks = self.acks.clone();
        look.heard.sent.strangers = self.strangers.clone();
        let mut verdicts = Verdicts::default();
        let mut answer = testing::answer(self.outside);
        answer.outcome.as_mut().unwrap().stable = self.stable.clone();
        verdicts.count(&answer, Percent::ALL);
        let facts = Facts {
            look: &look,
            state: Some(&self.state),
            plan: Some(&plan),
            verdicts: &verdicts,
            decisions: &[],
            guarded: None,
            foresight: None,
            spending: self.spending.as_ref(),
            withheld: None,
            hook: None,
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

/// One that was paused, and had its template put back, before we saw it.
#[test]
fn a_deployment_that_is_paused_at_rest_is_said_with_the_way_out() {
    let mut rests = case(Phase::Stable);
    rests.state.target = rests.state.stable.clone();
    rests.state.gated = false;
    assert!(!rests.message().contains("paused"), "{}", rests.message());
    rests.paused = true;
    let message = rests.message();
    let way_out = "kubectl rollout resume deployment/payment -n shop";
    assert!(message.contains(way_out), "{message}");
    rests.state.gated = true;
    assert!(!rests.message().contains("paused"), "we resume it");
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
        "waiting for shop/client-1, shop/client-2 until 00:01:01Z; who has no time there is connected: see the log of its sidecar",
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
        reason: Reason::CopyNotMade,
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

/// Soaks since 0 in the first step, which pauses, and has passed.
fn paused(pause: Pause) -> Case {
    let mut paused = case(soaking());
    let mut steps = testing::plan().steps().to_vec();
    steps[0].pause = Some(pause);
    let run = paused.state.run.as_mut().unwrap();
    run.plan = Plan::new(steps, *testing::plan()).unwrap();
    run.failed_in_a_row = 0;
    run.paused_since = Some(Time(90_000));
    paused.now = Time(100_000);
    paused
}

const PROMOTE: &str =
    "kubectl -n shop annotate --overwrite canaryrollout payment aviary.dev/request=promote:new@10";

#[test]
fn a_paused_step_is_not_stalled_and_says_who_lets_it_go_on_and_how() {
    let status = paused(Pause::Promote).status();
    assert_eq!(status.phase, Some(PhaseName::Paused));
    assert_eq!(value(&status, condition::RECONCILING), "True/Paused");
    assert_eq!(value(&status, condition::STALLED), "False/Paused");
    assert_eq!(status.step.unwrap().pause_ends_at, None);
    assert_eq!(
        status.message.unwrap(),
        format!(
            "step 1/2: passed, and pauses: revision new keeps weight 10% until a person lets it go on ({PROMOTE}), or takes the pause out of spec.steps."
        )
    );
}

#[test]
fn a_pause_with_a_length_says_when_it_ends_and_what_comes_then() {
    let status = paused(Pause::For(Span::seconds(600))).status();
    let message = status.message.unwrap();
    assert!(
        message.contains("until 00:11:30Z, then weight 100%; sooner: kubectl"),
        "{message}"
    );
    let ends = status.step.unwrap().pause_ends_at.unwrap();
    assert_eq!(ends.0.as_millisecond(), 690_000);
}

#[test]
fn a_soak_before_a_pause_says_that_it_comes() {
    let mut soaks = paused(Pause::Promote);
    soaks.now = Time(30_000);
    soaks.state.run.as_mut().unwrap().paused_since = None;
    let message = soaks.message();
    assert!(
        message.contains("1m more, then it waits for a person"),
        "{message}"
    );
}

#[test]
fn a_failure_that_pauses_is_stalled_and_says_both_ways_out() {
    let mut failed = paused(Pause::Promote);
    failed.state.run.as_mut().unwrap().failed_since = Some(Time(95_000));
    let status = failed.status();
    assert_eq!(status.phase, Some(PhaseName::Paused));
    assert_eq!(value(&status, condition::STALLED), "True/FailurePaused");
    let message = status.message.unwrap();
    for part in ["keeps weight 10%", "Put the stable template back", PROMOTE] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_release_that_is_held_because_stable_fails_says_so_and_how_a_fix_goes_on() {
    let mut held = paused(Pause::Promote);
    held.state.run.as_mut().unwrap().stable_fails = true;
    held.stable = StableOutcome {
        fails: Some(true),
        words: "success-rate: 90.00% of 1000 requests, at least 99% asked for".to_owned(),
    };
    let status = held.status();
    assert_eq!(status.phase, Some(PhaseName::Soaking));
    assert_eq!(value(&status, condition::STALLED), "True/StableFailing");
    let message = status.message.unwrap();
    for part in [
        "the stable revision old fails the checks too (success-rate: 90.00%",
        "If it is the fix, let it go on",
        PROMOTE,
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_hold_for_missing_evidence_says_how_long_and_what_comes_then() {
    let mut held = case(soaking());
    held.now = Time(90_000 + 60_000);
    let run = held.state.run.as_mut().unwrap();
    (run.failed_in_a_row, run.passed) = (0, false);
    let message = held.message();
    assert!(
        message.contains("it is waited for, 9m more; then weight 100% if at least 15 requests were judged, else it waits (spec.analysis.noEvidence)"),
        "{message}"
    );
    held.state.run.as_mut().unwrap().requests = 0;
    held.now = Time(90_000 + 600_000);
    let status = held.status();
    assert_eq!(value(&status, condition::STALLED), "True/Inconclusive");
    assert!(status.message.unwrap().contains(PROMOTE));
}

#[test]
fn whatever_takes_longer_than_the_deadline_is_stalled() {
    let since = Time(0);
    let covered = Percent::ZERO;
    for phase in [
        Phase::Shifting { step: 0, since },
        Phase::Promoting { since },
        Phase::Returning { covered, since },
        Phase::RollingBack {
            cause: Cause::AnalysisFailed,
            since,
        },
        Phase::Unsettled {
            why: Unsettled::Rolling,
            since,
        },
        Phase::Unsettled {
            why: Unsettled::Clearing,
            since,
        },
        Phase::Unsettled {
            why: Unsettled::LetGo,
            since,
        },
    ] {
        let mut late = case(phase);
        late.state.run.as_mut().unwrap().failed_in_a_row = 0;
        for (now, expected) in [(599_999, "False"), (600_000, "True")] {
            late.now = Time(now);
            let stalled = value(&late.status(), condition::STALLED);
            assert!(stalled.starts_with(expected), "{phase:?}: {stalled}");
        }
    }
}

/// 10 % are soaked, 100 % for 90 s is next, and 60 s in which everything fails may be spent.
fn budgeted(seconds: i64, canary: (u64, u64)) -> Case {
    let mut held = case(soaking());
    let run = held.state.run.as_mut().unwrap();
    run.failed_in_a_row = 0;
    let limits = rollout_core::plan::Limits {
        exposure: ErrorBudget::try_new(990_000, 1, 69_445).ok(),
        ..*run.plan
    };
    run.plan = Plan::new(run.plan.steps().to_vec(), limits).unwrap();
    let mut spent = Spent::default();
    for at in 0..seconds {
        spent.see(at, canary.into(), (90, 0).into());
    }
    held.spending = Some(Spending {
        run: run.number,
        spent,
    });
    held.now = Time(100_000);
    held
}

#[test]
fn a_raise_that_could_spend_too_much_says_by_how_much_and_what_mends_it() {
    let mut held = budgeted(1, (1, 0));
    let status = held.status();
    assert_eq!(
        status.message.as_deref(),
        Some(
            "step 1/2: revision new keeps weight 10%: weight 100% for 1m30s could spend 1m05s of full outage, and 1m00s are left of the 1m00s that a release may spend (6.9445% of the error budget of 99% over 1d). 0 of its 1 first attempts failed, so up to 73% more of its requests than of stable's may fail without having been seen; 67% would fit. It goes on when more of the canary's requests rule that out; sooner with less weight or a shorter soak of the next step, a longer soak of this one in the next release, or a larger spec.analysis.exposure.budget. A person can take it on: kubectl -n shop annotate --overwrite canaryrollout payment aviary.dev/request=promote:new@10."
        )
    );
    assert_eq!(value(&status, condition::RECONCILING), "True/ErrorBudget");
    assert_eq!(value(&status, condition::STALLED), "False/ErrorBudget");
    // Longer than evidence is waited for.
    held.now = Time(90_000 + 600_000);
    assert_eq!(
        value(&held.status(), condition::STALLED),
        "True/ErrorBudget"
    );
    held.spending = None;
    let message = held.message();
    let nothing = "No sidecar has told of a request to it, so up to 100% more";
    assert!(message.contains(nothing), "{message}");
}

#[test]
fn a_release_that_has_spent_too_much_is_stalled_and_says_what_it_spent() {
    let held = budgeted(700, (10, 9));
    let status = held.status();
    let message = status.message.clone().unwrap();
    for part in [
        "its failures beyond stable's have spent 1m03s of full outage, and a release may spend 1m00s",
        "6300 of its 7000 first attempts failed",
        "Put the stable template back to end it",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(value(&status, condition::STALLED), "True/ErrorBudget");
    let exposure = status.exposure.unwrap();
    let shown = (exposure.spent, exposure.budget, exposure.undetected);
    assert_eq!(
        shown,
        ("1m03s".to_owned(), "1m00s".to_owned(), "91%".to_owned())
    );
}
