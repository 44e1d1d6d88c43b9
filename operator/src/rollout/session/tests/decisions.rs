//! What was decided, and what was known then.

use super::*;

fn decisions(shop: &Shop) -> Vec<(String, i64, String)> {
    let all = shop.stored["status"]["decisions"].as_array().unwrap();
    all.iter()
        .map(|each| {
            let text = |field: &str| each[field].as_str().unwrap_or_default().to_owned();
            let judged = text("judged");
            let by = judged.split(':').next().unwrap_or_default().to_owned();
            (text("decision"), each["weight"].as_i64().unwrap(), by)
        })
        .collect()
}

fn of(all: &[(&str, i64, &str)]) -> Vec<(String, i64, String)> {
    all.iter()
        .map(|(decision, weight, by)| ((*decision).to_owned(), *weight, (*by).to_owned()))
        .collect()
}

#[test]
fn a_raise_is_recorded_in_the_write_that_earns_it() {
    let shop = Shop::soaking();
    let expected = [("ReleaseStarted", 0, ""), ("WeightRaised", 50, "")];
    assert_eq!(decisions(&shop), of(&expected));
    let last = &shop.stored["status"]["decisions"][1];
    let revision = crate::revision::revision(&template("v2"));
    assert_eq!(last["revision"], json!(revision));
    assert_eq!(last["run"], shop.stored["status"]["canary"]["run"]);
}

#[test]
fn a_rollback_says_what_the_guard_had_seen() {
    let mut shop = Shop::soaking();
    bad_seconds(&mut shop, 10);
    shop.rest(Api::Works);
    let all = shop.stored["status"]["decisions"].as_array().unwrap();
    let last = all.last().unwrap();
    assert_eq!(
        (&last["decision"], &last["weight"]),
        (&json!("RolledBack"), &json!(0))
    );
    let guard = &last["guard"];
    let failed = guard["failed"].as_i64().unwrap();
    assert_eq!(guard["requests"].as_i64().unwrap(), 2 * failed);
    assert_eq!(guard["evidence"], "100%");
    assert!(last["judged"].as_str().unwrap().starts_with("guard: "));
}

#[test]
fn what_could_not_be_written_is_not_recorded_twice() {
    let mut shop = Shop::open();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    shop.copy(1);
    for _ in 0..3 {
        shop.rest(Api::RefusesStatus);
        shop.now = shop.now + Span(60_000);
    }
    shop.rest(Api::Works);
    let expected = [("ReleaseStarted", 0, ""), ("WeightRaised", 50, "")];
    assert_eq!(decisions(&shop), of(&expected));
    // Whoever takes over goes on with them.
    let rollout = serde_json::from_value(shop.stored.clone()).unwrap();
    shop.session = Session::new(Arc::new(rollout), shop.now);
    for _ in 0..3 {
        shop.judge(Verdict::Fail, Api::Works);
    }
    let more = [expected[0], expected[1], ("RolledBack", 0, "")];
    assert_eq!(decisions(&shop), of(&more));
}

#[test]
fn the_newest_twenty_are_kept() {
    let mut shop = Shop::open();
    for release in 0..12 {
        let version = format!("v2-{release}");
        shop.deployment(&version, release + 2, true);
        shop.rest(Api::Works);
    }
    let all = decisions(&shop);
    assert_eq!(all.len(), 20);
    assert_eq!(all[19].0, "ReleaseStarted", "{all:?}");
}
