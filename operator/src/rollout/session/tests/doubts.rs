//! What the guard has seen is too little for an alarm, and speaks against the canary.

use super::*;

#[test]
fn a_step_without_evidence_does_not_advance_while_the_guard_has_doubts() {
    let mut shop = Shop::open();
    shop.store(|stored| {
        stored["spec"]["analysis"]["noEvidence"] = json!({"hold": "20s", "then": "Advance"});
    });
    shop.watch();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    shop.copy(2);
    shop.rest(Api::Works);
    bad_seconds(&mut shop, 2);
    for _ in 0..20 {
        shop.judge(Verdict::NoEvidence, Api::Works);
    }
    assert_eq!((shop.phase().as_str(), shop.sent()), ("Soaking", 50));
    assert_eq!(shop.reason("Ready"), "Inconclusive");
    let message = shop.stored["status"]["message"].as_str().unwrap();
    assert!(message.contains("the guard has doubts: "), "{message}");

    // Seconds in which nothing fails take them back.
    for _ in 0..120 {
        shop.now = shop.now + Span(1_000);
        let good = outcome::Counts {
            started: 50,
            ended: outcome::PerClass::from([50, 0, 0, 0]),
            ..outcome::Counts::default()
        };
        shop.session.closed(&[Closed {
            at: shop.now.0 / 1000,
            canary: good.clone(),
            stable: good,
        }]);
    }
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 100);
}
