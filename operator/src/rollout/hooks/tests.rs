use serde_json::{Value, json};

use super::*;
use crate::rollout::testing;

pub(super) fn hook(more: Value) -> Hook {
    parse(more).unwrap()
}

fn parse(more: Value) -> Result<Hook, InvalidHook> {
    let mut spec = json!({"name": "a", "when": "BeforeStep", "url": "https://hooks.example/a"});
    json_patch::merge(&mut spec, &more);
    Hook::parse(&serde_json::from_value(spec).unwrap())
}

#[test]
fn the_shortest_hook_has_the_documented_defaults() {
    let hook = hook(json!({}));
    assert_eq!(hook.timeout, Duration::from_secs(10));
    assert_eq!((hook.retries, hook.interval), (3, Span::seconds(30)));
    assert_eq!(hook.on_failure, OnHookFailure::Hold);
    assert_eq!((hook.weights, hook.secret), (Vec::new(), None));
}

#[test]
fn what_the_schema_does_not_catch_is_refused_with_its_name() {
    for (more, says) in [
        (
            json!({"timeout": "61s"}),
            "spec.hooks, a: timeout is at most 1m",
        ),
        (
            json!({"interval": "999ms"}),
            "spec.hooks, a: interval is at least 1s",
        ),
        (
            json!({"timeout": "soon"}),
            "spec.hooks, a: timeout: 'soon' is not a duration",
        ),
        (json!({"weights": [101]}), "spec.hooks, a: 101 is no weight"),
    ] {
        let error = parse(more).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
}

/// Of a plan with the weights 10 and 100.
#[test]
fn each_is_asked_at_its_own_places() {
    let plan = testing::plan();
    let places = [Ahead::Step(0), Ahead::Step(1), Ahead::Promotion];
    for (more, expected) in [
        (json!({}), [true, true, false]),
        (json!({"weights": [100]}), [false, true, false]),
        (json!({"when": "BeforePromotion"}), [false, false, true]),
        (json!({"when": "Gate"}), [true, true, true]),
        (
            json!({"when": "Gate", "weights": [10]}),
            [true, false, false],
        ),
        (json!({"when": "AfterResult"}), [false, false, false]),
    ] {
        let hook = hook(more.clone());
        let asked = places.map(|place| hook.is_asked(&plan, place));
        assert_eq!(asked, expected, "{more}");
    }
}
