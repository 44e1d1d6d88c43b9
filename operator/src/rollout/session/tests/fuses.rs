//! Proxies that hold requests back by themselves.

use traffic_core::fuse::TOLERANCE;

use super::*;

/// In the last second proxies gave so many requests of the canary's share to stable.
fn withheld(shop: &mut Shop, requests: u64) -> bool {
    let few = outcome::Counts {
        started: 4,
        ended: outcome::PerClass::from([4, 0, 0, 0]),
        ..outcome::Counts::default()
    };
    shop.session.closed(&[Closed {
        at: shop.now.0 / 1000 - 1,
        canary: outcome::Counts {
            withheld: requests,
            ..few.clone()
        },
        stable: few,
    }])
}

fn has_fuse(shop: &Shop) -> bool {
    let route = &shop.world.routes["shop/payment/80"].route;
    let canary = route.split.canary.as_ref().unwrap();
    canary.fuse == Some(TOLERANCE)
}

fn message(shop: &Shop) -> &str {
    shop.stored["status"]["message"].as_str().unwrap()
}

#[test]
fn an_open_fuse_forbids_every_raise_and_lowers_nothing() {
    let mut shop = Shop::soaking();
    assert!(has_fuse(&shop), "with the guard's tolerance");
    for round in 0..6 {
        assert_eq!(withheld(&mut shop, 46), round == 0, "looked at once");
        shop.judge(Verdict::Pass, Api::Works);
        assert_eq!((shop.phase().as_str(), shop.sent()), ("Soaking", 50));
    }
    let said =
        "Held back: sidecars give requests of the canary's share to stable (46 in one second)";
    assert!(message(&shop).contains(said), "{}", message(&shop));
    let told = shop.told.iter().filter(|reason| **reason == "HeldBack");
    assert_eq!(told.count(), 1, "{:?}", shop.told);

    shop.copy(2);
    // Nobody has held anything back for as long as a fuse is open.
    let wake = shop.step().wake.expect("it is looked at when that is over");
    assert!(wake - shop.now <= Span::seconds(30));
    for _ in 0..6 {
        shop.judge(Verdict::Pass, Api::Works);
    }
    assert_eq!(shop.sent(), 100);
    assert!(!has_fuse(&shop), "nothing is left to compare with");
    assert!(!message(&shop).contains("Held back"), "{}", message(&shop));
}

#[test]
fn what_is_held_back_is_no_reason_not_to_go_down() {
    let mut shop = Shop::soaking();
    for _ in 0..3 {
        withheld(&mut shop, 46);
        shop.judge(Verdict::Fail, Api::Away);
    }
    assert_eq!(shop.sent(), 0);
}

#[test]
fn who_wants_no_guard_has_no_fuse() {
    let mut shop = Shop::open();
    shop.store(|stored| stored["spec"]["analysis"]["guard"] = json!({"falseAlarm": "0%"}));
    shop.watch();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    shop.copy(1);
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50);
    assert!(!has_fuse(&shop));
}
