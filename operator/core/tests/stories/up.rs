//! The way up, and what holds it.

use rollout_core::judge::Verdict;
use rollout_core::observation::{Traffic, Window};
use rollout_core::plan::Then;
use rollout_core::state::{Cause, Phase};
use rollout_core::{Copies, Event, Gate, Span};

use crate::world::{World, limited, percent, template};

#[test]
fn a_good_release_goes_up_the_steps_and_is_promoted() {
    let mut world = World::promoting();
    assert_eq!(world.wanted().gate, Gate::Open);
    world.rolls();
    world.until("the end", |w| w.state.phase == Phase::Stable);
    assert_eq!(world.state.stable, template("v2"));
    assert_eq!(world.weights, [0, 1, 10, 50, 100, 0]);
    assert!(world.said(|e| *e
        == Event::Promoted {
            revision: "v2".to_owned()
        }));
}

#[test]
fn nothing_that_is_earned_counts_before_the_state_is_written() {
    let mut world = World::new();
    world.persists = false;
    world.change(template("v2"));
    world.for_seconds(600);
    assert_eq!(world.state.phase, Phase::Stable, "no run starts");
    assert_eq!(
        world.wanted().gate,
        Gate::Closed,
        "the gate waits for nobody"
    );

    let mut world = World::soaking(1);
    world.persists = false;
    world.for_seconds(600);
    assert!(matches!(world.state.phase, Phase::Soaking { step: 1, .. }));
    assert_eq!(world.weight(), 10, "no step is taken");
    world.persists = true;
    world.look();
    assert!(
        matches!(world.state.phase, Phase::Scaling { step: 2, .. }),
        "the evidence of the meantime was kept"
    );
}

#[test]
fn without_evidence_a_step_holds_and_then_does_what_the_plan_says() {
    let mut world = World::soaking(0);
    let since = world.now;
    world.verdict = Some(Verdict::NoEvidence);
    world.until("the end of the hold", |w| {
        w.now - since >= Span::seconds(175)
    });
    assert_eq!(
        world.weight(),
        1,
        "neither up nor down while the hold lasts"
    );
    world.until("the next step", |w| w.weight() == 10);
    assert!(world.said(|e| *e == Event::AdvancedWithoutEvidence { step: 0 }));

    let mut world = World::new();
    world.plan = limited(&world.plan, |limits| limits.then = Then::Pause);
    world.change(template("v2"));
    world.soak(0);
    world.verdict = None;
    world.for_seconds(7200);
    assert_eq!(world.weight(), 1);
    assert!(world.inconclusive());
}

#[test]
fn what_the_guard_doubts_does_not_advance_without_evidence_and_a_person_may_say_that_it_does() {
    let mut world = World::soaking(0);
    world.verdict = Some(Verdict::NoEvidence);
    world.doubt = true;
    world.for_seconds(7200);
    assert_eq!(world.weight(), 1);
    assert!(world.inconclusive());
    world.promotes();
    world.until("the next step", |w| w.weight() == 10);

    world.for_seconds(7200);
    assert_eq!(world.weight(), 10);
    world.doubt = false;
    world.until("the next step", |w| w.weight() == 50);
    assert!(world.said(|e| *e == Event::AdvancedWithoutEvidence { step: 1 }));
}

#[test]
fn doubt_holds_nothing_that_has_passed() {
    let mut world = World::soaking(0);
    world.doubt = true;
    world.until("the next step", |w| w.weight() == 10);
}

#[test]
fn without_evidence_and_without_requests_nothing_advances() {
    let mut world = World::soaking(0);
    world.verdict = Some(Verdict::NoEvidence);
    world.requests = 0;
    world.for_seconds(7200);
    assert_eq!(world.weight(), 1);
    assert!(world.inconclusive());
}

#[test]
fn a_failed_window_that_nothing_refutes_holds_the_step_and_is_said_to_be_inconclusive() {
    let mut world = World::soaking(1);
    world.window(Verdict::Fail);
    world.verdict = Some(Verdict::NoEvidence);
    world.for_seconds(150);
    assert!(!world.inconclusive(), "not before soak and hold are over");
    world.for_seconds(3600);
    assert_eq!(
        world.weight(),
        10,
        "one tolerated failure neither ends nor passes the step"
    );
    assert!(world.inconclusive());
    world.window(Verdict::Pass);
    assert!(!world.inconclusive(), "a pass refutes the failure");
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn a_soak_that_goes_well_is_never_said_to_be_inconclusive() {
    let mut world = World::new();
    world.change(template("v2"));
    for _ in 0..100 {
        assert!(!world.inconclusive());
        world.pass(5);
    }
}

#[test]
fn a_step_that_is_too_short_for_its_requests_waits_for_them() {
    let mut world = World::soaking(0);
    world.requests = 2;
    let since = world.now;
    world.until("the next step", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 1, .. })
    });
    assert!(
        world.now - since >= Span::seconds(100),
        "20 requests, 2 in 10 s"
    );
}

#[test]
fn canary_pods_that_never_get_ready_get_no_traffic_and_the_release_fails() {
    let mut world = World::new();
    world.ready = Some(0);
    world.change(template("v2"));
    world.until("the deadline", |w| w.state.phase == Phase::Failed);
    assert_eq!(world.cause(), Some(Cause::ProgressDeadlineExceeded));
    assert_eq!(world.weights, [0]);
}

