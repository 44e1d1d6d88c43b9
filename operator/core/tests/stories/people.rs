//! A person takes over by break-glass, and gives it back.

use rollout_core::observation::Serving;
use rollout_core::state::{Cause, Phase, Unsettled};
use rollout_core::{Copies, Event, Gate, Split};

use crate::world::{World, one, template};

#[test]
fn whoever_breaks_the_glass_is_never_fought() {
    for mut world in World::in_every_phase() {
        let before = world.phase();
        let run = world.state.run.as_ref().map(|run| run.number);
        let served = matches!(
            before,
            "Scaling" | "Shifting" | "Soaking" | "Promoting" | "Returning"
        );
        world.persists = false;
        world.lingers = true;
        world.break_glass = true;
        world.look();
        let wanted = world.wanted();
        assert_eq!(
            (wanted.split, wanted.copy, wanted.gate, wanted.serves),
            (Split::All, Copies::None, Gate::Leave, None),
            "{before}"
        );
        if served {
            assert_eq!(
                world.state.revoked.last().map(|revoked| revoked.run),
                run,
                "{before}"
            );
        }
        // The person rolls another template, half way.
        world.change(template("v9"));
        world.paused = false;
        world.serving = Serving::Unclear(Unsettled::Rolling);
        world.persists = true;
        world.for_seconds(600);
        assert!(!world.paused, "{before}");
        assert_eq!(world.wanted().gate, Gate::Leave, "{before}");
        world.lingers = false;
        world.for_seconds(600);
        assert!(
            matches!(
                world.state.phase,
                Phase::Unsettled {
                    why: Unsettled::BreakGlass,
                    ..
                }
            ),
            "{before}: {:?}",
            world.state.phase
        );
        assert!(!world.paused, "{before}");
    }
}

#[test]
fn when_the_glass_is_whole_again_stable_is_what_serves_then() {
    for mut world in World::in_every_phase() {
        let before = world.phase();
        world.lingers = false;
        world.break_glass = true;
        world.for_seconds(60);
        world.change(template("v9"));
        world.paused = false;
        world.rolls();
        world.for_seconds(60);
        assert_eq!(world.phase(), "Unsettled", "{before}");
        world.break_glass = false;
        world.events.clear();
        world.look();
        assert_eq!(
            (world.state.phase, &world.state.stable),
            (Phase::Stable, &template("v9")),
            "{before}"
        );
        assert_eq!(
            world.events,
            [Event::Adopted {
                revision: "v9".to_owned()
            }],
            "{before}"
        );
        assert_eq!(world.state.failure, None, "{before}");
        world.change(template("v10"));
        world.until("the next release", |w| w.weight() == 1);
    }
}

#[test]
fn whoever_leaves_a_half_rolled_deployment_behind_is_waited_for() {
    let mut world = World::soaking(1);
    world.break_glass = true;
    world.for_seconds(60);
    world.paused = false;
    world.serving = Serving::Unclear(Unsettled::Rolling);
    world.look();
    world.break_glass = false;
    world.for_seconds(600);
    assert!(matches!(
        world.state.phase,
        Phase::Unsettled {
            why: Unsettled::Rolling,
            ..
        }
    ));
    assert!(!world.paused);
    world.rolls();
    world.look();
    assert_eq!(world.state.stable, template("v2"));
}

#[test]
fn whoever_mends_the_glass_before_the_rollback_is_done_is_not_fought_either() {
    let mut world = World::soaking(1);
    world.lingers = true;
    world.break_glass = true;
    world.look();
    world.paused = false;
    world.serving = Serving::Unclear(Unsettled::Rolling);
    world.break_glass = false;
    world.for_seconds(60);
    assert!(!world.paused, "what the person began goes on");
    world.lingers = false;
    world.look();
    assert_eq!(world.phase(), "Unsettled");
    world.rolls();
    world.look();
    assert_eq!(
        (world.state.phase, &world.state.stable),
        (Phase::Stable, &template("v2"))
    );
}

#[test]
fn a_deployment_that_we_paused_before_the_glass_was_broken_is_resumed_after_it() {
    let mut world = World::soaking(1);
    world.break_glass = true;
    world.for_seconds(60);
    world.change(template("v1"));
    world.look();
    assert!(world.paused, "nothing is touched under broken glass");
    world.break_glass = false;
    world.for_seconds(60);
    assert_eq!((world.state.phase, world.paused), (Phase::Stable, false));
}

#[test]
fn a_release_that_was_broken_off_waits_for_a_person_when_its_template_is_still_asked_for() {
    let mut world = World::soaking(1);
    world.break_glass = true;
    world.look();
    assert_eq!(
        (world.weight(), world.cause()),
        (0, Some(Cause::BreakGlass))
    );
    world.for_seconds(60);
    world.break_glass = false;
    world.for_seconds(60);
    assert_eq!(
        (world.state.phase, world.cause()),
        (Phase::Failed, Some(Cause::FoundPaused))
    );
    assert_eq!(world.serving, one("v1"));
    assert_eq!(world.state.stable, template("v1"));
}

#[test]
fn broken_glass_counts_before_a_deletion() {
    for mut world in World::in_every_phase() {
        let before = world.phase();
        world.lingers = true;
        world.deleted = true;
        world.break_glass = true;
        world.look();
        assert_eq!(world.wanted().gate, Gate::Leave, "{before}");
    }
}
