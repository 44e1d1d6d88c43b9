//! Clocks, restarts, deadlines, and when to look again.

use rollout_core::advance::window_due;
use rollout_core::judge::Verdict;
use rollout_core::observation::Window;
use rollout_core::state::{Cause, Phase, State};
use rollout_core::{Span, Time};

use crate::world::{World, limited, plan, template};

#[test]
fn time_in_which_somebody_holds_the_release_does_not_count_for_the_deadline() {
    let mut world = World::new();
    world.ready = Some(0);
    world.change(template("v2"));
    world.look();
    world.may_raise = false;
    world.for_seconds(3600);
    world.may_raise = true;
    world.look();
    assert!(
        matches!(world.state.phase, Phase::Scaling { step: 0, .. }),
        "{:?}",
        world.state.phase
    );
    world.for_seconds(280);
    assert_eq!(world.cause(), None);
    world.for_seconds(30);
    assert!(world.cause().is_some(), "what was left of it counts");
}

#[test]
fn pods_that_go_while_somebody_holds_the_release_have_the_whole_deadline_and_not_more() {
    let mut world = World::new();
    world.change(template("v2"));
    world.look();
    world.may_raise = false;
    world.for_seconds(3600);
    world.ready = Some(0);
    world.for_seconds(60);
    world.may_raise = true;
    world.look();
    let unready = world.state.run.as_ref().unwrap().unready_since;
    assert_eq!(unready, Some(world.now), "no moment is in the future");
    world.for_seconds(295);
    assert_eq!(world.cause(), None);
    world.pass(5);
    assert!(world.cause().is_some());
}

/// Whoever holds a release does not know that its pods are lost.
#[test]
fn pods_of_the_weight_that_is_sent_have_their_deadline_while_the_next_ones_are_held() {
    let mut world = World::soaking(2);
    world.until("the next step's pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 3, .. })
    });
    world.may_raise = false;
    world.ready = Some(2);
    world.for_seconds(7200);
    assert_eq!(world.weight(), 50, "2 of 4 pods carry 50 %");
    world.ready = Some(1);
    let lost = world.now;
    let wake = world.look().wake.unwrap();
    assert!(wake <= lost + world.plan.progress_deadline);
    world.until("the end", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::CanaryLost));
    assert_eq!(world.now - lost, world.plan.progress_deadline);
}

#[test]
fn a_held_release_does_not_lose_the_pods_that_only_a_grown_deployment_needs() {
    let mut world = World::soaking(2);
    world.replicas = 12;
    world.generation += 1;
    world.until("the next step's pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 3, .. })
    });
    world.may_raise = false;
    world.ready = Some(2);
    world.for_seconds(7200);
    assert_eq!(world.weight(), 50, "2 pods were enough for 50 % of 4");
}

#[test]
fn pods_that_come_back_within_the_deadline_have_lost_nothing() {
    let mut world = World::soaking(2);
    world.until("the next step's pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 3, .. })
    });
    world.may_raise = false;
    for _ in 0..4 {
        world.ready = Some(1);
        world.for_seconds(200);
        world.ready = Some(2);
        world.look();
    }
    assert_eq!(world.weight(), 50);
}

