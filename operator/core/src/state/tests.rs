use super::*;
use crate::exposure::ErrorBudget;
use crate::plan::{Capacity, Deletion, Limits, OnFailure, Pause, Plan, Step, Then};
use crate::request::{By, Verb};

fn template(name: &str) -> Template {
    Template {
        revision: format!("{name}-revision"),
        content: format!("{name}-content"),
    }
}

fn plan(weights: &[i64]) -> Plan {
    let step = |weight: &i64| Step {
        weight: Percent::new(*weight).unwrap(),
        soak: Span::seconds(60),
        min_requests: 100,
        pause: Some(Pause::For(Span::seconds(7))),
    };
    let limits = Limits {
        failure_limit: 2,
        interval: Span::seconds(10),
        hold: Span::seconds(600),
        then: Then::Pause,
        progress_deadline: Span::seconds(300),
        capacity: Capacity::Full,
        on_failure: OnFailure::Pause,
        deletion: Deletion::Promote,
        exposure: ErrorBudget::try_new(999_000, 30, 50_000).ok(),
    };
    Plan::new(weights.iter().map(step).collect(), limits).unwrap()
}

fn state(phase: Phase) -> State {
    State {
        deployment: "uid".to_owned(),
        phase,
        stable: template("stable"),
        target: template("canary"),
        generation: 7,
        gated: true,
        run: Some(Run {
            canary: template("canary"),
            number: 12,
            plan: plan(&[1, 100]),
            asked: plan(&[100]),
            started_at: Time(500),
            base_replicas: 4,
            judged_until: Time(3000),
            failed_in_a_row: 1,
            requests: 30,
            passed: true,
            unready_since: Some(Time(4000)),
            held_since: Some(Time(5000)),
            sent_needs: 2,
            lost_since: Some(Time(6000)),
            paused_since: Some(Time(7000)),
            failed_since: Some(Time(8000)),
            stable_fails: true,
            answered: Some(Percent::ALL),
            on_hold: Some(OnHold {
                since: Time(9000),
                by: By::default(),
            }),
            skips: Some(By::default()),
            aborted: Some(By {
                user: Some("alice".to_owned()),
            }),
        }),
        last_run: 12,
        failure: Some(Failure {
            template: template("other"),
            run: 11,
            cause: Cause::Aborted,
            at: Time(600),
            by: Some(By {
                user: Some("bob".to_owned()),
            }),
        }),
        revoked: vec![Revoked {
            revision: "other-revision".to_owned(),
            run: 11,
        }],
        heeded: Some(Request {
            verb: Verb::Promote,
            revision: "canary-revision".to_owned(),
            weight: Percent::new(10).ok(),
            by: By {
                user: Some("alice".to_owned()),
            },
        }),
    }
}

/// Every phase, begun at `since`; with every reason that it can have.
fn phases(since: Time) -> Vec<Phase> {
    let covered = Percent::new(75).unwrap();
    let mut phases = vec![
        Phase::Stable,
        Phase::Scaling { step: 0, since },
        Phase::Shifting { step: 1, since },
        Phase::Soaking { step: 2, since },
        Phase::Promoting { since },
        Phase::Returning { covered, since },
        Phase::Failed,
    ];
    phases.extend(Unsettled::ALL.map(|why| Phase::Unsettled { why, since }));
    phases.extend(Cause::ALL.map(|cause| Phase::RollingBack { cause, since }));
    phases
}

fn counted_from(state: &State) -> [Option<Time>; 7] {
    let since = match state.phase {
        Phase::Unsettled { since, .. }
        | Phase::Scaling { since, .. }
        | Phase::Shifting { since, .. }
        | Phase::Soaking { since, .. }
        | Phase::Promoting { since }
        | Phase::Returning { since, .. }
        | Phase::RollingBack { since, .. } => Some(since),
        Phase::Stable | Phase::Failed => None,
    };
    let run = state.run.as_ref().unwrap();
    [
        since,
        Some(run.judged_until),
        run.unready_since,
        run.held_since,
        run.lost_since,
        run.paused_since,
        run.failed_since,
    ]
}

#[test]
fn a_shifted_state_counts_from_shifted_moments_and_nothing_else_changes() {
    for phase in phases(Time(2000)) {
        let state = state(phase);
        let shifted = state.clone().shifted(Span(-700));
        let expected = counted_from(&state).map(|at| at.map(|at| at + Span(-700)));
        assert_eq!(counted_from(&shifted), expected, "{phase:?}");
        let failed_at = |state: &State| state.failure.as_ref().map(|failure| failure.at);
        assert_eq!(failed_at(&shifted), failed_at(&state), "history stays");
        assert_eq!(shifted.run.as_ref().unwrap().started_at, Time(500));
        assert_eq!(shifted.shifted(Span(700)), state, "{phase:?}");
    }
}

