use rollout_core::state::Phase;
use traffic_core::outcome::PerClass;

use rollout_core::plan::Percent;

use super::*;
use crate::rollout::testing;

const SECOND: i64 = 1_790_000_000;

fn limits() -> Limits {
    Limits::try_new(10_000, 5_000).unwrap()
}

fn running() -> (State, u64) {
    let state = testing::state(Phase::Soaking {
        step: 0,
        since: Time(0),
    });
    let run = state.run.as_ref().unwrap().number;
    (state, run)
}

fn counts(started: u64, failed: u64) -> outcome::Counts {
    outcome::Counts {
        started,
        ended: PerClass::from([started - failed, failed, 0, 0]),
        ..outcome::Counts::default()
    }
}

fn second(at: i64, failed: u64) -> Closed {
    Closed {
        at,
        canary: counts(50, failed),
        stable: counts(450, 1),
    }
}

/// Sent, and not acknowledged yet.
fn sent(run: u64, percent: i64) -> Heard {
    let mut heard = Heard::default();
    heard.sent.canary = Some((run, Percent::new(percent).unwrap()));
    heard.acks.proxies = 1;
    heard
}

/// Under a weight since the second before.
fn guarding() -> (Guarding, State) {
    let (state, run) = running();
    let mut guarding = Guarding::default();
    guarding.follow(&state, Some(limits()));
    guarding.heard(&sent(run, 10), Time((SECOND - 1) * 1000));
    (guarding, state)
}

#[test]
fn a_bad_canary_is_an_alarm_after_a_few_seconds_and_a_good_one_is_none() {
    let (mut guarding, state) = guarding();
    let took = (0..60).position(|after| guarding.see(&[second(SECOND + after, 25)]));
    assert!(took.is_some_and(|seconds| seconds < 6), "{took:?}");
    assert!(guarding.alarm(&state).is_some());
    let words = guarding.guarded().unwrap().words();
    assert!(
        words.contains(" of stable's in the same seconds"),
        "{words}"
    );
    assert!(!guarding.see(&[second(SECOND + 60, 25)]), "said once");

    let (mut good, state) = super::tests::guarding();
    assert!(!good.guarded().unwrap().doubts(), "nothing was seen yet");
    for after in 0..600 {
        good.see(&[second(SECOND + after, 0)]);
    }
    assert_eq!(good.alarm(&state), None);
    assert_eq!(good.guarded().unwrap().percent_to_alarm(), 0);
}

#[test]
fn seconds_without_a_weight_or_around_a_change_accuse_nobody() {
    let (state, run) = running();
    let mut guarding = Guarding::default();
    guarding.follow(&state, Some(limits()));
    guarding.heard(&Heard::default(), Time(0));
    for after in -60..0 {
        guarding.see(&[second(SECOND + after, 50)]);
    }
    // Sent in the middle of every second: none is under one weight.
    for after in 0..60 {
        let sent = sent(run, 10 + after % 2);
        guarding.heard(&sent, Time((SECOND + after) * 1000 + 700));
        guarding.see(&[second(SECOND + after, 50)]);
    }
    assert_eq!(guarding.alarm(&state), None);
    assert_eq!(guarding.guarded().unwrap().canary, Counts::default());
    // Another run's weight.
    let other = Time((SECOND + 60) * 1000 + 700);
    guarding.heard(&sent(run + 1, 10), other);
    for after in 62..120 {
        guarding.see(&[second(SECOND + after, 50)]);
    }
    assert_eq!(guarding.alarm(&state), None);
}

