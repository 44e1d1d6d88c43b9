//! A promotion: traffic stays on the canary while the old pods go, and it can be left.

use rollout_core::state::{Cause, Phase, Unsettled};
use rollout_core::{Copies, Event, Gate, Lease, Split};

use crate::world::{World, one, percent, template};

#[test]
fn a_promotion_that_does_not_come_along_stays_on_the_canary_without_a_lease() {
    let mut world = World::promoting();
    world.canary_pods = 1;
    world.stable_ready = 3;
    world.for_seconds(4 * 3600);
    assert_eq!((world.phase(), world.weight()), ("Promoting", 100));
    assert_eq!(
        world.wanted().canary().map(|canary| canary.lease),
        Some(Lease::None),
        "there is nothing that proxies could go back to"
    );
}

#[test]
fn a_promotion_that_is_stuck_is_left_for_stable_as_far_as_its_pods_are_there() {
    let mut world = World::promoting();
    world.canary_pods = 1;
    world.stable_ready = 3;
    world.events.clear();
    world.persists = false;
    world.change(template("v1"));
    world.look();
    assert_eq!((world.phase(), world.weight()), ("Returning", 25));
    assert_eq!(
        world.events,
        [Event::Returning {
            revision: "v1".to_owned()
        }]
    );
    world.persists = true;
    assert_eq!(
        world.wanted().copy,
        Copies::One {
            revision: "v2".to_owned(),
            replicas: 1
        },
        "the copy shrinks with its share"
    );
    assert_eq!(world.wanted().gate, Gate::Open, "stable's pods come back");
    world.stable_ready = 2;
    world.look();
    assert_eq!(world.weight(), 25, "what stable has taken it keeps");
    world.canary_pods = 0;
    world.stable_ready = 4;
    world.look();
    assert_eq!(
        (world.weight(), world.cause()),
        (0, Some(Cause::TemplateReverted))
    );
    assert!(
        world.said(|e| *e
            == Event::RolledBack {
                revision: "v2".to_owned(),
                cause: Cause::TemplateReverted,
                from: percent(25)
            }),
        "{:?}",
        world.events
    );
    world.until("the end", |w| w.state.phase == Phase::Stable);
    assert_eq!(world.state.stable, template("v1"));
}

#[test]
fn a_promotion_that_has_not_begun_to_roll_is_left_for_stable_at_once() {
    let mut world = World::promoting();
    world.events.clear();
    world.change(template("v1"));
    world.look();
    assert_eq!(world.weight(), 0);
    assert!(world.said(|e| *e
        == Event::RolledBack {
            revision: "v2".to_owned(),
            cause: Cause::TemplateReverted,
            from: percent(100)
        }));
}

#[test]
fn a_promotion_is_never_left_for_stable_pods_that_are_not_there() {
    let mut world = World::promoting();
    world.rolls();
    world.paused = true;
    world.change(template("v1"));
    world.look();
    assert_eq!((world.phase(), world.weight()), ("Returning", 100));
    world.for_seconds(3600);
    assert_eq!(world.weight(), 100);
    world.stable_ready = 1;
    world.look();
    assert_eq!(world.weight(), 75);
}

#[test]
fn a_third_template_on_the_way_back_waits_until_stable_serves() {
    let mut world = World::promoting();
    world.canary_pods = 3;
    world.stable_ready = 1;
    world.change(template("v1"));
    world.look();
    world.change(template("v3"));
    world.look();
    assert_eq!((world.phase(), world.weight()), ("Returning", 75));
    assert_eq!(
        (world.wanted().gate, world.wanted().serves.as_deref()),
        (Gate::Closed, Some("v1"))
    );
    world.canary_pods = 0;
    world.stable_ready = 4;
    world.until("the third one", |w| w.weight() == 1);
    assert_eq!(world.state.run.as_ref().unwrap().canary, template("v3"));
    assert_eq!(world.state.stable, template("v1"));
}

#[test]
fn a_promotion_is_left_by_deletion_for_all_pods_that_there_are() {
    let mut world = World::promoting();
    world.canary_pods = 1;
    world.stable_ready = 3;
    world.persists = false;
    world.deleted = true;
    world.look();
    assert_eq!(
        (world.wanted().split, world.wanted().gate),
        (Split::All, Gate::Leave)
    );
    assert!(matches!(
        world.state.phase,
        Phase::Unsettled {
            why: Unsettled::Leaving,
            ..
        }
    ));
    world.for_seconds(600);
    assert_eq!(world.phase(), "Unsettled", "nothing is adopted any more");
}

#[test]
fn a_third_template_before_the_promotion_has_rolled_anything_starts_anew_at_0() {
    let mut world = World::promoting();
    world.persists = false;
    world.change(template("v3"));
    world.look();
    assert_eq!(world.weight(), 0);
    assert_eq!(world.state.run.as_ref().unwrap().canary, template("v3"));
    assert_eq!(world.state.stable, template("v1"));
    world.persists = true;
    world.until("the first raise", |w| w.weight() > 0);
    assert_eq!(world.weight(), 1, "not before its own first step");
}

#[test]
fn a_third_template_while_the_promotion_rolls_waits_for_its_end_in_the_replica_sets() {
    let mut world = World::promoting();
    world.canary_pods = 2;
    world.stable_ready = 2;
    world.change(template("v3"));
    world.for_seconds(60);
    assert_eq!((world.phase(), world.weight()), ("Promoting", 100));
    assert_eq!(
        (world.wanted().gate, world.wanted().serves.as_deref()),
        (Gate::Closed, Some("v2")),
        "the Deployment stays paused, its ReplicaSets are scaled"
    );
    world.canary_pods = 4;
    world.stable_ready = 0;
    world.canary_complete = true;
    world.serving = one("v2");
    world.look();
    assert_eq!(world.state.stable, template("v2"));
    assert_eq!(world.state.run.as_ref().unwrap().canary, template("v3"));
    assert_eq!(world.weight(), 0);
    world.until("the first raise", |w| w.weight() > 0);
    assert_eq!(world.weight(), 1);
}

#[test]
fn a_third_template_that_is_held_waits_in_stable_after_the_promotion() {
    let mut world = World::promoting();
    world.canary_pods = 2;
    world.change(template("v3"));
    world.canary_complete = true;
    world.serving = one("v2");
    world.may_raise = false;
    world.look();
    assert_eq!(
        (world.phase(), world.wanted().gate, &world.state.stable),
        ("Stable", Gate::Closed, &template("v2"))
    );
    world.may_raise = true;
    world.look();
    assert_eq!(world.state.run.as_ref().unwrap().canary, template("v3"));
}

#[test]
fn a_third_template_that_somebody_rolled_past_a_promotion_is_what_serves() {
    let mut world = World::promoting();
    world.change(template("v3"));
    world.rolls();
    world.look();
    assert_eq!((world.weight(), &world.state.stable), (0, &template("v3")));
    world.look();
    assert_eq!(world.state.phase, Phase::Stable);
    assert!(world.said(|e| *e
        == Event::Ungated {
            revision: "v3".to_owned()
        }));
}

#[test]
fn a_promotion_is_left_when_its_deployment_is_another_one_and_revoked() {
    for mut world in World::in_every_phase() {
        if !matches!(world.phase(), "Promoting" | "Returning") {
            continue;
        }
        let run = world.run();
        world.uid = "uid-2";
        world.look();
        assert_eq!(world.weight(), 0);
        assert_eq!(
            world.state.revoked.last().map(|revoked| revoked.run),
            Some(run),
            "a proxy that was away has no lease to lose"
        );
    }
}
