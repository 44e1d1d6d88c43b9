//! The ways to weight 0: none waits for anything, and nothing that is merely missing is one.

use rollout_core::judge::Verdict;
use rollout_core::observation::Window;
use rollout_core::state::{Cause, Failure, Phase, Revoked};
use rollout_core::{Copies, Event, Gate, Span};

use crate::world::{World, one, percent, template};

#[test]
fn a_bad_release_goes_down_after_one_failed_window_more_than_tolerated() {
    let mut world = World::soaking(1);
    world.verdict = Some(Verdict::Fail);
    world.until("the rollback", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::AnalysisFailed));
    assert_eq!(world.state.run.as_ref().unwrap().failed_in_a_row, 3);
    world.until("the end", |w| w.state.phase == Phase::Failed);
    assert_eq!(world.wanted().gate, Gate::Closed);
    assert_eq!(
        world.state.revoked,
        [Revoked {
            revision: "v2".to_owned(),
            run: world.run()
        }]
    );
    assert!(world.said(|e| *e
        == Event::RolledBack {
            revision: "v2".to_owned(),
            cause: Cause::AnalysisFailed,
            from: percent(10)
        }));
    let tolerated: Vec<u32> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::WindowFailed {
                in_a_row,
                tolerated: 2,
            } => Some(*in_a_row),
            _ => None,
        })
        .collect();
    assert_eq!(tolerated, [1, 2, 3]);
}

#[test]
fn failed_windows_count_and_end_at_weight_0_while_nothing_can_be_written() {
    let mut world = World::soaking(2);
    world.persists = false;
    world.verdict = Some(Verdict::Fail);
    let since = world.now;
    world.until("the rollback", |w| w.weight() == 0);
    assert!(
        world.now - since <= Span::seconds(30),
        "three windows of 10 s"
    );
    world.lingers = true;
    world.for_seconds(3600);
    assert!(
        matches!(world.state.phase, Phase::RollingBack { .. }),
        "its end waits until it can be written"
    );
    world.lingers = false;
    world.persists = true;
    world.look();
    assert_eq!(world.state.phase, Phase::Failed);
}

#[test]
fn an_alarm_of_the_guard_rolls_back_at_once_whatever_the_windows_say() {
    let mut world = World::soaking(1);
    world.alarm = true;
    world.look();
    assert_eq!(
        (world.weight(), world.cause()),
        (0, Some(Cause::WorseThanStable))
    );
    world.alarm = false;
    world.until("the end", |w| w.state.phase == Phase::Failed);
}

#[test]
fn an_alarm_at_weight_0_means_nothing() {
    let mut world = World::new();
    world.change(template("v2"));
    world.alarm = true;
    world.look();
    assert_eq!((world.phase(), world.cause()), ("Scaling", None));
}

