//! What only a person, or evidence, lets go on: pauses, failures that pause, missing evidence, and a stable revision that
//! fails the same checks.

use rollout_core::judge::Verdict;
use rollout_core::plan::{OnFailure, Pause, Plan, Then};
use rollout_core::state::{Cause, Phase};
use rollout_core::{Event, Span, Waiting};

use crate::world::{World, alice, limited, pausing, percent, template};

const UNTIL_PROMOTED: Option<Waiting> = Some(Waiting::Pause { until: None });

/// Version 2 soaks in step 1, with 10 %, which pauses like this.
fn pausing_at_ten(pause: Pause) -> World {
    released(|plan| pausing(plan, 1, Some(pause)), 1)
}

/// The same with other limits, in this step.
fn released(change: impl Fn(&Plan) -> Plan, step: usize) -> World {
    let mut world = World::new();
    world.plan = change(&world.plan);
    world.change(template("v2"));
    world.soak(step);
    world
}

fn pauses_on_failure() -> World {
    let on_failure = |plan: &Plan| limited(plan, |l| l.on_failure = OnFailure::Pause);
    let mut world = released(on_failure, 1);
    world.verdict = Some(Verdict::Fail);
    world.until("the failure", |w| w.waiting() == Some(Waiting::Failure));
    world
}

fn count(world: &World, event: &Event) -> usize {
    world.events.iter().filter(|each| *each == event).count()
}