#[test]
fn no_moment_that_is_counted_from_is_later_than_now() {
    for phase in phases(Time(2000)) {
        for now in [0, 1999, 2000, 3500, 4500, 9000].map(Time) {
            let mut clamped = state(phase);
            clamped.not_after(now);
            let expected = counted_from(&state(phase)).map(|at| at.map(|at| Time(at.0.min(now.0))));
            assert_eq!(counted_from(&clamped), expected, "{phase:?} at {now:?}");
        }
        let mut later = state(phase);
        later.not_after(Time(9000));
        assert_eq!(later, state(phase), "the past stays as it is");
    }
}

#[test]
fn another_clock_takes_nothing_off_a_soak_that_was_seen_to_begin() {
    let soaking = |since: i64| {
        let mut soaking = state(Phase::Soaking {
            step: 1,
            since: Time(since),
        });
        let run = soaking.run.as_mut().unwrap();
        run.judged_until = Time(since);
        run.paused_since = Some(Time(since));
        soaking
    };
    let (early, late) = (soaking(1000), soaking(2000));
    assert_eq!(early.clone().not_begun_before(&late), late);
    assert_eq!(late.clone().not_begun_before(&early), late);
    let mut unpaused = late.clone();
    unpaused.run.as_mut().unwrap().paused_since = None;
    let read = early.clone().not_begun_before(&unpaused);
    assert_eq!(read.run.unwrap().paused_since, Some(Time(1000)), "theirs");
    let mut elsewhere = [late.clone(), late.clone(), late.clone(), late];
    elsewhere[0].phase = Phase::Soaking {
        step: 0,
        since: Time(2000),
    };
    elsewhere[1].phase = Phase::Stable;
    elsewhere[2].run.as_mut().unwrap().number += 1;
    elsewhere[3].run = None;
    for seen in &elsewhere {
        assert_eq!(early.clone().not_begun_before(seen), early, "{seen:?}");
    }
}

#[test]
fn what_a_passed_window_changes_may_be_judged_again_and_nothing_else() {
    let soaking = Phase::Soaking {
        step: 1,
        since: Time(1000),
    };
    let written = |passed: bool| {
        let mut written = state(soaking);
        written.run.as_mut().unwrap().passed = passed;
        written
    };
    let changed = |change: fn(&mut Run)| {
        let mut changed = written(true);
        change(changed.run.as_mut().unwrap());
        changed
    };
    let windows = changed(|run| {
        run.judged_until = Time(9000);
        run.requests = 900;
    });
    assert!(written(true).differs_by_judged_windows(&windows));
    assert!(written(false).differs_by_judged_windows(&windows));
    assert!(windows.differs_by_judged_windows(&windows));
    // What was earned is taken back at once.
    assert!(!windows.differs_by_judged_windows(&written(false)));
    for other in [
        changed(|run| run.failed_in_a_row += 1),
        changed(|run| run.stable_fails = false),
        changed(|run| run.paused_since = None),
        changed(|run| run.number += 1),
    ] {
        assert!(!written(true).differs_by_judged_windows(&other));
    }
    let mut elsewhere = written(true);
    elsewhere.phase = Phase::Failed;
    assert!(!written(true).differs_by_judged_windows(&elsewhere));
    elsewhere.run = None;
    assert!(!written(true).differs_by_judged_windows(&elsewhere));
    assert!(elsewhere.differs_by_judged_windows(&elsewhere.clone()));
}

#[test]
fn a_state_without_a_run_is_shifted_too() {
    let unsettled = State::unsettled("uid".to_owned(), template("stable"), 1, Time(2000));
    let mut clamped = unsettled.clone();
    clamped.not_after(Time(1500));
    assert_eq!(clamped, unsettled.shifted(Span(-500)));
}

#[test]
fn every_phase_is_read_back_as_it_was_stored() {
    for phase in phases(Time(2000)) {
        let state = state(phase);
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);
    }
    let unsettled = State::unsettled("uid".to_owned(), template("stable"), 1, Time(2000));
    let json = serde_json::to_string(&unsettled).unwrap();
    assert_eq!(serde_json::from_str::<State>(&json).unwrap(), unsettled);
}

