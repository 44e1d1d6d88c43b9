//! What a release may spend of its error budget.

use super::*;

/// Weight 50 % with a second step of 100 % for a minute. A release may spend 6.48 s of full outage, 5 % of the error budget of
/// 99.995 % over 30 days.
fn budgeted() -> Shop {
    let mut shop = Shop::open();
    shop.store(|stored| {
        stored["spec"]["steps"][1]["soak"] = json!("1m");
        stored["spec"]["analysis"]["exposure"] = json!({"objective": "99.995%"});
    });
    shop.watch();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    shop.copy(2);
    shop.rest(Api::Works);
    assert_eq!((shop.phase().as_str(), shop.sent()), ("Soaking", 50));
    shop
}

fn seconds(shop: &mut Shop, count: i64, requests: u64, failed: u64) {
    let counts = |started: u64, failed: u64| outcome::Counts {
        started,
        ended: outcome::PerClass::from([started - failed, failed, 0, 0]),
        ..outcome::Counts::default()
    };
    for _ in 0..count {
        shop.now = shop.now + Span(1_000);
        shop.session.closed(&[Closed {
            at: shop.now.0 / 1000,
            canary: counts(requests, failed),
            stable: counts(requests, 0),
        }]);
    }
}

fn passes(shop: &mut Shop, windows: usize) {
    for _ in 0..windows {
        shop.judge(Verdict::Pass, Api::Works);
    }
}

#[test]
fn a_raise_waits_for_the_requests_that_rule_out_what_it_could_spend() {
    let mut shop = budgeted();
    assert!(shop.step().follows.is_some());
    seconds(&mut shop, 5, 1, 0);
    passes(&mut shop, 10);
    assert_eq!((shop.phase().as_str(), shop.sent()), ("Soaking", 50));
    assert_eq!(shop.reason("Ready"), "ErrorBudget");
    let told = |shop: &Shop| {
        let all = shop.told.iter();
        all.filter(|reason| **reason == "HeldByErrorBudget").count()
    };
    assert_eq!(told(&shop), 1, "{:?}", shop.told);

    // Another process goes on with what is written.
    let rollout = serde_json::from_value(shop.stored.clone()).unwrap();
    shop.session = Session::new(Arc::new(rollout), shop.now);
    passes(&mut shop, 2);
    assert_eq!(shop.sent(), 50);
    let undetected = shop.stored["status"]["exposure"]["undetected"].clone();
    assert_eq!(undetected, json!("35%"), "five requests, and none failed");

    seconds(&mut shop, 40, 50, 0);
    passes(&mut shop, 2);
    assert_eq!(shop.sent(), 100);
    let decided = shop.stored["status"]["decisions"].as_array().unwrap();
    let raise = &decided.last().unwrap()["exposure"];
    assert_eq!(
        (&raise["spent"], &raise["budget"]),
        (&json!("0s"), &json!("6.5s"))
    );
}

#[test]
fn a_person_takes_on_what_is_spent_and_a_bad_canary_still_goes_to_0() {
    let mut shop = budgeted();
    shop.store(|stored| stored["spec"]["analysis"]["guard"] = json!({"falseAlarm": "0%"}));
    shop.watch();
    shop.rest(Api::Works);
    seconds(&mut shop, 30, 50, 25);
    passes(&mut shop, 10);
    assert_eq!(shop.sent(), 50, "7.5 s are spent");
    assert_eq!(shop.stored["status"]["exposure"]["spent"], json!("7.5s"));
    assert_eq!(shop.reason("Stalled"), "ErrorBudget");

    let state = shop.session.state().unwrap();
    let value = crate::rollout::request::value_for(state).unwrap();
    shop.store(|stored| {
        stored["metadata"]["annotations"] = json!({aviary_crds::REQUEST_ANNOTATION: value});
    });
    shop.watch();
    passes(&mut shop, 1);
    shop.copy(2);
    passes(&mut shop, 1);
    assert_eq!(shop.sent(), 100);

    for _ in 0..3 {
        shop.judge(Verdict::Fail, Api::Away);
    }
    assert_eq!(shop.sent(), 0, "whatever is spent");
}

#[test]
fn without_a_budget_nothing_is_kept_of_it() {
    let mut shop = Shop::soaking();
    seconds(&mut shop, 5, 1, 0);
    passes(&mut shop, 1);
    let status = &shop.stored["status"];
    assert!(status.get("exposure").is_none());
    assert!(status["machine"]["spending"].is_null());
}