#[test]
fn a_pause_begins_when_the_step_has_passed_and_lasts_until_a_person_says_so() {
    let mut world = pausing_at_ten(Pause::Promote);
    assert_eq!(world.waiting(), None, "it soaks first");
    world.until("the pause", |w| w.waiting() == UNTIL_PROMOTED);
    assert_eq!(count(&world, &Event::Paused { step: 1 }), 1);
    world.for_seconds(20 * 3600);
    assert_eq!((world.weight(), world.waiting()), (10, UNTIL_PROMOTED));
    assert_eq!(count(&world, &Event::Paused { step: 1 }), 1, "said once");
    world.promotes();
    assert_eq!(
        world.state.run.as_ref().unwrap().answered,
        Some(percent(10))
    );
    let weight = percent(10);
    assert_eq!(
        count(
            &world,
            &Event::LetOn {
                weight,
                by: alice()
            }
        ),
        1
    );
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn a_pause_with_a_length_ends_by_itself_and_the_run_wakes_for_it() {
    let mut world = pausing_at_ten(Pause::For(Span::seconds(600)));
    world.until("the pause", |w| w.waiting().is_some());
    let until = world.now + Span::seconds(600);
    assert_eq!(world.waiting(), Some(Waiting::Pause { until: Some(until) }));
    let mut woken = false;
    while world.now < until {
        assert_eq!(world.weight(), 10);
        world.now = world.look().wake.unwrap();
        woken |= world.now == until;
    }
    assert!(woken, "at the moment");
    world.look();
    assert!(matches!(world.state.phase, Phase::Scaling { step: 2, .. }));
    assert!(!world.said(|e| matches!(e, Event::LetOn { .. })));
}

#[test]
fn a_person_may_end_a_pause_with_a_length_too() {
    let mut world = pausing_at_ten(Pause::For(Span::seconds(86_400)));
    world.until("the pause", |w| w.waiting().is_some());
    world.promotes();
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn a_request_that_answers_nothing_changes_nothing() {
    let mut world = World::soaking(1);
    let state = world.state.clone();
    world.promotes();
    assert_eq!(world.state, state, "no soak is skipped");
    world.until("the next step", |w| w.weight() == 50);
    assert!(!world.said(|e| matches!(e, Event::LetOn { .. })));
}

#[test]
fn a_pause_is_still_watched_and_a_bad_canary_goes() {
    let mut world = pausing_at_ten(Pause::Promote);
    world.until("the pause", |w| w.waiting().is_some());
    world.verdict = Some(Verdict::Fail);
    world.until("the rollback", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::AnalysisFailed));
}

#[test]
fn a_window_that_failed_during_a_pause_has_to_be_refuted_before_it_ends() {
    let mut world = pausing_at_ten(Pause::For(Span::seconds(60)));
    world.until("the pause", |w| w.waiting().is_some());
    world.window(Verdict::Fail);
    world.verdict = Some(Verdict::NoEvidence);
    world.for_seconds(100);
    assert_eq!(
        world.weight(),
        10,
        "its length is over, and it says nothing"
    );
    world.window(Verdict::Pass);
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn a_request_does_not_raise_what_is_held_frozen_or_not_acknowledged() {
    let holds: [fn(&mut World); 4] = [
        |world| world.may_raise = false,
        |world| world.acknowledges = false,
        |world| world.ready = Some(0),
        |world| world.persists = false,
    ];
    for hold in holds {
        let mut world = pausing_at_ten(Pause::Promote);
        world.until("the pause", |w| w.waiting().is_some());
        hold(&mut world);
        world.promotes();
        world.for_seconds(60);
        assert!(matches!(world.state.phase, Phase::Soaking { step: 1, .. }));
        assert!(!world.said(|e| matches!(e, Event::LetOn { .. })));
    }
}

#[test]
fn the_last_step_may_pause_before_the_promotion() {
    let mut world = released(|plan| pausing(plan, 3, Some(Pause::Promote)), 3);
    world.for_seconds(3600);
    assert_eq!((world.weight(), world.waiting()), (100, UNTIL_PROMOTED));
    assert!(matches!(world.state.phase, Phase::Soaking { step: 3, .. }));
    world.promotes();
    assert!(matches!(world.state.phase, Phase::Promoting { .. }));
}

/// S30.
#[test]
fn a_pause_that_is_longer_than_the_deadline_ends_nothing() {
    let mut world = pausing_at_ten(Pause::For(Span::seconds(3600)));
    assert!(world.plan.progress_deadline < Span::seconds(3600));
    world.until("the next step", |w| w.weight() == 50);
    assert!(!world.said(|e| matches!(e, Event::RolledBack { .. })));
}

#[test]
fn pods_that_are_lost_during_a_pause_have_their_deadline() {
    let mut world = pausing_at_ten(Pause::Promote);
    world.until("the pause", |w| w.waiting().is_some());
    world.ready = Some(0);
    world.until("the end", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::CanaryLost));
}

#[test]
fn taking_the_pause_out_of_the_spec_ends_it() {
    let mut world = pausing_at_ten(Pause::Promote);
    world.until("the pause", |w| w.waiting().is_some());
    world.plan = pausing(&world.plan, 1, None);
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn a_pause_that_is_put_into_the_spec_holds_the_step_that_soaks() {
    let mut world = World::soaking(1);
    world.plan = pausing(&world.plan, 1, Some(Pause::Promote));
    world.for_seconds(3600);
    assert_eq!((world.weight(), world.waiting()), (10, UNTIL_PROMOTED));
}

#[test]
fn a_failure_that_pauses_keeps_the_weight_until_a_person_wants_it_judged_anew() {
    let mut world = pauses_on_failure();
    let weight = percent(10);
    assert_eq!(count(&world, &Event::PausedByFailure { weight }), 1);
    assert!(!world.said(|e| matches!(e, Event::RolledBack { .. })));
    world.verdict = Some(Verdict::Pass);
    world.for_seconds(7200);
    assert_eq!(world.weight(), 10, "windows that pass do not end it");
    assert_eq!(world.waiting(), Some(Waiting::Failure));
    let asked = world.now;
    world.promotes();
    assert_eq!(
        count(
            &world,
            &Event::JudgedAnew {
                weight,
                by: alice()
            }
        ),
        1
    );
    assert!(matches!(world.state.phase, Phase::Soaking { since, .. } if since == world.now));
    world.until("the next step", |w| w.weight() == 50);
    assert!(world.now - asked >= Span::seconds(60), "it soaked anew");
}

#[test]
fn an_alarm_pauses_where_the_plan_says_so_once_and_a_person_has_it_judged_anew() {
    let on_failure = |plan: &Plan| limited(plan, |l| l.on_failure = OnFailure::Pause);
    let mut world = released(on_failure, 1);
    let weight = percent(10);
    world.alarm = true;
    world.for_seconds(3600);
    assert_eq!(
        (world.weight(), world.waiting()),
        (10, Some(Waiting::Failure))
    );
    assert_eq!(count(&world, &Event::PausedByFailure { weight }), 1);
    // The guard begins anew with the run.
    world.alarm = false;
    world.promotes();
    assert_eq!(
        count(
            &world,
            &Event::JudgedAnew {
                weight,
                by: alice()
            }
        ),
        1
    );
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn a_release_that_is_judged_anew_and_fails_again_pauses_again() {
    let mut world = pauses_on_failure();
    world.promotes();
    assert_eq!(world.waiting(), None);
    let events = world.events.len();
    world.until("the failure", |w| w.waiting() == Some(Waiting::Failure));
    let failed = |e: &&Event| matches!(e, Event::WindowFailed { .. });
    assert_eq!(world.events[events..].iter().filter(failed).count(), 3);
    assert_eq!(world.weight(), 10);
}

#[test]
fn windows_that_fail_while_a_failure_pauses_are_not_told_again_and_again() {
    let mut world = pauses_on_failure();
    let events = world.events.len();
    world.for_seconds(3600);
    assert_eq!(world.events[events..], []);
    assert_eq!(world.state.run.as_ref().unwrap().failed_in_a_row, 3);
}

#[test]
fn a_failure_that_pauses_is_still_ended_by_everything_else() {
    type End = fn(&mut World);
    let ends: [(End, Cause); 4] = [
        (|w| w.change(template("v1")), Cause::TemplateReverted),
        (|w| w.deleted = true, Cause::Deleted),
        (|w| w.without_sidecar = true, Cause::NotMeshed),
        (
            |w| w.plan = limited(&w.plan, |l| l.on_failure = OnFailure::Rollback),
            Cause::AnalysisFailed,
        ),
    ];
    for (end, cause) in ends {
        let mut world = pauses_on_failure();
        end(&mut world);
        world.look();
        assert_eq!((world.weight(), world.cause()), (0, Some(cause)));
    }
}

/// In the very look in which the last tolerated window fails.
#[test]
fn who_wants_a_rollback_by_now_does_not_get_a_pause_first() {
    let mut world = pauses_on_failure();
    world.promotes();
    world.window(Verdict::Fail);
    world.window(Verdict::Fail);
    let run = world.state.run.as_ref().unwrap();
    world.now = run.judged_until + run.plan.interval;
    world.plan = limited(&world.plan, |l| l.on_failure = OnFailure::Rollback);
    let events = world.events.len();
    world.look();
    assert_eq!(
        (world.weight(), world.cause()),
        (0, Some(Cause::AnalysisFailed))
    );
    let pauses = |e: &Event| matches!(e, Event::PausedByFailure { .. });
    assert!(!world.events[events..].iter().any(pauses));
}

#[test]
fn a_failure_that_pauses_outlives_a_lapsed_lease() {
    let mut world = pauses_on_failure();
    world.lapsed = true;
    world.look();
    world.lapsed = false;
    world.verdict = Some(Verdict::Pass);
    world.for_seconds(3600);
    assert_eq!(
        (world.weight(), world.waiting()),
        (0, Some(Waiting::Failure))
    );
    world.promotes();
    world.until("the first step", |w| w.weight() == 1);
}

/// S7.
#[test]
fn no_evidence_from_the_first_window_on_ends_in_what_the_plan_says() {
    for (then, requests, goes_on) in [
        (Then::Advance, 10, true),
        // Prometheus was away all the time: nobody knows of a single request.
        (Then::Advance, 0, false),
        (Then::Pause, 10, false),
    ] {
        let mut world = World::new();
        world.plan = limited(&world.plan, |limits| limits.then = then);
        world.verdict = Some(Verdict::NoEvidence);
        world.requests = requests;
        world.change(template("v2"));
        world.soak(0);
        let hold = Span::seconds(60 + 120);
        let soaks = world.now;
        world.until("the hold", |w| w.now - soaks >= hold);
        world.for_seconds(600);
        assert_eq!(world.inconclusive(), !goes_on, "{then:?}, {requests}");
        assert_eq!(world.weight() > 1, goes_on, "{then:?}, {requests}");
        assert!(!world.said(|e| matches!(e, Event::RolledBack { .. })));
        if !goes_on {
            world.promotes();
            world.until("a person took it on", |w| w.weight() == 10);
        }
    }
}

#[test]
fn a_failed_window_that_nothing_refutes_is_judged_anew_when_a_person_says_so() {
    let mut world = World::soaking(1);
    world.window(Verdict::Fail);
    world.verdict = Some(Verdict::NoEvidence);
    world.until("the hold", World::inconclusive);
    world.promotes();
    assert_eq!(world.weight(), 10, "the failed window is no pass");
    assert!(matches!(world.state.phase, Phase::Soaking { since, .. } if since == world.now));
    assert_eq!(world.state.run.as_ref().unwrap().failed_in_a_row, 0);
}

/// S22.
#[test]
fn a_release_does_not_rise_while_stable_fails_the_same_checks() {
    let mut world = World::soaking(1);
    world.stable_fails = Some(true);
    world.for_seconds(3600);
    assert_eq!(
        (world.weight(), world.waiting()),
        (10, Some(Waiting::Stable))
    );
    assert_eq!(count(&world, &Event::StableFails), 1);
    world.stable_fails = None;
    world.for_seconds(600);
    assert_eq!(world.weight(), 10, "silence is no recovery");
    world.stable_fails = Some(false);
    world.until("the next step", |w| w.weight() == 50);
    assert_eq!(count(&world, &Event::StableRecovered), 1);
}

#[test]
fn a_fix_for_a_failing_stable_goes_on_when_a_person_says_so() {
    let mut world = World::soaking(1);
    world.stable_fails = Some(true);
    world.until("it waits", |w| w.waiting() == Some(Waiting::Stable));
    world.promotes();
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn stable_that_fails_between_two_soaks_stops_the_raise_that_was_earned() {
    let mut world = World::soaking(1);
    world.until("the next step's pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 2, .. })
    });
    world.ready = Some(1);
    world.stable_fails = Some(true);
    world.window(Verdict::Pass);
    world.ready = None;
    world.for_seconds(60);
    assert_eq!(
        (world.weight(), world.waiting()),
        (10, Some(Waiting::Stable))
    );
    world.promotes();
    assert_eq!(world.weight(), 50);
}

#[test]
fn a_step_begins_without_what_was_said_of_stable_in_the_one_before() {
    let mut world = World::soaking(1);
    world.stable_fails = Some(true);
    world.until("it waits", |w| w.waiting() == Some(Waiting::Stable));
    world.stable_fails = None;
    world.promotes();
    world.soak(2);
    assert!(!world.state.run.as_ref().unwrap().stable_fails);
    world.until("the next step", |w| w.weight() == 100);
}

/// An edit in the middle of a pause: what its length is counted from.
fn edited_in_the_pause(edit: impl FnOnce(&Plan) -> Plan) -> (World, Option<Waiting>) {
    let mut world = pausing_at_ten(Pause::For(Span::seconds(600)));
    world.until("the pause", |w| w.waiting().is_some());
    world.for_seconds(300);
    world.plan = edit(&world.plan);
    world.look();
    let waits = world.waiting();
    (world, waits)
}

#[test]
fn an_edit_of_something_else_lets_a_pause_go_on_from_where_it_was() {
    let (world, waits) =
        edited_in_the_pause(|plan| limited(plan, |l| l.progress_deadline = Span::seconds(900)));
    let until = Some(world.now + Span::seconds(300));
    assert_eq!(waits, Some(Waiting::Pause { until }));
}

#[test]
fn a_pause_that_is_edited_begins_with_the_edit() {
    let pause = Some(Pause::For(Span::seconds(900)));
    let (mut world, _) = edited_in_the_pause(|plan| pausing(plan, 1, pause));
    world.look();
    let until = Some(world.now + Span::seconds(900));
    assert_eq!(world.waiting(), Some(Waiting::Pause { until }));
}

#[test]
fn a_step_that_has_its_evidence_and_pauses_says_that_it_waits_for_stable_first() {
    let mut world = pausing_at_ten(Pause::Promote);
    world.until("the pause", |w| w.waiting() == UNTIL_PROMOTED);
    world.stable_fails = Some(true);
    world.window(Verdict::Pass);
    assert_eq!(world.waiting(), Some(Waiting::Stable));
}

#[test]
fn a_soak_is_over_at_its_very_end() {
    let mut world = World::soaking(1);
    let Phase::Soaking { since, .. } = world.state.phase else {
        panic!("it soaks");
    };
    world.for_seconds(55);
    assert_eq!(world.now, since + Span::seconds(55));
    assert!(world.state.run.as_ref().unwrap().passed);
    world.pass(5);
    assert!(matches!(world.state.phase, Phase::Scaling { step: 2, .. }));
}
