use aviary_crds::CanaryRollout;
use aviary_crds::status::Phase;
use jiff::Timestamp;
use serde_json::Value;

use super::testing::soaking;
use super::{View, newest_events, view};
use crate::lines::{plain, progress};
use crate::list::list;
use crate::template::Template;

/// The same release, changed.
fn with(change: impl FnOnce(&mut CanaryRollout)) -> View {
    let value: Value = serde_json::from_str(include_str!("testdata/soaking.json")).unwrap();
    let mut rollout: CanaryRollout = serde_json::from_value(value["rollout"].clone()).unwrap();
    change(&mut rollout);
    view(&rollout, None, Vec::new())
}

fn in_phase(phase: Phase) -> View {
    with(|rollout| rollout.status.as_mut().unwrap().phase = Some(phase))
}

#[test]
fn a_release_that_soaks_is_shown_with_all_that_is_known_of_it() {
    let (view, now) = soaking();
    let text = plain(&view, now, usize::MAX) + "\n";
    assert_eq!(text, include_str!("testdata/soaking.txt"));
    assert_eq!(
        progress(&view),
        "Soaking step 2/4: weight 10%, used by 3 of 3 proxies"
    );
}

#[test]
fn a_narrow_terminal_gets_narrow_lines() {
    let (view, now) = soaking();
    for line in plain(&view, now, 60).lines() {
        let is_one_word = !line.trim().contains(' ');
        assert!(line.chars().count() <= 60 || is_one_word, "{line}");
    }
}

#[test]
fn what_happens_next_is_told_in_every_phase() {
    for (phase, what, needs_person) in [
        (
            Phase::Stable,
            "a new template of Deployment payment starts a release",
            false,
        ),
        (
            Phase::Starting,
            "weight 10% when 2 of its pods are Ready",
            false,
        ),
        (
            Phase::Scaling,
            "weight 10% when 2 of its pods are Ready",
            false,
        ),
        (
            Phase::Shifting,
            "the soak at 10% begins when every proxy has acknowledged it",
            false,
        ),
        (Phase::Soaking, "weight 50%, if it passes", false),
        (
            Phase::Paused,
            "weight 50%, when a person lets it go on",
            true,
        ),
        (
            Phase::Promoting,
            "it is the stable revision when Deployment payment has rolled",
            false,
        ),
        (
            Phase::Returning,
            "the stable pods take over again as they become Ready",
            false,
        ),
        (
            Phase::RollingBack,
            "its pods go when no proxy uses them any more",
            false,
        ),
        (
            Phase::Failed,
            "nothing by itself: apply a fixed template of Deployment payment, or the stable one, or try this one again: kubectl aviary retry payment -n shop",
            true,
        ),
        (
            Phase::Unsettled,
            "what serves is found out; until then nothing is released",
            false,
        ),
    ] {
        let next = in_phase(phase).next;
        assert_eq!(
            (next.what.as_str(), next.needs_person),
            (what, needs_person)
        );
    }
}

#[test]
fn the_steps_of_an_edited_spec_are_not_taken_for_those_of_the_release() {
    let edited = with(|rollout| {
        rollout.spec.steps.remove(0);
    });
    assert_eq!(edited.step.unwrap().weights, Vec::<i32>::new());
    assert_eq!(edited.next.what, "the next step, if it passes");
    let last = with(|rollout| {
        let step = rollout.status.as_mut().unwrap().step.as_mut().unwrap();
        (step.index, step.weight, step.position) = (3, 100, "4/4".to_owned());
    });
    assert_eq!(last.next.what, "the promotion, if it passes");
}

#[test]
fn what_a_person_had_judged_anew_is_not_split_by_weights() {
    let anew = with(|rollout| {
        let decisions = &mut rollout.status.as_mut().unwrap().decisions;
        let mut anew = decisions[2].clone();
        anew.decision = "JudgedAnew".to_owned();
        decisions.push(anew);
    });
    assert_eq!(anew.seen_at_weight, None);
    assert_eq!(anew.seen.unwrap().canary.requests, 451);
}

#[test]
fn a_release_at_rest_shows_no_weight_and_what_was_released_last() {
    let (_, now) = soaking();
    let text = plain(&in_phase(Phase::Stable), now, usize::MAX);
    assert!(!text.contains("weight    "), "{text}");
    assert!(text.contains("released last"), "{text}");
}

