//! What a person asks of a release: abort, retry, pause and resume, promote now. Each is heeded once, and never for another
//! revision.

use rollout_core::judge::Verdict;
use rollout_core::observation::Hooks;
use rollout_core::plan::{OnFailure, Pause, Then};
use rollout_core::state::{Cause, Phase, Revoked};
use rollout_core::{Copies, Event, Fate, Gate, Refusal, Span, Verb, Waiting, fate};

use crate::world::{World, alice, limited, pausing, percent, request, template, weights};

/// What becomes of a request for this revision.
fn of(world: &World, verb: Verb, revision: &str) -> Fate {
    let weight = (verb == Verb::Promote).then(|| world.wanted().weight());
    let request = request(verb, revision, weight);
    fate(&world.state, &request, world.exposed, world.now)
}

fn refused(world: &World, verb: Verb, revision: &str) -> Refusal {
    match of(world, verb, revision) {
        Fate::Refused(refusal) => refusal,
        fate @ (Fate::Heeded | Fate::Awaited) => panic!("{verb:?}:{revision} is {fate:?}"),
    }
}

#[test]
fn an_abort_takes_the_weight_to_0_at_once_whatever_is_in_the_way() {
    for step in 0..4 {
        let mut world = World::soaking(step);
        world.persists = false;
        world.acknowledges = false;
        world.may_raise = false;
        world.ready = Some(0);
        world.hooks = Hooks::Hold;
        world.asks(Verb::Abort);
        assert_eq!(world.weight(), 0, "step {step}");
        assert_eq!(world.cause(), Some(Cause::Aborted));
        assert_eq!(world.state.failure.as_ref().unwrap().by, Some(alice()));
        let run = world.run();
        assert_eq!(
            world.state.revoked,
            [Revoked {
                revision: "v2".to_owned(),
                run
            }]
        );
        assert!(world.said(|e| matches!(
            e,
            Event::RolledBack {
                cause: Cause::Aborted,
                ..
            }
        )));
    }
}

#[test]
fn what_was_aborted_never_rises_again_by_itself() {
    let mut world = World::soaking(1);
    world.asks(Verb::Abort);
    world.for_seconds(10_000);
    assert_eq!((world.weight(), world.phase()), (0, "Failed"));
    let mut annotated = template("v2+");
    annotated.content = "v2".to_owned();
    world.change(annotated);
    world.for_seconds(10_000);
    assert_eq!(world.phase(), "Failed", "an annotation is no other version");
    world.change(template("v3"));
    world.until("the next release", |w| w.weight() == 1);
}

#[test]
fn an_abort_while_nothing_is_released_changes_nothing_and_says_so() {
    for mut world in World::in_every_phase() {
        let (phase, before) = (world.phase(), world.state.clone());
        if matches!(phase, "Scaling" | "Shifting" | "Soaking" | "Promoting") {
            continue;
        }
        let expected = match phase {
            "Unsettled" => Refusal::Unsettled,
            "Stable" => Refusal::NothingRuns,
            "Failed" => Refusal::RolledBack,
            _ => Refusal::GoingBack,
        };
        assert_eq!(refused(&world, Verb::Abort, "v2"), expected, "{phase}");
        world.request = Some(world.request(Verb::Abort));
        world.persists = false;
        world.look();
        assert_eq!(world.state, before, "{phase}");
    }
}

#[test]
fn a_promotion_is_aborted_as_far_as_stables_pods_are_there() {
    let mut world = World::promoting();
    assert_eq!(world.wanted().gate, Gate::Open);
    world.stable_ready = 1;
    world.asks(Verb::Abort);
    assert_eq!((world.phase(), world.weight()), ("Returning", 75));
    assert!(world.said(|e| matches!(e, Event::PromotionAborted { by, .. } if *by == alice())));
    let wanted = world.wanted();
    assert_eq!(
        (wanted.gate, wanted.serves.as_deref()),
        (Gate::Closed, Some("v1")),
        "the Deployment asks for v2 still"
    );
    world.stable_ready = 0;
    world.for_seconds(60);
    assert_eq!(
        world.weight(),
        75,
        "nothing is sent to pods that are not there"
    );
    world.stable_ready = 4;
    world.until("the end", |w| w.phase() == "Failed");
    assert_eq!(
        (world.weight(), world.cause(), &world.state.stable),
        (0, Some(Cause::Aborted), &template("v1"))
    );
    world.for_seconds(10_000);
    assert_eq!(world.phase(), "Failed", "it is not begun again by itself");
}

