//! Whoever is woken by a change finds it in the view.

use futures::FutureExt;
use k8s_openapi::api::core::v1::Service;
use watcher::Event;

use super::*;
use crate::rollout::testing;

fn service(name: &str, version: &str) -> Service {
    serde_json::from_value(serde_json::json!({
        "metadata": {"namespace": "shop", "name": name, "resourceVersion": version},
    }))
    .unwrap()
}

#[tokio::test]
async fn nobody_is_woken_before_the_view_has_what_the_change_is_about() {
    let (views, writers) = testing::views();
    let (changes, mut woken) = Changes::new();
    let (events, stream) = futures::channel::mpsc::unbounded();
    let following = follow(
        stream,
        std::convert::identity,
        writers.services,
        changes::of_service,
        changes,
    );
    let mut following = std::pin::pin!(following);
    let mut hears = |event: Event<Service>| {
        events.unbounded_send(Ok(event)).unwrap();
        assert_eq!(following.as_mut().now_or_never(), None, "it goes on");
        let mut heard = Vec::new();
        while let Ok(change) = woken.try_recv() {
            heard.push(change);
        }
        let versions = ["payment", "cart"].map(|name| {
            let found = views.services.get(&Key::new("shop", name))?;
            found.resource_version()
        });
        (heard, versions.map(Option::unwrap_or_default))
    };
    let has = |payment: &str, cart: &str| [payment.to_owned(), cart.to_owned()];
    let of = |name: &str| vec![Change::Service(Key::new("shop", name))];

    assert_eq!(hears(Event::Init), (vec![], has("", "")));
    let listed = |name, version| Event::InitApply(service(name, version));
    assert_eq!(hears(listed("payment", "1")), (vec![], has("", "")));
    assert_eq!(hears(listed("cart", "1")), (vec![], has("", "")));
    let all = vec![Change::Everything];
    assert_eq!(hears(Event::InitDone), (all.clone(), has("1", "1")));

    let applied = Event::Apply(service("payment", "2"));
    assert_eq!(hears(applied), (of("payment"), has("2", "1")));
    let deleted = Event::Delete(service("cart", "3"));
    assert_eq!(hears(deleted), (of("cart"), has("2", "")));

    // While a new list comes in, the old one counts.
    assert_eq!(hears(Event::Init), (vec![], has("2", "")));
    assert_eq!(hears(listed("cart", "4")), (vec![], has("2", "")));
    assert_eq!(hears(Event::InitDone), (all, has("", "4")));
}