/// What somebody reads who was woken: what has become of it, who serves, why, and what to do, each once.
#[test]
fn a_failed_release_says_first_what_failed_and_who_serves() {
    let value: Value = serde_json::from_str(include_str!("testdata/soaking.json")).unwrap();
    let now: Timestamp = value["now"].as_str().unwrap().parse().unwrap();
    let view = with(|rollout| {
        let status = rollout.status.as_mut().unwrap();
        let why = "guard: 4 of 6 of its first attempts failed";
        status.phase = Some(Phase::Failed);
        status.message = Some(format!(
            "revision 3b1e55aa02 was rolled back ({why}); and so on"
        ));
        status.failure = serde_json::from_value(serde_json::json!({
            "revision": "3b1e55aa02", "run": 1, "cause": "WorseThanStable", "message": why, "at": "2026-03-04T10:03:40.000000Z",
        }))
        .unwrap();
        let mut verdict = status.verdicts.last().unwrap().clone();
        verdict.check = "guard".to_owned();
        verdict.reason = "4 of 6 of its first attempts failed".to_owned();
        status.verdicts.push(verdict);
    });
    let text = plain(&view, now, usize::MAX);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[2],
        "failed    3b1e55aa02 at 10:03:40Z, WorseThanStable: guard: 4 of 6 of its first attempts failed"
    );
    assert_eq!(lines[3], "stable    7f9c2a41d0 serves everyone");
    assert_eq!(text.matches("4 of 6").count(), 1, "{text}");
    assert!(
        text.contains("next      nothing by itself: apply"),
        "{text}"
    );
}

#[test]
fn events_and_judgements_of_the_release_before_are_not_shown() {
    let value: Value = serde_json::from_str(include_str!("testdata/soaking.json")).unwrap();
    let event = |at: &str, reason: &str| {
        serde_json::from_value(serde_json::json!({
            "metadata": {}, "involvedObject": {}, "eventTime": at, "reason": reason,
        }))
        .unwrap()
    };
    let events = [
        event("2026-03-04T09:59:59.900000Z", "RolledBack"),
        event("2026-03-04T10:00:00.000000Z", "ReleaseStarted"),
    ];
    for phase in [Phase::Soaking, Phase::Failed, Phase::Stable] {
        let mut rollout: CanaryRollout = serde_json::from_value(value["rollout"].clone()).unwrap();
        rollout.status.as_mut().unwrap().phase = Some(phase);
        let view = view(&rollout, None, newest_events(&events, 6));
        let reasons: Vec<&str> = view.events.iter().map(|it| it.reason.as_str()).collect();
        assert_eq!(reasons, ["ReleaseStarted"], "{phase:?}");
        let checks: Vec<&str> = view.checks.iter().map(|it| it.check.as_str()).collect();
        assert_eq!(checks, ["success-rate", "latency"], "{phase:?}");
    }
}

#[test]
fn a_template_that_nobody_has_taken_up_is_told() {
    let value: Value = serde_json::from_str(include_str!("testdata/soaking.json")).unwrap();
    let rollout: CanaryRollout = serde_json::from_value(value["rollout"].clone()).unwrap();
    let template = Template {
        revision: "newer".to_owned(),
        content: String::new(),
    };
    let view = view(&rollout, Some(&template), Vec::new());
    assert_eq!(view.newest.as_ref().unwrap().standing, "Unseen");
    let text = plain(&view, Timestamp::UNIX_EPOCH, usize::MAX);
    assert!(
        text.contains("newest    newer: Deployment payment asks for it"),
        "{text}"
    );
}

#[test]
fn many_releases_are_a_table() {
    let (view, now) = soaking();
    let waits = with(|rollout| {
        let status = rollout.status.as_mut().unwrap();
        status.phase = Some(Phase::Shifting);
        status.weight.as_mut().unwrap().acknowledged = 1;
    });
    let rest = in_phase(Phase::Stable);
    assert_eq!(
        list(&[view, waits, rest], now, false),
        [
            "NAME     PHASE     STEP  WEIGHT             STABLE      CANARY      NEXT",
            "payment  Soaking   2/4   10%                7f9c2a41d0  3b1e55aa02  weight 50%, if it passes, in 1m13s",
            "payment  Shifting  2/4   10% (1/3 proxies)  7f9c2a41d0  3b1e55aa02  the soak at 10% begins when every proxy has acknowledged it",
            "payment  Stable    2/4   -                  7f9c2a41d0  -           a new template of Deployment payment starts a release",
        ]
    );
}