#[test]
fn what_has_rolled_is_not_aborted_any_more() {
    let mut world = World::promoting();
    world.rolls();
    world.asks(Verb::Abort);
    assert_eq!(world.state.phase, Phase::Stable);
    assert_eq!(world.state.stable, template("v2"));
    assert_eq!(refused(&world, Verb::Abort, "v2"), Refusal::NothingRuns);
}

#[test]
fn what_failed_is_tried_again_from_its_first_step_as_a_newer_run() {
    let mut world = World::failed();
    let before = world.run();
    let revoked = world.state.revoked.clone();
    world.asks(Verb::Retry);
    assert!(matches!(world.state.phase, Phase::Scaling { step: 0, .. }));
    assert!(world.run() > before, "proxies have revoked the old one");
    assert_eq!(world.state.revoked, revoked);
    assert_eq!(world.state.failure, None);
    assert!(world.said(|e| *e
        == Event::Retried {
            revision: "v2".to_owned(),
            by: alice()
        }));
    world.weights.clear();
    world.until("the promotion", |w| w.phase() == "Promoting");
    assert_eq!(world.weights, [1, 10, 50, 100]);
}

#[test]
fn a_retry_waits_for_the_end_of_the_rollback_and_for_whoever_holds_releases() {
    let mut world = World::soaking(1);
    world.lingers = true;
    world.asks(Verb::Abort);
    world.request = Some(world.request(Verb::Retry));
    world.for_seconds(60);
    assert_eq!(world.phase(), "RollingBack");
    world.lingers = false;
    world.may_raise = false;
    world.for_seconds(60);
    assert_eq!(world.phase(), "Failed");
    world.may_raise = true;
    world.look();
    assert_eq!(world.phase(), "Scaling");
    world.verdict = Some(Verdict::Fail);
    world.until("the second failure", |w| w.phase() == "Failed");
    let run = world.run();
    world.for_seconds(600);
    assert_eq!(world.run(), run, "no third one");
    assert_eq!(
        world.phase(),
        "Failed",
        "it is heeded once, though it is there"
    );
}

#[test]
fn only_what_failed_and_is_asked_for_is_tried_again() {
    let failed = World::failed();
    assert_eq!(of(&failed, Verb::Retry, "v2"), Fate::Awaited);
    assert_eq!(refused(&failed, Verb::Retry, "v1"), Refusal::NotFailed);
    for world in World::in_every_phase() {
        let phase = world.phase();
        match phase {
            // The template of this one was put back.
            "Failed" => {}
            "Unsettled" => assert_eq!(refused(&world, Verb::Retry, "v2"), Refusal::Unsettled),
            _ => assert_eq!(
                refused(&world, Verb::Retry, "v2"),
                Refusal::NotFailed,
                "{phase}"
            ),
        }
    }
    let mut annotated = World::failed();
    let mut other = template("v2+");
    other.content = "v2".to_owned();
    annotated.change(other.clone());
    annotated.look();
    assert_eq!(annotated.phase(), "Failed");
    assert_eq!(
        of(&annotated, Verb::Retry, "v2"),
        Fate::Awaited,
        "it is what is shown"
    );
    annotated.asks(Verb::Retry);
    assert_eq!(annotated.state.run.as_ref().unwrap().canary, other);
}

#[test]
fn what_was_found_paused_is_released_on_a_persons_word() {
    let mut world = World::unseen_asking_for("v2");
    world.paused = true;
    world.until("the sight", |w| w.cause() == Some(Cause::FoundPaused));
    world.asks(Verb::Retry);
    world.until("the release", |w| w.weight() == 1);
}

#[test]
fn a_paused_run_keeps_its_weight_and_is_judged_on() {
    let mut world = World::soaking(1);
    world.asks(Verb::Pause);
    assert!(world.said(|e| *e
        == Event::Held {
            weight: percent(10),
            by: alice()
        }));
    world.for_seconds(10_000);
    assert_eq!((world.phase(), world.weight()), ("Soaking", 10));
    world.verdict = Some(Verdict::Fail);
    world.until("the failure", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::AnalysisFailed));
}

#[test]
fn a_resumed_run_goes_on_where_it_was() {
    let mut world = World::soaking(1);
    world.asks(Verb::Pause);
    world.for_seconds(600);
    world.asks(Verb::Resume);
    assert!(world.said(|e| *e == Event::Resumed { by: alice() }));
    world.until("the next step", |w| w.weight() == 50);
    assert_eq!(world.run(), world.state.last_run, "no other run");
}

#[test]
fn a_pause_holds_at_once_and_ends_only_once_that_is_written() {
    let mut world = World::soaking(1);
    world.persists = false;
    world.asks(Verb::Pause);
    world.persists = true;
    world.for_seconds(600);
    assert_eq!(world.weight(), 10);
    world.persists = false;
    world.asks(Verb::Resume);
    world.persists = true;
    world.for_seconds(600);
    assert_eq!(world.weight(), 10, "nobody has written that it ended");
}

