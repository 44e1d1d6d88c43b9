//! A plan that is edited while a run is under way.

use rollout_core::judge::Verdict;
use rollout_core::plan::{Capacity, Plan, Step};
use rollout_core::state::{Cause, Phase};
use rollout_core::{Copies, Event, Span};

use crate::world::{World, limited, plan, template, weights};

/// The plans that were said to be in force, and at which step.
fn said(world: &World) -> Vec<(Vec<u8>, usize)> {
    world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::PlanChanged { plan, step } => Some((weights(plan), *step)),
            _ => None,
        })
        .collect()
}

#[test]
fn steps_that_are_edited_to_everything_at_once_hold_what_is_sent_and_say_so() {
    let mut world = World::soaking(1);
    let since = world.now;
    world.plan = plan(&[100]);
    world.look();
    assert_eq!(world.weight(), 10);
    assert_eq!(said(&world), [(vec![10, 100], 0)]);
    world.until("the next step", |w| w.weight() == 100);
    assert!(
        world.now - since >= Span::seconds(60),
        "the soak that was begun is soaked"
    );
    assert_eq!(said(&world).len(), 1, "it is said once");
    assert_eq!(world.weights, [0, 1, 10, 100]);
}

#[test]
fn an_edit_that_lowers_the_step_lowers_the_weight_at_once_and_soaks_anew() {
    let mut world = World::soaking(2);
    world.window(Verdict::Pass);
    world.persists = false;
    world.plan = plan(&[1, 10, 20, 100]);
    world.look();
    assert_eq!(world.weight(), 20, "nothing has to be written for it");
    assert_eq!(said(&world), [(vec![1, 10, 20, 100], 2)]);
    let run = world.state.run.clone().unwrap();
    assert_eq!((run.requests, run.passed), (0, false));
    world.persists = true;
    world.soak(2);
    let since = world.now;
    world.until("the next step", |w| w.weight() == 100);
    assert!(world.now - since >= Span::seconds(60));
}

#[test]
fn an_edit_while_the_next_pods_come_up_never_raises_what_is_sent() {
    let mut world = World::soaking(1);
    world.until("the next step's pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 2, .. })
    });
    world.ready = Some(1);
    world.plan = plan(&[5, 6, 100]);
    world.look();
    assert_eq!(world.weight(), 6);
    assert_eq!(said(&world), [(vec![5, 6, 100], 2)]);
    world.for_seconds(60);
    assert_eq!(world.weight(), 6, "the next step is 100 % and needs 4 pods");
    world.ready = None;
    world.look();
    assert_eq!(world.weight(), 100);
}

#[test]
fn before_anything_is_sent_an_edited_plan_is_simply_the_plan() {
    let mut world = World::new();
    world.change(template("v2"));
    world.look();
    world.ready = Some(0);
    world.plan = plan(&[25, 100]);
    world.look();
    assert_eq!(
        (world.weight(), said(&world)),
        (0, vec![(vec![25, 100], 0)])
    );
    assert_eq!(
        world.wanted().copy,
        Copies::One {
            revision: "v2".to_owned(),
            replicas: 1
        }
    );
    world.ready = None;
    world.until("the first raise", |w| w.weight() > 0);
    assert_eq!(world.weights, [0, 25]);
}

#[test]
fn an_edit_that_is_taken_back_raises_nothing_either() {
    let mut world = World::soaking(2);
    world.plan = plan(&[1, 10, 20, 100]);
    world.look();
    world.plan = plan(&[1, 10, 50, 100]);
    world.look();
    assert_eq!(world.weight(), 20);
    world.until("the next step", |w| w.weight() > 20);
    assert_eq!(world.weight(), 50);
}

#[test]
fn other_fields_of_the_spec_leave_the_weight_and_the_soak_alone() {
    let mut world = World::soaking(1);
    world.for_seconds(30);
    let phase = world.state.phase;
    world.plan = limited(&world.plan, |limits| {
        limits.interval = Span::seconds(5);
        limits.hold = Span::seconds(1);
        limits.failure_limit = 0;
    });
    world.look();
    assert_eq!((world.state.phase, world.weight()), (phase, 10));
    world.verdict = Some(Verdict::Fail);
    world.until("the rollback", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::AnalysisFailed));
    assert_eq!(
        world.state.run.as_ref().unwrap().failed_in_a_row,
        1,
        "limits are in force at once"
    );
}

#[test]
fn a_soak_that_was_begun_keeps_its_length_and_its_requests() {
    let mut world = World::soaking(1);
    let steps = world.plan.steps().iter().map(|step| Step {
        soak: Span(0),
        min_requests: 0,
        pause: None,
        ..*step
    });
    world.plan = Plan::new(steps.collect(), *world.plan).unwrap();
    world.for_seconds(50);
    assert!(matches!(world.state.phase, Phase::Soaking { step: 1, .. }));
    world.until("the end of the next soak", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 3, .. })
    });
}

#[test]
fn more_capacity_is_asked_for_at_once_and_waited_for_before_the_next_step() {
    let mut world = World::soaking(1);
    world.ready = Some(1);
    world.plan = limited(&world.plan, |limits| limits.capacity = Capacity::Full);
    world.look();
    assert_eq!(
        world.wanted().copy,
        Copies::One {
            revision: "v2".to_owned(),
            replicas: 4
        }
    );
    world.for_seconds(120);
    assert!(matches!(world.state.phase, Phase::Soaking { step: 1, .. }));
    world.ready = None;
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn an_edit_counts_for_nothing_once_the_steps_are_done() {
    let mut world = World::promoting();
    world.plan = plan(&[1, 100]);
    world.look();
    assert_eq!((world.phase(), world.weight()), ("Promoting", 100));
    assert_eq!(said(&world), []);
    world.rolls();
    world.look();
    world.change(template("v3"));
    world.until("the next release", |w| w.weight() == 100);
    assert_eq!(world.weights[5..], [0, 1, 100], "the next run has it");
}
