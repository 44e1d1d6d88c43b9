//! Users that stay with one revision: by what they are known is sent with the canary, as long as it runs.

use traffic_core::split::sticky::Key as StickyKey;

use super::*;

fn sticky(shop: &Shop) -> Option<StickyKey> {
    let route = &shop.world.routes["shop/payment/80"].route;
    route.split.canary.as_ref().unwrap().sticky.clone()
}

#[test]
fn users_are_known_by_what_the_spec_names_also_after_a_restart_with_a_spec_that_cannot_be_read() {
    let header = Some(StickyKey::header("x-user-id").unwrap());
    let mut shop = Shop::open();
    shop.store(|stored| {
        stored["spec"]["split"] = json!({"sticky": {"header": "X-User-ID"}});
    });
    shop.watch();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    assert_eq!((shop.sent(), sticky(&shop)), (0, header.clone()));
    shop.copy(1);
    shop.rest(Api::Works);
    assert_eq!((shop.sent(), sticky(&shop)), (50, header.clone()));

    shop.store(|stored| stored["spec"]["progressDeadline"] = json!("soon"));
    shop.watch();
    let rollout = serde_json::from_value(shop.stored.clone()).unwrap();
    shop.session = Session::new(Arc::new(rollout), shop.now);
    shop.rest(Api::Works);
    assert_eq!((shop.sent(), sticky(&shop)), (50, header));
}

#[test]
fn who_asks_for_nothing_has_requests_interleaved() {
    let shop = Shop::soaking();
    assert_eq!(sticky(&shop), None);
}