#[test]
fn a_pause_that_is_longer_than_the_deadline_takes_nothing_off_it() {
    let mut world = World::new();
    world.change(template("v2"));
    world.ready = Some(0);
    world.look();
    world.for_seconds(200);
    world.asks(Verb::Pause);
    world.for_seconds(3600);
    assert_eq!(world.phase(), "Scaling", "300 s of deadline are not over");
    world.asks(Verb::Resume);
    world.for_seconds(80);
    assert_eq!(world.phase(), "Scaling");
    world.for_seconds(30);
    assert_eq!(world.cause(), Some(Cause::ProgressDeadlineExceeded));
}

#[test]
fn a_pause_ends_with_its_run() {
    let mut world = World::soaking(1);
    world.asks(Verb::Pause);
    let before = world.run();
    world.change(template("v3"));
    world.until("the next release", |w| w.run() > before && w.weight() == 10);
    let run = world.state.run.as_ref().unwrap();
    assert_eq!((&run.canary, &run.on_hold), (&template("v3"), &None));
}

#[test]
fn a_pause_outlives_a_lapsed_lease() {
    let mut world = World::soaking(2);
    world.asks(Verb::Pause);
    world.lapsed = true;
    world.look();
    world.lapsed = false;
    world.for_seconds(600);
    assert_eq!(world.weight(), 0, "it began again, and is paused still");
}

#[test]
fn whoever_lets_go_on_what_a_person_has_paused_is_told_to_resume_it() {
    let mut world = World::new();
    world.plan = pausing(&world.plan, 1, Some(Pause::Promote));
    world.change(template("v2"));
    world.until("the pause", |w| {
        w.waiting() == Some(Waiting::Pause { until: None })
    });
    world.asks(Verb::Pause);
    world.look();
    for verb in [Verb::Promote, Verb::PromoteNow, Verb::Pause] {
        assert_eq!(refused(&world, verb, "v2"), Refusal::OnHold, "{verb:?}");
        world.asks(verb);
        assert_eq!(world.weight(), 10, "{verb:?}");
    }
    world.asks(Verb::Resume);
    world.look();
    assert_eq!(refused(&world, Verb::Resume, "v2"), Refusal::NotOnHold);
    world.promotes();
    world.until("the next step", |w| w.weight() == 50);
}

#[test]
fn who_promotes_now_gets_the_whole_capacity_first_then_100_percent_and_the_promotion() {
    let mut world = World::soaking(0);
    world.verdict = Some(Verdict::NoEvidence);
    world.plan = limited(&world.plan, |limits| limits.then = Then::Pause);
    world.weights.clear();
    world.ready = Some(3);
    world.asks(Verb::PromoteNow);
    assert!(world.said(|e| *e
        == Event::JudgementSkipped {
            weight: percent(1),
            by: alice()
        }));
    world.for_seconds(60);
    let Copies::One { replicas, .. } = world.wanted().copy else {
        panic!("a copy is wanted");
    };
    assert_eq!(
        (world.weight(), replicas),
        (1, 4),
        "three of four pods are Ready"
    );
    world.ready = None;
    world.acknowledges = false;
    world.for_seconds(60);
    assert_eq!(
        world.weight(),
        1,
        "the weight that is sent is not acknowledged"
    );
    world.acknowledges = true;
    world.until("the promotion", |w| w.phase() == "Promoting");
    assert_eq!(world.weights, [1, 100]);
    let run = world.state.run.as_ref().unwrap();
    assert_eq!(
        (weights(&run.plan), &run.skips),
        (vec![1, 100], &Some(alice()))
    );
}

#[test]
fn from_every_place_the_judgement_can_be_skipped_and_nothing_else() {
    for world in World::in_every_phase() {
        let (phase, mut world) = (world.phase(), world);
        if !matches!(phase, "Scaling" | "Shifting" | "Soaking") {
            assert!(
                matches!(of(&world, Verb::PromoteNow, "v2"), Fate::Refused(_)),
                "{phase}"
            );
            continue;
        }
        world.hooks = Hooks::Hold;
        world.asks(Verb::PromoteNow);
        world.for_seconds(600);
        assert!(world.weight() < 100, "{phase}: a hook is waited for");
        world.hooks = Hooks::Agree;
        world.may_raise = false;
        world.for_seconds(600);
        assert!(world.weight() < 100, "{phase}: it is frozen");
        world.may_raise = true;
        world.until("the promotion", |w| w.phase() == "Promoting");
        world.rolls();
        world.until("the end", |w| w.state.phase == Phase::Stable);
        assert_eq!(world.state.stable, template("v2"), "{phase}");
    }
}

