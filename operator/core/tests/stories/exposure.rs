//! What a release may spend of its error budget: a raise that could spend more than is left waits, and nothing else does.

use rollout_core::exposure::{Defect, ErrorBudget};
use rollout_core::judge::Verdict;
use rollout_core::plan::{Pause, Plan};
use rollout_core::state::{Cause, Phase};
use rollout_core::{Ahead, Event, Overspend, Span, Waiting, overspends};

use crate::world::{World, limited, pausing, percent, template};

/// 13 s, rounded down: steps of 1, 10, 50 and 100 % for a minute cost 0.6, 6, 30 and 60 s if everything fails.
fn budgeted(plan: &Plan) -> Plan {
    limited(plan, |limits| {
        limits.exposure = Some(ErrorBudget::try_new(999_900, 30, 50_000).unwrap());
    })
}

/// Version 2 soaks in this step, and may spend 12.96 s.
fn soaking(step: usize) -> World {
    let mut world = World::new();
    world.plan = budgeted(&world.plan);
    world.change(template("v2"));
    world.soak(step);
    world
}

fn held(world: &World) -> bool {
    world.waiting() == Some(Waiting::Exposure)
}

#[test]
fn without_a_budget_nobody_asks() {
    let mut world = World::soaking(0);
    world.exposed.defect = Defect::ALL;
    world.exposed.spent = Span(i64::MAX);
    world.until("the next step", |w| w.weight() == 10);
}

#[test]
fn a_raise_waits_until_what_it_could_spend_fits_into_what_is_left() {
    let mut world = soaking(1);
    world.exposed.defect = Defect::of(0.5);
    world.exposed.spent = Span::seconds(1);
    world.until("the hold", held);
    world.for_seconds(3600);
    assert_eq!(
        (world.weight(), world.waiting()),
        (10, Some(Waiting::Exposure))
    );
    let expected = Overspend {
        ahead: Ahead::Step(2),
        could: Span::seconds(15),
        left: Span(11_960),
    };
    assert_eq!(overspends(&world.state, world.exposed), Some(expected));
    // More requests have shown less.
    world.exposed.defect = Defect::of(0.3);
    world.until("the next step", |w| w.weight() == 50);
    assert!(
        !world.said(|e| matches!(e, Event::LetOn { .. })),
        "by itself"
    );
}

#[test]
fn no_pods_are_started_for_a_raise_that_does_not_fit_and_windows_go_on() {
    let mut world = soaking(1);
    world.exposed.defect = Defect::ALL;
    world.until("the hold", held);
    assert!(matches!(world.state.phase, Phase::Soaking { step: 1, .. }));
    world.verdict = Some(Verdict::Fail);
    world.until("the rollback", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::AnalysisFailed));
}

#[test]
fn what_is_learned_while_the_pods_come_up_holds_the_raise_too() {
    let mut world = soaking(1);
    // Enough for 10 %, and too few for 50 %.
    world.ready = Some(1);
    world.until("the pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 2, .. })
    });
    world.ready = None;
    world.exposed.spent = Span::seconds(13);
    world.for_seconds(600);
    assert!(held(&world));
    assert_eq!(world.weight(), 10);
    world.exposed.spent = Span::seconds(12);
    world.look();
    assert_eq!(world.weight(), 50);
}

#[test]
fn a_release_that_has_spent_more_than_its_budget_stays_where_it_is_and_is_not_promoted() {
    for step in 0..4 {
        let mut world = soaking(step);
        let weight = world.weight();
        world.exposed.spent = Span(12_961);
        world.until("the hold", held);
        world.for_seconds(24 * 3600);
        assert!(held(&world));
        assert_eq!(world.weight(), weight, "never a rollback");
    }
    // The last of it may be spent.
    let mut world = soaking(3);
    world.exposed.spent = Span(12_960);
    world.until("the promotion", |w| {
        matches!(w.state.phase, Phase::Promoting { .. })
    });
}

#[test]
fn the_first_raise_waits_as_well() {
    let mut world = World::new();
    world.plan = budgeted(&world.plan);
    world.exposed.spent = Span::seconds(13);
    world.change(template("v2"));
    world.for_seconds(600);
    assert_eq!((world.weights.clone(), held(&world)), (vec![0], true));
    world.promotes();
    assert_eq!(world.weight(), 1, "on a person's word");
}

#[test]
fn a_person_lets_it_go_on_once_and_at_this_weight() {
    let mut world = soaking(0);
    world.exposed.spent = Span::seconds(13);
    world.until("the hold", held);
    world.promotes();
    world.until("the next step", |w| w.weight() == 10);
    let let_on = |w: &World| {
        let all = w.events.iter();
        all.filter(|e| matches!(e, Event::LetOn { .. })).count()
    };
    assert_eq!(let_on(&world), 1, "one word for the pods and the raise");
    world.until("the hold", held);
    world.for_seconds(3600);
    assert_eq!((world.weight(), let_on(&world)), (10, 1));
}

#[test]
fn a_pause_begins_when_the_raise_fits() {
    let mut world = World::new();
    world.plan = pausing(
        &budgeted(&world.plan),
        1,
        Some(Pause::For(Span::seconds(600))),
    );
    world.change(template("v2"));
    world.soak(1);
    world.exposed.defect = Defect::ALL;
    world.until("the hold", held);
    assert!(!world.said(|e| *e == Event::Paused { step: 1 }));
    world.exposed.defect = Defect::NONE;
    world.until("the pause", |w| w.said(|e| *e == Event::Paused { step: 1 }));
    // What is seen meanwhile counts.
    world.exposed.defect = Defect::ALL;
    world.for_seconds(3600);
    assert_eq!((world.weight(), held(&world)), (10, true));
}

#[test]
fn nothing_that_takes_a_weight_away_waits_for_a_budget() {
    type Trouble = fn(&mut World);
    let troubles: [(Trouble, Cause); 5] = [
        (|w| w.deleted = true, Cause::Deleted),
        (|w| w.change(template("v1")), Cause::TemplateReverted),
        (|w| w.without_sidecar = true, Cause::NotMeshed),
        (|w| w.alarm = true, Cause::WorseThanStable),
        (|w| w.vanished = true, Cause::CanaryLost),
    ];
    for (trouble, cause) in troubles {
        let mut world = soaking(1);
        world.exposed.defect = Defect::ALL;
        world.exposed.spent = Span::seconds(100);
        world.until("the hold", held);
        world.persists = false;
        trouble(&mut world);
        world.look();
        assert_eq!((world.weight(), world.cause()), (0, Some(cause)));
    }
}

#[test]
fn an_edit_takes_the_budget_up_and_away_at_once() {
    let mut world = World::soaking(1);
    world.exposed.defect = Defect::ALL;
    world.plan = budgeted(&world.plan);
    world.until("the hold", held);
    assert_eq!(world.weight(), 10);
    world.plan = limited(&world.plan, |limits| limits.exposure = None);
    world.until("the next step", |w| w.weight() == 50);
    let weight = percent(50);
    assert!(world.said(|e| *e == Event::WeightRaised { step: 2, weight }));
}