#[test]
fn a_state_is_stored_by_names_that_do_not_change() {
    let template = |name: &str| serde_json::json!({"revision": format!("{name}-revision"), "content": format!("{name}-content")});
    let plan = |weights: &[i64]| {
        let step = |weight: &i64| serde_json::json!({"weight": weight, "soak": 60_000, "minRequests": 100, "pause": {"For": 7000}});
        serde_json::json!({
            "steps": weights.iter().map(step).collect::<Vec<_>>(),
            "limits": {
                "failureLimit": 2, "interval": 10_000, "hold": 600_000, "then": "Pause",
                "progressDeadline": 300_000, "capacity": "Full",
                "onFailure": "Pause", "deletion": "Promote",
                "exposure": [999_000, 30, 50_000]
            }
        })
    };
    let json = serde_json::json!({
        "deployment": "uid",
        "phase": {"name": "Returning", "covered": 75, "since": 2000},
        "stable": template("stable"),
        "target": template("canary"),
        "generation": 7,
        "gated": true,
        "run": {
            "canary": template("canary"), "number": 12,
            "plan": plan(&[1, 100]), "asked": plan(&[100]),
            "startedAt": 500, "baseReplicas": 4, "judgedUntil": 3000, "failedInARow": 1,
            "requests": 30, "passed": true, "unreadySince": 4000, "heldSince": 5000,
            "sentNeeds": 2, "lostSince": 6000, "pausedSince": 7000, "failedSince": 8000,
            "stableFails": true, "answered": 100,
            "onHold": {"since": 9000, "by": {}}, "skips": {}, "aborted": {"user": "alice"}
        },
        "lastRun": 12,
        "failure": {
            "template": template("other"), "run": 11, "cause": "Aborted", "at": 600, "by": {"user": "bob"}
        },
        "revoked": [{"revision": "other-revision", "run": 11}],
        "heeded": {"verb": "Promote", "revision": "canary-revision", "weight": 10, "by": {"user": "alice"}}
    });
    let returning = Phase::Returning {
        covered: Percent::new(75).unwrap(),
        since: Time(2000),
    };
    assert_eq!(
        serde_json::to_value(state(returning)).unwrap(),
        json,
        "a name that changes here is a state that nobody can read"
    );
    assert_eq!(
        serde_json::from_value::<State>(json).unwrap(),
        state(returning)
    );
}

/// Of an operator that knew no pause, no failure that pauses and no requests.
#[test]
fn a_state_that_an_operator_before_this_one_stored_is_read() {
    let mut json = serde_json::to_value(state(Phase::Failed)).unwrap();
    let run = json["run"].as_object_mut().unwrap();
    for field in [
        "sentNeeds",
        "lostSince",
        "pausedSince",
        "failedSince",
        "stableFails",
        "answered",
        "onHold",
        "skips",
        "aborted",
    ] {
        run.remove(field).unwrap();
    }
    for plan in ["plan", "asked"] {
        let plan = run[plan].as_object_mut().unwrap();
        for field in ["onFailure", "deletion", "exposure"] {
            let limits = plan["limits"].as_object_mut().unwrap();
            limits.remove(field).unwrap();
        }
        for step in plan["steps"].as_array_mut().unwrap() {
            step.as_object_mut().unwrap().remove("pause").unwrap();
        }
    }
    json["failure"]
        .as_object_mut()
        .unwrap()
        .remove("by")
        .unwrap();
    json.as_object_mut().unwrap().remove("heeded").unwrap();
    let read: State = serde_json::from_value(json).unwrap();
    let run = read.run.unwrap();
    assert_eq!((run.on_hold, run.skips, run.aborted), (None, None, None));
    assert_eq!((read.heeded, read.failure.unwrap().by), (None, None));
    assert_eq!(
        (run.plan.on_failure, run.plan.deletion),
        (OnFailure::Rollback, Deletion::Leave)
    );
    assert_eq!((run.plan.step(0).pause, run.plan.exposure), (None, None));
    assert_eq!((run.sent_needs, run.stable_fails), (u32::MAX, false));
    assert_eq!(run.paused_since.or(run.failed_since), None);
    assert_eq!(run.lost_since, None);
}

#[test]
fn what_this_machine_does_not_know_is_no_state() {
    let stored = serde_json::to_value(state(Phase::Soaking {
        step: 0,
        since: Time(2000),
    }))
    .unwrap();
    let spoilt: [(&str, serde_json::Value); 6] = [
        ("/phase/name", "Levitating".into()),
        ("/phase/step", (-1).into()),
        ("/phase/since", "yesterday".into()),
        ("/failure/cause", "Mood".into()),
        ("/run/plan/steps", serde_json::json!([])),
        ("/run/plan/steps/0/weight", 101.into()),
    ];
    for (field, value) in spoilt {
        let mut json = stored.clone();
        *json.pointer_mut(field).unwrap() = value;
        assert!(serde_json::from_value::<State>(json).is_err(), "{field}");
    }
    for field in ["phase", "stable", "deployment", "generation"] {
        let mut json = stored.clone();
        json.as_object_mut().unwrap().remove(field);
        assert!(
            serde_json::from_value::<State>(json).is_err(),
            "{field} is missing"
        );
    }
}

#[test]
fn every_cause_has_a_name_of_its_own_that_is_the_one_it_is_stored_by() {
    for cause in Cause::ALL {
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
    }
}