#[test]
fn where_the_judgement_is_skipped_checks_do_not_count_and_every_way_down_does() {
    type Trouble = (fn(&mut World), Cause);
    let troubles: [Trouble; 5] = [
        (|w| w.alarm = true, Cause::WorseThanStable),
        (|w| w.asks(Verb::Abort), Cause::Aborted),
        (|w| w.change(template("v1")), Cause::TemplateReverted),
        (|w| w.without_sidecar = true, Cause::NotMeshed),
        (|w| w.vanished = true, Cause::CanaryLost),
    ];
    for (trouble, cause) in troubles {
        let mut world = World::soaking(1);
        world.ready = Some(1);
        world.asks(Verb::PromoteNow);
        world.verdict = Some(Verdict::Fail);
        world.stable_fails = Some(true);
        world.for_seconds(120);
        assert_eq!(
            (world.weight(), world.phase()),
            (10, "Scaling"),
            "{cause:?}"
        );
        trouble(&mut world);
        world.look();
        assert_eq!((world.weight(), world.cause()), (0, Some(cause)));
    }
}

#[test]
fn a_failure_that_pauses_is_forgotten_by_whoever_promotes_now() {
    let mut world = World::soaking(1);
    world.plan = limited(&world.plan, |limits| limits.on_failure = OnFailure::Pause);
    world.look();
    world.verdict = Some(Verdict::Fail);
    world.until("the failure", |w| w.waiting() == Some(Waiting::Failure));
    world.asks(Verb::PromoteNow);
    // The guard begins anew as well.
    assert!(world.said(|e| matches!(e, Event::JudgedAnew { .. })));
    world.until("the promotion", |w| w.phase() == "Promoting");
}

#[test]
fn an_edited_spec_does_not_bring_skipped_steps_back() {
    let mut world = World::soaking(2);
    world.ready = Some(1);
    world.asks(Verb::PromoteNow);
    world.plan = limited(&world.plan, |limits| {
        limits.progress_deadline = Span::seconds(900)
    });
    world.look();
    let run = world.state.run.as_ref().unwrap();
    assert_eq!((world.weight(), weights(&run.plan)), (50, vec![50, 100]));
    assert_eq!(run.plan.progress_deadline, Span::seconds(900));
    world.ready = None;
    world.until("the promotion", |w| w.phase() == "Promoting");
}

#[test]
fn a_request_for_another_revision_or_weight_is_refused() {
    let world = World::soaking(1);
    for verb in [
        Verb::Promote,
        Verb::PromoteNow,
        Verb::Abort,
        Verb::Pause,
        Verb::Resume,
    ] {
        assert_eq!(
            refused(&world, verb, "v9"),
            Refusal::OtherRevision,
            "{verb:?}"
        );
    }
    let promote = |weight| request(Verb::Promote, "v2", Some(percent(weight)));
    assert_eq!(
        fate(&world.state, &promote(50), world.exposed, world.now),
        Fate::Refused(Refusal::OtherWeight)
    );
    assert_eq!(
        fate(&world.state, &promote(10), world.exposed, world.now),
        Fate::Refused(Refusal::NotWaiting)
    );
    for verb in [Verb::Undo, Verb::Restart] {
        assert_eq!(refused(&world, verb, "v1"), Refusal::Unsupported);
    }
}

#[test]
fn what_a_person_has_judged_anew_is_judged_anew_once_however_long_the_request_stays() {
    let mut world = World::soaking(1);
    world.plan = limited(&world.plan, |limits| limits.on_failure = OnFailure::Pause);
    world.look();
    world.verdict = Some(Verdict::Fail);
    world.until("the failure", |w| w.waiting() == Some(Waiting::Failure));
    world.request = Some(world.request(Verb::Promote));
    world.for_seconds(600);
    let anew = world
        .events
        .iter()
        .filter(|e| matches!(e, Event::JudgedAnew { .. }));
    assert_eq!(anew.count(), 1);
    assert_eq!(world.waiting(), Some(Waiting::Failure), "it failed again");
}

#[test]
fn a_request_is_forgotten_when_it_is_gone_and_may_come_again() {
    let mut world = World::soaking(1);
    for _ in 0..2 {
        world.asks(Verb::Pause);
        assert_eq!(of(&world, Verb::Pause, "v2"), Fate::Heeded);
        world.look();
        assert_eq!(world.state.heeded, None);
        world.asks(Verb::Resume);
        world.look();
    }
    let held = world
        .events
        .iter()
        .filter(|e| matches!(e, Event::Held { .. }));
    assert_eq!(held.count(), 2);
}