#[test]
fn another_run_other_limits_and_a_new_judgement_begin_afresh() {
    let (mut guarding, mut state) = guarding();
    let bad = |guarding: &mut Guarding, from: i64| {
        for after in 0..20 {
            guarding.see(&[second(from + after, 50)]);
        }
    };
    bad(&mut guarding, SECOND);
    assert!(guarding.alarm(&state).is_some());
    guarding.follow(&state, Some(limits()));
    assert!(guarding.alarm(&state).is_some());
    guarding.follow(&state, Some(Limits::try_new(1_000, 5_000).unwrap()));
    assert_eq!(guarding.alarm(&state), None);
    bad(&mut guarding, SECOND + 20);
    assert!(guarding.alarm(&state).is_some());
    guarding.begin_anew();
    guarding.follow(&state, Some(limits()));
    assert_eq!(guarding.alarm(&state), None);
    bad(&mut guarding, SECOND + 40);
    state.run.as_mut().unwrap().number += 1;
    assert_eq!(guarding.alarm(&state), None);
    guarding.follow(&state, Some(limits()));
    assert_eq!(guarding.guarded().unwrap().canary, Counts::default());
    guarding.follow(&state, None);
    assert_eq!(guarding.guarded(), None);
}

#[test]
fn what_it_would_see_is_said_at_the_present_pace() {
    let (mut guarding, _) = guarding();
    assert_eq!(guarding.foresight(), None, "nothing is known yet");
    for after in 0..30 {
        guarding.see(&[second(SECOND + after, 0)]);
    }
    let said = guarding.foresight().unwrap();
    let expected =
        "at 50.0 requests/s it sees failures of 50% in about 3s, 10% in about 3s, 5% in about ";
    assert!(said.starts_with(expected), "{said}");
    assert!(said.contains("1% in about "), "{said}");
    let run = guarding.guarded().unwrap().run;
    guarding.heard(&sent(run, 50), Time((SECOND + 30) * 1000));
    guarding.see(&[second(SECOND + 30, 0)]);
    assert_eq!(guarding.foresight(), None, "another weight, another pace");
    let spans = [3.2, 89.9, 100.0, 7200.0, 1e9].map(about);
    assert_eq!(spans, ["3s", "90s", "2m", "2h", "days"]);
}

#[test]
fn the_places_with_the_most_failures_are_said() {
    let (mut guarding, mut state) = guarding();
    assert_eq!(guarding.places(), "");
    let place = |host, said| outcome::Place {
        endpoint: ([10, 1, 0, host], 8080).into(),
        said,
    };
    for after in 0..3 {
        let mut closed = second(SECOND + after, 25);
        let failures = &mut closed.canary.failures;
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let trace = outcome::Trace::read(trace.as_bytes(), b"/pay");
        failures.add_traced(place(7, outcome::Said::Status(500)), 20, trace);
        failures.add(place(8, outcome::Said::Grpc(14)), 4);
        failures.add(place(9, outcome::Said::Nothing), 1);
        failures.add(place(6, outcome::Said::Nothing), 0);
        guarding.see(&[closed]);
    }
    let said = "; 60 with status 500 from 10.1.0.7:8080 (trace 4bf92f3577b34da6a3ce929d0e0e4736 of /pay), 12 with grpc-status 14 from 10.1.0.8:8080, 3 with no answer from 10.1.0.9:8080";
    assert_eq!(guarding.places(), said);
    state.run.as_mut().unwrap().number += 1;
    guarding.follow(&state, Some(limits()));
    assert_eq!(guarding.places(), "", "another run");
}

#[test]
fn slow_answers_are_named_as_such() {
    let (mut guarding, state) = guarding();
    let with = |at, canary: u64, stable: u64| {
        let mut closed = second(at, 0);
        closed.stable = counts(450, 0);
        let of = |millis| outcome::Bucket::of(std::time::Duration::from_millis(millis));
        closed.canary.latency.add(of(canary), 50);
        closed.stable.latency.add(of(stable), 450);
        closed
    };
    for after in 0..20 {
        guarding.see(&[with(SECOND + after, 10, 10)]);
    }
    assert_eq!(guarding.alarm(&state), None);
    for after in 20..40 {
        guarding.see(&[with(SECOND + after, 100, 10)]);
    }
    assert!(guarding.alarm(&state).is_some());
    let words = guarding.guarded().unwrap().words();
    assert!(words.contains("answers took longer than 1"), "{words}");
}
