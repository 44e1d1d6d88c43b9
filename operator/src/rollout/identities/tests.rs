use k8s_openapi::api::core::v1::Pod;
use kube_runtime::watcher::Event;
use rollout_core::time::Time;
use serde_json::{Value, json};

use super::*;
use crate::ads::RevocationKey;
use crate::rollout::changes::Change;
use crate::rollout::testing::{self, Writers};
use crate::rollout::traffic::Traffic;

const ID: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// One pod, behind one Service.
struct Shop {
    views: Views,
    writers: Writers,
    ads: Ads,
    traffic: Traffic,
}

fn web() -> Key {
    Key::new("shop", "web-1")
}

impl Shop {
    fn open() -> Shop {
        let (views, mut writers) = testing::views();
        let service = json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "web"}, "ports": [{"port": 80}]},
        });
        let service = serde_json::from_value(service).unwrap();
        writers.services.apply(Event::Apply(service));
        let slice = json!({
            "metadata": {"namespace": "shop", "name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"port": 8080}],
            "endpoints": [{"addresses": ["10.1.0.1"], "targetRef": {"kind": "Pod", "name": "web-1"}}],
        });
        let slice = serde_json::from_value(slice).unwrap();
        writers.slices.apply(Event::Apply(slice));
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let mut shop = Shop {
            views,
            writers,
            ads: Ads::new(RevocationKey::new(&[1; 32])),
            traffic: Traffic::default(),
        };
        shop.traffic.identities = Identities::of(domain);
        shop.pod(json!({}));
        shop
    }

    /// The pod as it is from now on.
    fn pod(&mut self, change: Value) {
        let mut pod = json!({
            "metadata": {"namespace": "shop", "name": "web-1", "uid": "u1"},
            "spec": {"serviceAccountName": "web", "containers": [{"name": "aviary-proxy"}]},
            "status": {"podIP": "10.1.0.1"},
        });
        json_patch::merge(&mut pod, &change);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.writers.pods.apply(Event::Apply(pod.into()));
        self.look();
    }

    fn look(&mut self) -> bool {
        self.traffic.identities.look(&self.ads, &self.views, &web())
    }

    /// A new stream of the pod says this.
    fn says(&mut self, uid: &str, accepts: bool) {
        self.ads.stream_of(&web(), uid, accepts);
        self.look();
    }

    fn at(&self, address: &str) -> Option<(String, bool)> {
        let pod = self.views.pods.get(&web())?;
        let expected = self.traffic.identities.at(&pod, address.parse().unwrap())?;
        Some((expected.id.to_string(), expected.accepts))
    }

    fn accepts(&self, address: &str) -> bool {
        self.at(address).is_some_and(|(_, accepts)| accepts)
    }
}

#[test]
fn who_answers_is_told_and_that_it_accepts_tls_once_its_sidecar_has_said_so() {
    let mut shop = Shop::open();
    assert_eq!(shop.at("10.1.0.1:8080"), Some((ID.to_owned(), false)));
    shop.says("u1", true);
    assert_eq!(shop.at("10.1.0.1:8080"), Some((ID.to_owned(), true)));
}

#[test]
fn nobody_in_particular_answers_where_no_sidecar_sees_what_comes() {
    let mut shop = Shop::open();
    shop.says("u1", true);
    assert_eq!(shop.at("10.1.0.1:15020"), None);
    let skipping = json!({"metadata": {"annotations": {"aviary.dev/skip-inbound-ports": "9090"}}});
    shop.pod(skipping);
    assert_eq!(shop.at("10.1.0.1:9090"), None);
    assert!(shop.accepts("10.1.0.1:8080"));
    shop.pod(json!({"spec": {"containers": [{"name": "app"}]}}));
    assert_eq!(shop.at("10.1.0.1:8080"), None);
    let mut unnamed = Shop::open();
    unnamed.traffic.identities = Identities::default();
    assert_eq!(unnamed.at("10.1.0.1:8080"), None);
}

#[test]
fn a_stream_that_ends_takes_nothing_back_and_a_new_one_that_says_nothing_does() {
    let mut shop = Shop::open();
    shop.says("u1", true);
    shop.ads.end_stream_of(&web());
    assert!(!shop.look() && shop.accepts("10.1.0.1:8080"));
    // Long after its lease, too.
    shop.ads
        .set_world(std::sync::Arc::new(crate::mesh::World::default()));
    shop.ads.rollout_acks("shop/web", Time(1 << 50));
    assert!(!shop.ads.is_connected(&web()));
    assert!(!shop.look() && shop.accepts("10.1.0.1:8080"));
    shop.says("u1", false);
    assert!(!shop.accepts("10.1.0.1:8080"));
}

#[test]
fn another_pod_of_the_same_name_has_to_say_it_itself() {
    let mut shop = Shop::open();
    shop.says("u1", true);
    shop.pod(json!({"metadata": {"uid": "u2"}}));
    assert!(!shop.accepts("10.1.0.1:8080"));
    shop.says("u1", true);
    assert!(!shop.accepts("10.1.0.1:8080"), "a token of the pod before");
    shop.says("u2", true);
    assert!(shop.accepts("10.1.0.1:8080"));
    shop.ads.forget_pod(&web());
    assert!(shop.look() && !shop.accepts("10.1.0.1:8080"));
}

#[test]
fn a_pod_that_has_moved_has_to_say_it_again() {
    let mut shop = Shop::open();
    shop.says("u1", true);
    shop.pod(json!({"status": {"podIP": "10.1.0.9"}}));
    assert!(!shop.accepts("10.1.0.9:8080"));
    shop.look();
    assert!(
        !shop.accepts("10.1.0.9:8080"),
        "looking again proves nothing"
    );
    shop.says("u1", true);
    assert!(shop.accepts("10.1.0.9:8080"));
}

#[test]
fn what_was_said_before_the_address_was_known_counts_when_it_is() {
    let mut shop = Shop::open();
    shop.pod(json!({"status": null}));
    shop.says("u1", true);
    assert!(!shop.accepts("10.1.0.1:8080"));
    shop.pod(json!({}));
    assert!(shop.accepts("10.1.0.1:8080"));
}

#[test]
fn a_list_that_comes_anew_keeps_who_is_in_it_and_nobody_else() {
    let mut shop = Shop::open();
    shop.ads.stream_of(&web(), "u1", true);
    shop.ads.stream_of(&Key::new("shop", "gone"), "u3", true);
    shop.traffic.identities.fill(&shop.ads, &shop.views);
    assert!(shop.accepts("10.1.0.1:8080"));
    assert_eq!(shop.traffic.identities.accepting.len(), 1);
}

#[test]
fn callers_are_told_when_a_sidecar_has_said_it() {
    let mut shop = Shop::open();
    let told = |shop: &mut Shop| {
        let change = shop.traffic.publish(&shop.views).change;
        let cluster = change.clusters.get("shop/web/80/-")?.clone()?;
        let identity = cluster.endpoints[0].identity.clone();
        identity.map(|expected| (expected.id.to_string(), expected.accepts))
    };
    assert_eq!(told(&mut shop), Some((ID.to_owned(), false)));
    shop.says("u1", true);
    assert_eq!(told(&mut shop), None, "nothing is known to have changed");
    assert!(shop.traffic.touch(&shop.views, &Change::Pod(web())));
    assert_eq!(told(&mut shop), Some((ID.to_owned(), true)));
}
