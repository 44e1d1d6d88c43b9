//! Who is asked before a raise and before the promotion: they hold or end, and nothing that lowers waits for them.

use rollout_core::judge::Verdict;
use rollout_core::observation::Hooks;
use rollout_core::plan::Pause;
use rollout_core::state::{Cause, Phase};
use rollout_core::{Ahead, Event, Verb, ahead};

use crate::world::{World, pausing, template};

/// What the hooks would be asked now.
fn asked(world: &World) -> Option<Ahead> {
    ahead(&world.plan, &world.state, &world.observe())
}

#[test]
fn no_weight_is_raised_before_the_hooks_agree_the_first_one_included() {
    let mut world = World::new();
    world.hooks = Hooks::Hold;
    world.change(template("v2"));
    world.for_seconds(7200);
    assert!(matches!(world.state.phase, Phase::Scaling { step: 0, .. }));
    assert_eq!(world.weights, [0], "the pods are there, and get nothing");
    assert_eq!(asked(&world), Some(Ahead::Step(0)));
    world.hooks = Hooks::Agree;
    world.look();
    assert_eq!(world.weight(), 1);
    world.hooks = Hooks::Hold;
    world.for_seconds(7200);
    assert_eq!(world.weight(), 1, "the next raise is another question");
    assert_eq!(asked(&world), Some(Ahead::Step(1)));
}

#[test]
fn hooks_are_asked_when_nothing_but_their_word_is_missing() {
    let mut world = World::new();
    world.hooks = Hooks::Hold;
    world.ready = Some(0);
    world.change(template("v2"));
    world.look();
    assert_eq!(asked(&world), None, "no pod is Ready");
    world.ready = None;
    world.may_raise = false;
    assert_eq!(asked(&world), None, "somebody holds the run");
    world.may_raise = true;
    world.acknowledges = false;
    assert_eq!(asked(&world), None, "proxies have not acknowledged");
    world.acknowledges = true;
    assert_eq!(asked(&world), Some(Ahead::Step(0)));
    let world = World::soaking(1);
    assert_eq!(asked(&world), None, "nothing is earned yet");
}

#[test]
fn the_promotion_waits_for_the_hooks_and_the_windows_go_on() {
    let mut world = World::soaking(3);
    world.hooks = Hooks::Hold;
    world.for_seconds(7200);
    assert!(matches!(world.state.phase, Phase::Soaking { step: 3, .. }));
    assert_eq!(asked(&world), Some(Ahead::Promotion));
    world.verdict = Some(Verdict::Fail);
    world.until("the rollback", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::AnalysisFailed));
    assert_eq!(
        asked(&world),
        None,
        "nobody is asked about a run that is over"
    );
}

#[test]
fn whoever_refuses_ends_the_run_at_once_and_without_a_written_state() {
    for step in 0..4 {
        let mut world = World::soaking(step);
        world.persists = false;
        world.hooks = Hooks::Refuse;
        world.look();
        assert_eq!(world.weight(), 0);
        assert_eq!(world.cause(), Some(Cause::HookRefused));
    }
    // Before the first raise, too.
    let mut world = World::new();
    world.change(template("v2"));
    world.look();
    world.hooks = Hooks::Refuse;
    world.until("the end", |w| w.state.phase == Phase::Failed);
    assert_eq!(world.weights, [0]);
    assert_eq!(world.cause(), Some(Cause::HookRefused));
}

#[test]
fn nothing_that_takes_a_weight_away_waits_for_a_hook() {
    type Trouble = fn(&mut World);
    let troubles: [(Trouble, Cause); 5] = [
        (|w| w.deleted = true, Cause::Deleted),
        (|w| w.change(template("v1")), Cause::TemplateReverted),
        (|w| w.without_sidecar = true, Cause::NotMeshed),
        (|w| w.alarm = true, Cause::WorseThanStable),
        (|w| w.vanished = true, Cause::CanaryLost),
    ];
    for (trouble, cause) in troubles {
        let mut world = World::soaking(1);
        world.hooks = Hooks::Hold;
        world.until("the question", |w| asked(w) == Some(Ahead::Step(2)));
        assert_eq!(world.weight(), 10);
        trouble(&mut world);
        world.look();
        assert_eq!(world.weight(), 0, "{cause:?}");
        assert_eq!(world.cause(), Some(cause));
    }
}

#[test]
fn a_promotion_that_runs_asks_nobody() {
    for hooks in [Hooks::Hold, Hooks::Refuse] {
        let mut world = World::promoting();
        world.hooks = hooks;
        world.look();
        assert_eq!(world.weight(), 100, "{hooks:?}");
        world.rolls();
        world.until("the end", |w| w.state.phase == Phase::Stable);
        assert_eq!(world.state.stable, template("v2"), "{hooks:?}");
    }
}

#[test]
fn a_persons_word_is_not_used_up_while_a_hook_is_waited_for() {
    let mut world = World::new();
    world.plan = pausing(&world.plan, 3, Some(Pause::Promote));
    world.change(template("v2"));
    world.until("the pause", |w| w.said(|e| *e == Event::Paused { step: 3 }));
    assert_eq!(asked(&world), None, "a person is waited for first");
    world.hooks = Hooks::Hold;
    world.request = Some(world.request(Verb::Promote));
    world.for_seconds(600);
    assert!(!world.said(|e| matches!(e, Event::LetOn { .. })));
    assert_eq!(asked(&world), Some(Ahead::Promotion));
    world.hooks = Hooks::Agree;
    world.look();
    assert!(world.said(|e| matches!(e, Event::LetOn { .. })));
    assert!(matches!(world.state.phase, Phase::Promoting { .. }));
}