#[test]
fn a_restart_keeps_the_step_the_soak_and_the_counters() {
    let mut world = World::soaking(1);
    world.window(Verdict::Fail);
    world.verdict = Some(Verdict::Pass);
    let since = world.now;
    let stored = serde_json::to_string(&world.state).unwrap();
    world.now = world.now + Span::seconds(20);
    world.state = serde_json::from_str::<State>(&stored).unwrap();
    // A fresh process has sent nothing yet.
    let mut seen = world.observe();
    seen.window = None;
    seen.traffic.acknowledged = false;
    seen.traffic.sent = None;
    world.see(&seen);
    assert_eq!(serde_json::to_string(&world.state).unwrap(), stored);
    world.until("the next step", |w| w.weight() == 50);
    assert!(world.now - since >= Span::seconds(45), "not early");
    assert!(world.now - since <= Span::seconds(70), "not anew");
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up_and_windows_are_judged_from_the_new_now() {
    let mut world = World::soaking(1);
    world.window(Verdict::Pass);
    world.now = world.now + Span::seconds(-7200);
    world.look();
    let run = world.state.run.clone().unwrap();
    assert_eq!(run.judged_until, world.now);
    assert_eq!(window_due(&world.state, world.now), None);
    world.verdict = Some(Verdict::Fail);
    let since = world.now;
    world.until("the rollback", |w| w.weight() == 0);
    assert!(world.now - since <= Span::seconds(30));

    let mut world = World::soaking(1);
    world.now = world.now + Span::seconds(-7200);
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn a_window_of_a_clock_that_was_set_back_is_not_counted_again_and_again() {
    let mut world = World::soaking(1);
    let mut seen = world.observe();
    seen.window = Some(Window {
        start: world.now + Span::seconds(3590),
        end: world.now + Span::seconds(3600),
        verdict: Verdict::Fail,
        requests: 10,
        stable_fails: None,
    });
    for _ in 0..5 {
        seen.now = seen.now + Span::seconds(1);
        world.see(&seen);
    }
    let run = world.state.run.clone().unwrap();
    assert!(run.failed_in_a_row <= 1, "{}", run.failed_in_a_row);
    assert!(run.judged_until <= seen.now);
    assert_eq!(world.weight(), 10);
}

#[test]
fn a_state_that_is_shifted_with_the_clock_goes_on_as_if_nothing_had_happened() {
    for by in [Span::seconds(-86_400), Span::seconds(86_400)] {
        let mut world = World::soaking(1);
        let mut other = World::soaking(1);
        world.for_seconds(30);
        other.for_seconds(30);
        other.state = other.state.clone().shifted(by);
        other.now = other.now + by;
        for _ in 0..60 {
            world.pass(5);
            other.pass(5);
            assert_eq!(world.state.phase, phase_before(&other.state, by));
        }
        assert_eq!(world.weights, other.weights);
    }
}

fn phase_before(state: &State, by: Span) -> Phase {
    state.clone().shifted(Span(-by.0)).phase
}

/// Looks for hours and wakes only when it is asked for: how often that is.
fn wakes(world: &mut World, hours: i64) -> u32 {
    let end = world.now + Span::seconds(hours * 3600);
    let mut wakes = 0;
    while let Some(at) = world.look().wake {
        assert!(at > world.now, "in the past");
        wakes += 1;
        if at > end {
            break;
        }
        world.now = at;
    }
    wakes
}

#[test]
fn nothing_that_only_waits_wakes_more_often_than_its_windows_are_long() {
    let windows_in_an_hour = 3600 / 10;
    let wait: [(&str, World); 7] = [
        ("a soak without evidence", {
            let mut world = World::soaking(1);
            world.verdict = Some(Verdict::NoEvidence);
            world.requests = 0;
            world
        }),
        ("a soak of which every query fails", {
            let mut world = World::soaking(1);
            world.verdict = None;
            world
        }),
        ("a soak that is held", {
            let mut world = World::soaking(1);
            world.may_raise = false;
            world
        }),
        ("pods that are held past their deadline", {
            let mut world = World::soaking(1);
            world.until("the next step's pods", |w| {
                matches!(w.state.phase, Phase::Scaling { step: 2, .. })
            });
            world.ready = Some(1);
            world.may_raise = false;
            world
        }),
        ("a laggard", {
            let mut world = World::new();
            world.change(template("v2"));
            world.until("the first raise", |w| w.weight() > 0);
            world.acknowledges = false;
            world
        }),
        ("a promotion past its deadline", World::promoting()),
        ("a rollback whose copy stays", {
            let mut world = World::soaking(1);
            world.lingers = true;
            world.change(template("v1"));
            world
        }),
    ];
    for (name, mut world) in wait {
        let phase = world.phase();
        let wakes = wakes(&mut world, 3);
        assert!(wakes <= 3 * windows_in_an_hour + 5, "{name}: {wakes}");
        assert!(
            world.phase() == phase || phase == "Soaking" && world.phase() == "RollingBack",
            "{name}: {phase} became {}",
            world.phase()
        );
    }
}

#[test]
fn a_query_in_flight_is_not_waited_for_by_waking() {
    let mut world = World::soaking(1);
    world.verdict = None;
    world.for_seconds(12);
    let step = world.look();
    assert!(window_due(&world.state, world.now).is_some());
    let Phase::Soaking { since, .. } = world.state.phase else {
        panic!("{:?}", world.state.phase)
    };
    assert_eq!(step.wake, Some(since + Span::seconds(60)), "the soak's end");
}

#[test]
fn it_wakes_for_the_next_window_for_the_end_of_the_soak_and_for_the_deadline() {
    let mut world = World::soaking(1);
    assert_eq!(world.look().wake, Some(world.now + Span::seconds(10)));

    let mut world = World::new();
    world.ready = Some(0);
    world.change(template("v2"));
    let begun: Time = world.now;
    let step = world.look();
    assert_eq!(
        step.wake,
        Some(begun + Span::seconds(300)),
        "also when nothing at all is heard of its pods"
    );
    world.now = begun + Span::seconds(300);
    world.look();
    assert!(world.cause().is_some(), "and then it is over");
}

#[test]
fn pods_that_an_edit_or_a_lapsed_lease_asks_for_have_a_deadline_from_then_on() {
    let mut world = World::new();
    world.change(template("v2"));
    world.look();
    world.acknowledges = false;
    world.pass(5);
    assert_eq!(world.look().wake, None, "every pod is there");
    world.ready = Some(1);
    world.plan = plan(&[50, 100]);
    assert_eq!(world.look().wake, Some(world.now + Span::seconds(300)));

    let mut world = World::soaking(1);
    world.ready = Some(0);
    world.lapsed = true;
    assert_eq!(world.look().wake, Some(world.now + Span::seconds(300)));
}

#[test]
fn run_numbers_rise_whatever_the_clock_does() {
    let mut world = World::soaking(0);
    let mut before = world.run();
    for back in [86_400 * 365, 0, 86_400] {
        world.now = world.now + Span::seconds(-back);
        for name in ["v7", "v8"] {
            world.change(template(name));
            world.look();
            assert!(world.run() > before, "{} after {before}", world.run());
            before = world.run();
        }
    }
}

#[test]
fn a_window_is_one_interval_long_and_ends_now() {
    let mut world = World::soaking(1);
    world.now = world.state.run.as_ref().unwrap().judged_until + Span::seconds(25);
    let (start, end) = window_due(&world.state, world.now).unwrap();
    assert_eq!((end, end - start), (world.now, world.plan.interval));
}

#[test]
fn a_run_is_numbered_by_the_second_in_which_it_begins() {
    let mut world = World::new();
    world.now = Time(1_790_000_123_456);
    world.change(template("v2"));
    world.look();
    assert_eq!(world.run(), 1_790_000_123);
}

/// Between two soaks nothing but a person ends what a failed window holds: when the hold is over, that is said.
#[test]
fn what_a_failed_window_holds_between_two_soaks_is_looked_at_when_the_hold_is_over() {
    let mut world = World::soaking(1);
    world.until("the next step's pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 2, .. })
    });
    let Phase::Scaling { since, .. } = world.state.phase else {
        panic!("{:?}", world.state.phase)
    };
    world.ready = Some(1);
    world.plan = limited(&world.plan, |limits| {
        limits.progress_deadline = Span::seconds(100_000)
    });
    world.window(Verdict::Fail);
    world.verdict = None;
    // Its windows have no evidence, so they are due again and again; between two of them it wakes for the hold.
    let over = since + world.plan.hold;
    world.now = over + Span(-1);
    let run = world.state.run.as_mut().unwrap();
    run.judged_until = world.now;
    assert_eq!(world.look().wake, Some(over));
}
