use std::sync::Arc;

use aviary_crds::CanaryRollout;
use kube_runtime::watcher::Event;
use rollout_core::state::Phase as At;
use rollout_core::time::Time;

use super::*;
use crate::rollout::testing;

/// Of a status with these conditions, as `(type, status, reason)`, and more in it.
fn status(conditions: &[(&str, &str, &str)], more: Value) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(type_, status, reason)| {
            json!({
                "type": type_, "status": status, "reason": reason, "message": "why",
                "lastTransitionTime": if *type_ == READY { "2026-01-01T00:00:00Z" } else { "2026-01-02T00:00:00Z" },
            })
        })
        .collect();
    let mut status = json!({"stable": {"revision": "old"}, "conditions": conditions});
    json_patch::merge(&mut status, &more);
    status
}

fn soaking() -> Value {
    let more = json!({
        "phase": "Soaking", "phaseSince": "2026-01-03T00:00:00.500000Z",
        "step": {"index": 1, "position": "2/4", "weight": 10},
        "weight": {"desired": 10, "sent": 10, "acknowledged": 1, "proxies": 1},
    });
    status(
        &[(READY, "False", "Soaking"), (STALLED, "False", "Soaking")],
        more,
    )
}

fn failed() -> Value {
    let conditions = [
        (READY, "False", "Failed"),
        (STALLED, "True", "Failed"),
        (ROLLED_BACK, "True", "AnalysisFailed"),
    ];
    status(&conditions, json!({"phase": "Failed"}))
}

/// A look at Deployment `payment` of generation 3 that says `conditions`, with this status beside it.
fn look(status: &Value, conditions: Value) -> Look {
    let (views, mut writers) = testing::views();
    writers.originals.apply(Event::Apply(testing::object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "namespace": "shop", "name": "payment", "uid": "uid", "generation": 3,
            "labels": {"aviary.dev/rollout": "payment"},
        },
        "spec": {"template": {"spec": {}}},
        "status": {"conditions": conditions},
    }))));
    let rollout: CanaryRollout = testing::rollout(json!({"status": status}));
    testing::look_at(&views, rollout, Time(0))
}

fn state() -> State {
    let mut state = testing::state(At::Stable);
    state.generation = 3;
    state
}

/// What is written, without the revision of the template, which is a hash.
fn written(status: &Value) -> Value {
    let look = look(status, json!([]));
    let Verb::ApplyStatus(body) = told(&look, Some(&state())).unwrap().write.verb else {
        panic!("it is an apply");
    };
    let Target::Found { template, .. } = &look.target else {
        panic!("it is there");
    };
    let text = body["status"]["conditions"][0].to_string();
    serde_json::from_str(&text.replace(&template.revision, "new")).unwrap()
}

fn words(status: &Value) -> [String; 3] {
    let said = written(status);
    ["status", "reason", "message"].map(|field| said[field].as_str().unwrap().to_owned())
}

#[test]
fn true_is_ready_false_is_stalled_and_anything_else_is_on_its_way() {
    let waits = [(READY, "False", "Stable"), (STALLED, "False", "Stable")];
    let paused = [
        (READY, "False", "Inconclusive"),
        (STALLED, "True", "Inconclusive"),
    ];
    let serves = [(READY, "True", "Stable"), (STALLED, "False", "Stable")];
    for (status, expected) in [
        (
            status(&serves, json!({"phase": "Stable"})),
            ["True", "Released", "revision new serves everyone"],
        ),
        (
            soaking(),
            [
                "Unknown",
                "Soaking",
                "step 2/4, weight 10%; CanaryRollout payment releases revision new",
            ],
        ),
        (
            failed(),
            [
                "False",
                "RolledBack",
                "generation 3: revision new was rolled back (AnalysisFailed), and revision old serves everyone; CanaryRollout payment says why",
            ],
        ),
        (
            status(&paused, json!({"phase": "Soaking"})),
            [
                "False",
                "Inconclusive",
                "generation 3: revision new is not released, and somebody has to act; CanaryRollout payment says how",
            ],
        ),
        (
            status(&waits, json!({"phase": "Stable"})),
            ["Unknown", "Waiting", "revision new waits to be released"],
        ),
    ] {
        assert_eq!(words(&status), expected);
    }
}

#[test]
fn times_are_those_of_the_status_so_that_the_same_again_changes_nothing() {
    let said = written(&soaking());
    assert_eq!(said["lastTransitionTime"], "2026-01-02T00:00:00Z");
    assert_eq!(said["lastUpdateTime"], "2026-01-03T00:00:00Z");
}

#[test]
fn nothing_is_written_when_it_says_so_already_whatever_else_is_in_the_list() {
    let known = json!([{"type": "Available", "status": "True"}, written(&soaking())]);
    let mut look = look(&soaking(), known);
    let Target::Found { template, .. } = &mut look.target else {
        panic!("it is there");
    };
    template.revision = "new".to_owned();
    assert_eq!(told(&look, Some(&state())), None);
}

/// Or a template that was just applied would be taken for the one that failed.
#[test]
fn of_what_the_status_does_not_know_yet_nothing_is_said() {
    let look = look(&failed(), json!([]));
    let (mut older, mut other) = (state(), state());
    older.generation = 2;
    other.deployment = "another".to_owned();
    assert_eq!(told(&look, Some(&older)), None);
    assert_eq!(told(&look, Some(&other)), None);
    assert!(told(&look, None).is_some(), "the status itself is no good");
}

#[test]
fn whoever_is_released_by_nobody_says_nothing() {
    let said = json!([{"type": RELEASED, "status": "True"}]);
    let deployment = |conditions| {
        let look = look(&soaking(), conditions);
        Arc::clone(look.target.deployment().unwrap())
    };
    let effect = forgotten(&deployment(said)).unwrap();
    let Verb::ApplyStatus(body) = effect.write.verb else {
        panic!("it is an apply");
    };
    assert_eq!(body["status"], json!({}));
    assert_eq!(body["metadata"]["uid"], "uid");
    assert_eq!(forgotten(&deployment(json!([]))), None);
}