#[test]
fn a_step_up_waits_for_every_pod_that_it_needs() {
    let mut world = World::soaking(1);
    world.until("the next step's pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 2, .. })
    });
    assert_eq!(
        world.state.run.as_ref().unwrap().unready_since,
        Some(world.now),
        "their deadline begins with the step"
    );
    world.ready = Some(1);
    world.for_seconds(200);
    assert_eq!(world.weight(), 10, "50 % of 4 pods are 2");
    world.ready = Some(2);
    world.look();
    assert_eq!(world.weight(), 50);
}

#[test]
fn a_last_soak_does_not_end_while_pods_are_missing_whatever_the_proxies_were_sent() {
    let mut world = World::soaking(3);
    world.for_seconds(55);
    world.now = world.now + Span::seconds(30);
    let mut seen = world.observe();
    seen.copy.ready = 1;
    seen.traffic = Traffic {
        sent: Some((world.run(), percent(100))),
        acknowledged: true,
    };
    world.see(&seen);
    assert!(
        matches!(world.state.phase, Phase::Soaking { step: 3, .. }),
        "a promotion takes the old pods away: {:?}",
        world.state.phase
    );
    world.look();
    assert!(matches!(world.state.phase, Phase::Promoting { .. }));
}

#[test]
fn an_acknowledgement_of_another_weight_or_run_is_none() {
    for sent in [None, Some((0, percent(10))), Some((1, percent(50)))] {
        let mut world = World::soaking(1);
        for _ in 0..40 {
            world.now = world.now + Span::seconds(5);
            let mut seen = world.observe();
            let run = world.run();
            seen.traffic.sent = sent.map(|(own, weight)| (run - 1 + own, weight));
            world.see(&seen);
        }
        assert!(
            matches!(world.state.phase, Phase::Soaking { step: 1, .. }),
            "{sent:?}"
        );
    }
}

#[test]
fn a_release_that_is_held_stays_where_it_is_and_goes_on_when_it_may() {
    let mut world = World::soaking(1);
    world.may_raise = false;
    world.for_seconds(7200);
    assert!(matches!(world.state.phase, Phase::Soaking { step: 1, .. }));
    world.may_raise = true;
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn a_freeze_over_a_new_template_starts_it_when_it_ends() {
    let mut world = World::new();
    world.may_raise = false;
    world.change(template("v2"));
    world.look();
    assert_eq!(
        (world.state.phase, world.wanted().gate),
        (Phase::Stable, Gate::Closed)
    );
    world.may_raise = true;
    world.soak(0);
}

#[test]
fn growth_of_the_deployment_within_a_step_does_not_grow_the_canary() {
    let mut world = World::soaking(2);
    let before = world.wanted().copy;
    world.replicas = 12;
    world.generation += 1;
    world.look();
    assert_eq!((world.wanted().copy, world.weight()), (before, 50));
    world.soak(3);
    assert_eq!(
        world.wanted().copy,
        Copies::One {
            revision: "v2".to_owned(),
            replicas: 12
        }
    );
}

#[test]
fn growth_of_the_deployment_after_an_abort_brings_no_canary_back() {
    let mut world = World::failed();
    world.replicas = 12;
    world.stable_ready = 12;
    world.generation += 1;
    world.for_seconds(600);
    assert_eq!(world.state.phase, Phase::Failed);
    assert_eq!((world.wanted().copy, world.weight()), (Copies::None, 0));
}

#[test]
fn a_window_that_began_before_the_soak_is_no_evidence_for_it() {
    let mut world = World::soaking(1);
    world.verdict = None;
    world.for_seconds(70);
    let mut seen = world.observe();
    seen.window = Some(Window {
        start: world.now + Span::seconds(-75),
        end: world.now,
        verdict: Verdict::Pass,
        requests: 1000,
        stable_fails: None,
    });
    world.see(&seen);
    let run = world.state.run.as_ref().unwrap();
    assert_eq!((run.passed, run.requests), (false, 0));
    assert_eq!(world.weight(), 10);
    assert!(matches!(world.state.phase, Phase::Soaking { step: 1, .. }));
}

#[test]
fn a_failed_window_that_nothing_refutes_between_two_soaks_is_inconclusive_too() {
    let mut scaling = World::soaking(1);
    scaling.until("the next step's pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 2, .. })
    });
    scaling.ready = Some(1);
    let mut shifting = World::new();
    shifting.change(template("v2"));
    shifting.until("the first raise", |w| w.weight() > 0);
    shifting.acknowledges = false;
    for mut world in [scaling, shifting] {
        let phase = world.phase();
        world.window(Verdict::Fail);
        world.verdict = Some(Verdict::NoEvidence);
        world.ready = None;
        world.acknowledges = true;
        assert!(!world.inconclusive(), "{phase}");
        let before = world.now;
        let mut woken = false;
        while world.now < before + Span::seconds(120) {
            let wake = world.look().wake.unwrap();
            world.now = wake;
            woken |= world.inconclusive();
        }
        assert!(woken, "{phase}: it wakes to say so");
        assert_eq!(world.phase(), phase, "and goes no further");
        world.window(Verdict::Pass);
        assert!(!world.inconclusive(), "{phase}");
    }
}