type Way = (&'static str, fn(&mut World));

#[test]
fn every_way_down_counts_while_nothing_can_be_written() {
    let ways: [Way; 9] = [
        ("worse than stable", |w| w.alarm = true),
        ("deleted", |w| w.deleted = true),
        ("break-glass", |w| w.break_glass = true),
        ("revoked", |w| w.revoked = Some(w.run())),
        ("reverted", |w| w.change(template("v1"))),
        ("superseded", |w| w.change(template("v3"))),
        ("no sidecar", |w| w.without_sidecar = true),
        ("lost", |w| w.vanished = true),
        ("another Deployment", |w| w.uid = "uid-2"),
    ];
    for (name, way) in ways {
        let mut world = World::soaking(2);
        let run = world.run();
        world.persists = false;
        // Nobody helps either.
        world.may_raise = false;
        world.acknowledges = false;
        way(&mut world);
        world.look();
        assert_eq!(world.weight(), 0, "{name}");
        assert_eq!(
            world.state.revoked,
            [Revoked {
                revision: "v2".to_owned(),
                run
            }],
            "{name}"
        );
    }
}

#[test]
fn a_pass_between_failures_starts_the_count_anew() {
    let mut world = World::soaking(1);
    for verdict in [
        Verdict::Fail,
        Verdict::Fail,
        Verdict::Pass,
        Verdict::Fail,
        Verdict::Fail,
        Verdict::Pass,
    ] {
        world.window(verdict);
    }
    assert_ne!(world.weight(), 0);
    assert_eq!(world.state.run.as_ref().unwrap().failed_in_a_row, 0);
}

#[test]
fn a_window_is_counted_once_however_often_it_is_shown() {
    let mut world = World::soaking(1);
    world.now = world.now + Span::seconds(10);
    let mut seen = world.observe();
    seen.window = Some(Window {
        start: world.now + Span::seconds(-10),
        end: world.now,
        verdict: Verdict::Fail,
        requests: 10,
        stable_fails: None,
    });
    for persists in [false, true, false, true] {
        world.persists = persists;
        world.see(&seen);
        world.now = world.now + Span::seconds(1);
        seen.now = world.now;
    }
    assert_eq!(world.state.run.as_ref().unwrap().failed_in_a_row, 1);
}

#[test]
fn a_failed_window_counts_while_the_next_step_is_prepared_too() {
    let mut world = World::soaking(1);
    world.until("the next step's pods", |w| {
        matches!(w.state.phase, Phase::Scaling { step: 2, .. })
    });
    world.verdict = Some(Verdict::Fail);
    world.ready = Some(1);
    world.until("the rollback", |w| w.weight() == 0);
    assert_eq!(world.cause(), Some(Cause::AnalysisFailed));
}

#[test]
fn proxies_that_never_acknowledge_hold_a_release_for_hours_and_never_end_it() {
    for step in [0, 3] {
        let mut world = World::soaking(step);
        let weight = world.weight();
        world.acknowledges = false;
        world.for_seconds(4 * 3600);
        assert!(matches!(world.state.phase, Phase::Soaking { step: at, .. } if at == step));
        assert_eq!(world.weight(), weight);
        world.change(template("v1"));
        world.look();
        assert_eq!(world.weight(), 0, "lowering never waits for them");
    }
    for world in World::in_every_phase() {
        let mut world = world;
        if !matches!(world.phase(), "Scaling" | "Shifting") {
            continue;
        }
        let phase = world.phase();
        world.acknowledges = false;
        world.for_seconds(4 * 3600);
        assert_eq!((world.phase(), world.cause()), (phase, None));
        world.acknowledges = true;
        world.soak(0);
    }
}

#[test]
fn a_rollback_ends_when_its_copy_is_gone_whoever_has_not_acknowledged() {
    let mut world = World::soaking(1);
    world.acknowledges = false;
    world.lingers = true;
    world.change(template("v1"));
    world.for_seconds(600);
    assert!(matches!(world.state.phase, Phase::RollingBack { .. }));
    assert_eq!(world.wanted().copy, Copies::None);
    world.lingers = false;
    world.look();
    assert_eq!(world.state.phase, Phase::Stable);
}

#[test]
fn a_newer_template_starts_at_0_and_the_one_before_is_revoked() {
    let mut world = World::soaking(2);
    world.window(Verdict::Fail);
    world.change(template("v3"));
    world.look();
    assert_eq!(world.weight(), 0);
    let run = world.state.run.clone().unwrap();
    assert_eq!(run.canary, template("v3"));
    assert_eq!(
        (run.failed_in_a_row, run.requests, run.passed),
        (0, 0, false),
        "counters of its own"
    );
    assert_eq!(world.wanted().serves.as_deref(), Some("v1"));
    assert_eq!(
        world
            .state
            .revoked
            .last()
            .map(|revoked| revoked.revision.as_str()),
        Some("v2")
    );
    assert!(run.number > world.state.revoked[0].run);
    assert!(world.said(|e| *e
        == Event::Superseded {
            revision: "v2".to_owned()
        }));
    world.soak(0);
    assert_eq!(world.weight(), 1);
}

#[test]
fn the_stable_template_ends_the_release_without_analysis_and_opens_the_gate() {
    let mut world = World::soaking(2);
    world.verdict = None;
    world.change(template("v1"));
    world.look();
    assert_eq!(
        (world.weight(), world.cause()),
        (0, Some(Cause::TemplateReverted))
    );
    world.until("the end", |w| w.state.phase == Phase::Stable);
    assert_eq!(world.wanted().gate, Gate::Open);
    world.look();
    world.look();
    assert_eq!(world.wanted().gate, Gate::Leave);
}

#[test]
fn the_stable_template_after_a_failure_starts_nothing() {
    let mut world = World::failed();
    world.events.clear();
    world.change(template("v1"));
    world.for_seconds(600);
    assert_eq!(world.state.phase, Phase::Stable);
    assert_eq!(
        world.events,
        [Event::Recovered {
            revision: "v1".to_owned()
        }]
    );
    assert!(!world.paused);
}

#[test]
fn a_failed_template_is_tried_again_only_when_more_than_annotations_changed() {
    let mut world = World::failed();
    let mut restarted = template("v2-restarted");
    restarted.content = "v2".to_owned();
    world.change(restarted);
    world.for_seconds(60);
    assert_eq!(world.state.phase, Phase::Failed);
    world.change(template("v3"));
    world.look();
    assert!(matches!(world.state.phase, Phase::Scaling { step: 0, .. }));
}

#[test]
fn a_template_that_was_taken_back_before_anything_was_wrong_with_it_may_come_again() {
    let mut world = World::soaking(1);
    world.lingers = true;
    world.change(template("v1"));
    world.look();
    world.change(template("v2"));
    world.look();
    let before = world.run();
    world.lingers = false;
    world.until("a run of its own", |w| w.weight() == 1);
    assert!(world.run() > before);
}

#[test]
fn a_revocation_that_a_proxy_remembers_rolls_back_unless_the_run_is_newer() {
    let mut world = World::soaking(1);
    let number = world.run();
    world.revoked = Some(number - 1);
    world.look();
    assert_eq!(world.weight(), 10);
    world.revoked = Some(number);
    world.look();
    assert_eq!((world.weight(), world.cause()), (0, Some(Cause::Revoked)));
}

#[test]
fn canary_pods_that_are_taken_away_end_the_release_and_nothing_is_stuck() {
    let mut world = World::soaking(2);
    world.vanished = true;
    world.look();
    assert_eq!(
        (world.weight(), world.cause()),
        (0, Some(Cause::CanaryLost))
    );
    world.until("the end", |w| w.state.phase == Phase::Failed);
    assert_eq!(world.wanted().serves.as_deref(), Some("v1"));
}

#[test]
fn canary_pods_that_stop_being_ready_end_the_release_only_after_the_deadline() {
    let mut world = World::soaking(2);
    world.verdict = None;
    world.ready = Some(1);
    world.for_seconds(290);
    assert_eq!(world.cause(), None);
    world.ready = None;
    world.look();
    world.ready = Some(1);
    world.may_raise = false;
    world.for_seconds(290);
    assert_eq!(world.cause(), None, "it counts from the newest time on");
    world.for_seconds(30);
    assert_eq!(
        (world.weight(), world.cause()),
        (0, Some(Cause::CanaryLost)),
        "who holds the release does not keep a broken canary"
    );
}

#[test]
fn a_canary_pod_without_a_sidecar_ends_the_release() {
    let mut world = World::soaking(0);
    world.without_sidecar = true;
    world.look();
    assert_eq!((world.weight(), world.cause()), (0, Some(Cause::NotMeshed)));
}

#[test]
fn a_lease_that_lapsed_takes_the_run_to_its_first_step_with_nothing_earned() {
    let mut world = World::soaking(2);
    let run = world.run();
    world.events.clear();
    world.weights.clear();
    world.lapsed = true;
    world.persists = false;
    world.look();
    assert_eq!(world.weight(), 0);
    assert!(matches!(world.state.phase, Phase::Scaling { step: 0, .. }));
    assert_eq!(
        world.events,
        [Event::LeaseLapsed {
            revision: "v2".to_owned(),
            from: percent(50)
        }]
    );
    world.persists = true;
    world.lapsed = false;
    let since = world.now;
    world.soak(2);
    assert!(world.now - since >= Span::seconds(120), "soaks are earned");
    assert_eq!(
        (world.run(), &world.weights[..]),
        (run, &[0, 1, 10, 50][..])
    );
}

#[test]
fn nothing_is_raised_while_the_lease_is_lapsed() {
    let mut world = World::soaking(2);
    world.events.clear();
    world.lapsed = true;
    world.for_seconds(600);
    assert_eq!(world.weight(), 0);
    assert_eq!(world.events.len(), 1, "it is said once: {:?}", world.events);
    world.lapsed = false;
    world.soak(0);
}

#[test]
fn nothing_lapses_while_stable_is_being_replaced() {
    let mut world = World::promoting();
    world.lapsed = true;
    world.look();
    assert_eq!((world.phase(), world.weight()), ("Promoting", 100));
}

#[test]
fn deleting_the_rollout_goes_to_0_and_opens_the_gate_only_for_the_stable_template() {
    let mut world = World::soaking(3);
    world.deleted = true;
    world.look();
    assert_eq!((world.weight(), world.cause()), (0, Some(Cause::Deleted)));
    world.until("the end", |w| w.state.phase == Phase::Failed);
    assert_eq!(world.wanted().gate, Gate::Closed);
    world.for_seconds(600);
    assert_eq!(world.state.phase, Phase::Failed, "nothing starts any more");

    let mut world = World::new();
    world.deleted = true;
    world.change(template("v2"));
    world.for_seconds(60);
    assert_eq!(world.state.phase, Phase::Stable);
}

#[test]
fn a_failure_names_its_run_its_template_its_cause_and_its_moment() {
    let mut world = World::soaking(1);
    world.without_sidecar = true;
    world.look();
    assert_eq!(
        world.state.failure,
        Some(Failure {
            template: template("v2"),
            run: world.run(),
            cause: Cause::NotMeshed,
            at: world.now,
            by: None,
        })
    );
    assert_eq!(world.serving, one("v1"));
}

#[test]
fn at_most_eight_revocations_are_kept_and_the_newest_are() {
    let mut world = World::soaking(0);
    for n in 3..15 {
        world.change(template(&format!("v{n}")));
        world.look();
    }
    let kept: Vec<&str> = world
        .state
        .revoked
        .iter()
        .map(|revoked| revoked.revision.as_str())
        .collect();
    assert_eq!(kept, ["v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13"]);
}
