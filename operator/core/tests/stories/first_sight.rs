//! Which revision serves: at the first sight, after a Deployment was recreated, and when somebody went past the gate.

use rollout_core::state::{Cause, Failure, Phase, Unsettled};
use rollout_core::{Copies, Event, Gate, Split, observation::Serving};

use crate::world::{World, one, template};

#[test]
fn a_deployment_that_runs_one_revision_is_adopted_with_it() {
    let mut world = World::unseen();
    world.look();
    assert_eq!(
        (world.state.phase, &world.state.stable),
        (Phase::Stable, &template("v1"))
    );
    assert_eq!(
        world.events,
        [Event::Adopted {
            revision: "v1".to_owned()
        }]
    );
    assert_eq!(world.wanted().gate, Gate::Leave, "nothing was paused by us");
}

#[test]
fn a_deployment_that_is_found_paused_on_another_template_has_failed_and_stable_is_what_serves() {
    let mut world = World::unseen_asking_for("v2");
    world.paused = true;
    world.look();
    assert_eq!(
        (world.state.phase, &world.state.stable),
        (Phase::Failed, &template("v1"))
    );
    assert_eq!(
        world.state.failure,
        Some(Failure {
            template: template("v2"),
            run: 0,
            cause: Cause::FoundPaused,
            at: world.now,
            by: None,
        })
    );
    assert_eq!(
        world.events,
        [Event::FoundPaused {
            revision: "v2".to_owned()
        }]
    );
    world.for_seconds(3600);
    assert_eq!(world.state.phase, Phase::Failed, "it waits for a person");
    assert_eq!(world.wanted().gate, Gate::Closed);
    world.change(template("v3"));
    world.soak(0);
}

#[test]
fn nothing_is_split_paused_or_released_until_it_is_clear_which_revision_serves() {
    for why in [
        Unsettled::Rolling,
        Unsettled::HalfRolled,
        Unsettled::NothingServes,
    ] {
        let mut world = World::unseen_asking_for("v2");
        world.serving = Serving::Unclear(why);
        world.for_seconds(3600);
        assert!(matches!(world.state.phase, Phase::Unsettled { why: said, .. } if said == why));
        let wanted = world.wanted();
        assert_eq!(
            (wanted.split, wanted.copy, wanted.gate, wanted.serves),
            (Split::All, Copies::None, Gate::Leave, None)
        );
        world.rolls();
        world.look();
        assert_eq!(
            (world.state.phase, &world.state.stable),
            (Phase::Stable, &template("v2"))
        );
    }
}

#[test]
fn a_deployment_that_still_rolls_by_itself_is_left_to_it() {
    let mut world = World::unseen_asking_for("v2");
    world.for_seconds(60);
    assert_eq!(
        (world.phase(), world.wanted().gate),
        ("Unsettled", Gate::Leave)
    );
}

#[test]
fn a_hash_that_differs_without_a_new_generation_starts_nothing() {
    let mut world = World::new();
    world.template = template("v1-with-a-new-default");
    world.look();
    assert_eq!(world.state.phase, Phase::Stable);
    assert_eq!(world.state.stable, template("v1-with-a-new-default"));
    assert_eq!(world.events, []);
}

#[test]
fn a_hash_that_differs_before_it_is_clear_what_serves_keeps_nothing_up() {
    let mut world = World::unseen();
    world.serving = Serving::Unclear(Unsettled::Rolling);
    world.look();
    world.template = template("v1-with-a-new-default");
    world.serving = one("v1-with-a-new-default");
    world.look();
    assert_eq!(
        (world.state.phase, &world.state.stable),
        (Phase::Stable, &template("v1-with-a-new-default"))
    );
}

#[test]
fn a_recreated_deployment_is_adopted_afresh_from_every_phase() {
    for mut world in World::in_every_phase() {
        let before = world.phase();
        world.events.clear();
        let last_run = world.state.last_run;
        world.lingers = true;
        world.uid = "uid-2";
        world.template = template("v9");
        world.generation = 1;
        world.paused = false;
        world.rolled_out = false;
        world.serving = Serving::Unclear(Unsettled::Rolling);
        world.persists = false;
        world.look();
        assert_eq!(world.events, [Event::Recreated], "{before}");
        assert_eq!(world.wanted().split, Split::All, "{before}");
        assert_eq!(world.wanted().gate, Gate::Leave, "{before}");
        world.persists = true;
        world.rolls();
        world.look();
        assert_eq!(
            world.phase(),
            "Unsettled",
            "{before}: pods of an old copy would be a part of a new one"
        );
        world.lingers = false;
        world.look();
        assert_eq!(
            (world.state.phase, &world.state.stable),
            (Phase::Stable, &template("v9")),
            "{before}"
        );
        assert!(world.state.last_run >= last_run, "{before}");
    }
}

#[test]
fn a_template_that_was_rolled_past_the_gate_is_what_serves_and_is_said() {
    for mut world in World::in_every_phase() {
        let before = world.phase();
        if matches!(before, "Unsettled") {
            continue;
        }
        world.events.clear();
        world.change(template("v9"));
        world.rolls();
        world.persists = false;
        world.look();
        assert_eq!(world.weight(), 0, "{before}");
        assert!(!world.paused, "{before}: nobody pauses what has rolled");
        world.lingers = false;
        world.persists = true;
        world.pass(5);
        assert_eq!(world.state.phase, Phase::Stable, "{before}");
        assert_eq!(world.state.stable, template("v9"), "{before}");
        assert_eq!(
            world.events[0],
            Event::Ungated {
                revision: "v9".to_owned()
            },
            "{before}"
        );
        assert!(!world.paused, "{before}");
    }
}

#[test]
fn a_canary_that_was_rolled_past_the_gate_is_what_serves_and_its_share_goes() {
    let mut world = World::soaking(1);
    let run = world.run();
    world.rolls();
    world.lingers = true;
    world.look();
    assert_eq!((world.wanted().split, world.weight()), (Split::All, 0));
    assert_eq!(world.state.revoked.last().map(|r| r.run), Some(run));
    assert!(!world.paused);
    world.lingers = false;
    world.look();
    assert_eq!(
        (world.state.phase, &world.state.stable),
        (Phase::Stable, &template("v2"))
    );
}

#[test]
fn what_rolls_past_the_gate_is_paused_before_it_has_rolled() {
    for mut world in [World::new(), World::failed()] {
        world.change(template("v9"));
        world.paused = false;
        world.look();
        assert!(world.paused);
        assert_eq!(world.state.stable, template("v1"));
    }
}

#[test]
fn why_it_is_not_settled_yet_is_said_while_it_cannot_be_written() {
    let why = |lingers| {
        let mut world = World::unseen();
        world.serving = Serving::Unclear(Unsettled::Rolling);
        world.look();
        world.serving = one("v1");
        world.lingers = lingers;
        world.persists = false;
        world.look();
        match world.state.phase {
            Phase::Unsettled { why, .. } => why,
            other => panic!("settled without a written state: {other:?}"),
        }
    };
    assert_eq!(why(true), Unsettled::Clearing, "a copy has to go first");
    assert_eq!(why(false), Unsettled::Rolling);
}
