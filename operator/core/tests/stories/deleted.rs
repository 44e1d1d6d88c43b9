//! A CanaryRollout that is deleted while it has something to release, and `deletionPolicy: Promote`.

use rollout_core::judge::Verdict;
use rollout_core::plan::{Deletion, OnFailure};
use rollout_core::state::{Phase, Unsettled};
use rollout_core::{Event, Gate, Split};

use crate::world::{World, limited, template};

/// Deleted, with the policy to promote.
fn deleted(mut world: World) -> World {
    world.plan = limited(&world.plan, |limits| limits.deletion = Deletion::Promote);
    world.deleted = true;
    world
}

fn let_go(world: &World) -> bool {
    matches!(
        world.state.phase,
        Phase::Unsettled {
            why: Unsettled::LetGo,
            ..
        }
    )
}

#[test]
fn a_release_that_is_let_go_goes_to_0_first_and_then_the_deployment_rolls() {
    let mut world = deleted(World::soaking(2));
    world.lingers = true;
    world.look();
    assert_eq!(world.weight(), 0);
    world.for_seconds(60);
    assert_eq!(world.wanted().gate, Gate::Closed, "its copy is there");
    world.lingers = false;
    world.until("it is let go", let_go);
    assert_eq!(world.wanted().gate, Gate::Open);
    assert_eq!(world.wanted().split, Split::All);
    let revision = "v2".to_owned();
    assert!(world.said(|e| *e
        == Event::LetGo {
            revision: revision.clone()
        }));
    world.for_seconds(600);
    assert!(let_go(&world), "nothing else comes of it");
}

#[test]
fn what_waits_to_be_released_is_let_go_too() {
    let mut world = World::new();
    world.may_raise = false;
    world.change(template("v2"));
    world.look();
    let mut world = deleted(world);
    world.look();
    assert!(let_go(&world));
}

#[test]
fn a_promotion_whose_gate_is_not_open_yet_is_let_go() {
    let mut world = deleted(World::promoting());
    world.look();
    assert!(let_go(&world));
    assert_eq!(world.wanted().gate, Gate::Open);
}

/// A policy is no verdict.
#[test]
fn nothing_that_failed_or_is_failing_is_ever_let_go() {
    let mut failing = World::soaking(1);
    failing.window(Verdict::Fail);
    let mut paused = World::new();
    paused.plan = limited(&paused.plan, |l| l.on_failure = OnFailure::Pause);
    paused.change(template("v2"));
    paused.soak(0);
    paused.verdict = Some(Verdict::Fail);
    paused.for_seconds(60);
    assert_eq!(paused.weight(), 1);
    let mut lost = World::soaking(1);
    lost.without_sidecar = true;
    lost.lingers = true;
    lost.look();
    lost.lingers = false;
    for world in [failing, paused, lost, World::failed()] {
        let mut world = deleted(world);
        world.until("the end", |w| w.state.phase == Phase::Failed);
        world.for_seconds(600);
        assert_eq!(world.wanted().gate, Gate::Closed);
        assert!(!world.said(|e| matches!(e, Event::LetGo { .. })));
    }
}

#[test]
fn a_release_that_was_taken_back_is_not_let_go() {
    let mut world = deleted(World::soaking(1));
    world.lingers = true;
    world.look();
    world.change(template("v1"));
    world.look();
    world.lingers = false;
    world.until("the end", |w| w.state.phase == Phase::Stable);
    assert!(!world.said(|e| matches!(e, Event::LetGo { .. })));
}

#[test]
fn another_template_than_the_one_that_was_released_is_not_let_go() {
    let mut world = deleted(World::soaking(1));
    world.lingers = true;
    world.look();
    world.change(template("v3"));
    world.lingers = false;
    world.until("the end", |w| w.state.phase == Phase::Failed);
    assert_eq!(world.wanted().gate, Gate::Closed);
}

#[test]
fn without_the_policy_the_deployment_stays_paused() {
    let mut world = World::soaking(1);
    world.deleted = true;
    world.until("the end", |w| w.state.phase == Phase::Failed);
    assert_eq!(world.wanted().gate, Gate::Closed);
}

#[test]
fn whoever_breaks_the_glass_of_what_was_let_go_is_not_fought() {
    let mut world = deleted(World::soaking(1));
    world.until("it is let go", let_go);
    world.break_glass = true;
    world.look();
    assert_eq!(world.wanted().gate, Gate::Leave);
}
