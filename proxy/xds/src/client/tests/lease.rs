//! A canary's weight is given up when the control plane is not heard in time, and taken again when it is.

use std::time::Duration;

use traffic_core::lease::{LEASE, Lease, TTL};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl Pair {
    /// Time passes for both, as their shells would notice it. The control plane's messages get lost when it is `silent`.
    fn pass(&mut self, time: Duration, silent: bool, resources: &Resources) {
        let end = self.now + time;
        while self.now < end {
            self.now += SECOND;
            if !silent {
                self.run(resources);
            }
            if self.client.lapses_at().is_some_and(|at| at <= self.now) {
                let output = self.client.lapse(self.now);
                self.carry(output);
            }
        }
    }

    /// Name and version of what the client would say that it has.
    fn claims(&mut self) -> Vec<String> {
        let output = self.client.connected(&Node::default());
        let mut claims: Vec<String> = output.requests[0]
            .initial_resource_versions
            .keys()
            .cloned()
            .collect();
        claims.sort();
        claims
    }
}

fn ten() -> Resources {
    full_world(10, &["10.1.0.2:8080"])
}

#[test]
fn a_weight_that_is_renewed_never_decays() {
    let mut pair = settled(&ten());
    pair.pass(TTL * 4, false, &ten());
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(10), true)
    );
    assert!(pair.snapshots.is_empty(), "a heartbeat is no new snapshot");
    assert_eq!(pair.sent, ["route~shop/web/80"; 12], "every 40 s");
}

#[test]
fn a_weight_that_is_not_renewed_decays_to_stable_and_keeps_its_arms() {
    let mut pair = settled(&ten());
    pair.client.disconnected();
    pair.pass(TTL - SECOND, true, &ten());
    assert_eq!(pair.shown("web"), percent(10));
    pair.pass(SECOND, true, &ten());
    assert_eq!(pair.shown("web"), percent(0));
    let route = pair.client.snapshot.routes[&destinations("web")[0]].clone();
    let canary = route.unwrap().split.canary.clone().unwrap();
    assert_eq!((canary.arm.cluster.as_str(), canary.run), (CANARY, 1));
    assert_eq!(pair.client.snapshot.clusters[CANARY].endpoints.len(), 1);
    assert_eq!(pair.client.lapses_at(), None, "it lapses once");
}

#[test]
fn no_proxy_holds_a_weight_longer_than_a_lease_and_not_all_decay_together() {
    for (chance, expected) in [(0.0, TTL), (0.5, TTL + SECOND * 15), (1.0, LEASE)] {
        let mut pair = Pair::connected(DeltaClient::new(chance));
        pair.demand("web");
        let start = pair.now;
        pair.run(&ten());
        assert_eq!(pair.client.lapses_at(), Some(start + expected));
    }
}

#[test]
fn a_weight_without_a_lease_stays_for_ever() {
    let mut promoting = route("web", 100);
    promoting.split.canary.as_mut().unwrap().lease = Lease::Unlimited;
    let clusters = [cluster(STABLE, &[]), cluster(CANARY, &["10.1.0.2:8080"])];
    let mut pair = settled(&world(&[promoting], &clusters));
    pair.client.disconnected();
    assert_eq!(pair.client.lapses_at(), None);
    pair.pass(LEASE * 10, true, &Resources::default());
    assert_eq!(pair.shown("web"), percent(100));
}

#[test]
fn a_decayed_weight_is_not_claimed_when_the_proxy_reconnects_and_comes_in_full() {
    let mut pair = settled(&full_world(10, &["10.1.0.2:8080"]));
    assert_eq!(pair.claims(), ["shop/web/80"]);
    pair.client.disconnected();
    pair.pass(TTL, true, &ten());
    pair.install();
    assert!(pair.claims().is_empty());

    let mut again = Pair::connected(pair.client);
    again.now = pair.now;
    again.server.urgency(&ten(), again.now);
    assert!(!again.acknowledged(), "it does not have that weight");
    again.run(&ten());
    assert_eq!(again.sent, ["route+shop/web/80"]);
    assert_eq!(again.shown("web"), percent(10));
    assert!(!again.acknowledged());
    again.install();
    assert!(again.acknowledged());
}

#[test]
fn a_weight_that_decays_on_an_open_stream_is_asked_for_again() {
    let mut pair = settled(&ten());
    pair.pass(TTL, true, &ten());
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(0), false)
    );
    pair.run(&ten());
    pair.install();
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(10), true)
    );
}

#[test]
fn what_a_proxy_keeps_after_it_rejected_something_newer_decays() {
    let mut pair = settled(&ten());
    let twenty = full_world(20, &["10.1.0.2:8080"]);
    let mut response = pair.server.next(&twenty, pair.now).unwrap();
    response.resources[0].resource.as_mut().unwrap().value = vec![0xff];
    pair.deliver(response);
    pair.pass(TTL - SECOND, false, &twenty);
    assert_eq!(pair.shown("web"), percent(10));
    pair.pass(SECOND, false, &twenty);
    assert_eq!(pair.shown("web"), percent(0));
}

#[test]
fn a_weight_that_waits_for_its_clusters_longer_than_its_lease_is_not_acknowledged_before_it_comes_again()
 {
    let mut pair = settled(&full_world(0, &["10.1.0.2:8080"]));
    let mut next = route("web", 10);
    next.split.canary.as_mut().unwrap().arm.cluster = "shop/web/80/v3".to_owned();
    let third = cluster("shop/web/80/v3", &["10.1.0.3:8080"]);
    let after = world(&[next], &[cluster(STABLE, &["10.1.0.1:8080"]), third]);
    let response = pair.server.next(&after, pair.now).unwrap();
    pair.deliver(response);
    pair.pass(TTL, true, &after);
    let sent = std::iter::from_fn(|| pair.server.next(&after, pair.now));
    let (routes, clusters): (Vec<_>, Vec<_>) = sent
        .collect::<Vec<_>>()
        .into_iter()
        .partition(|each| each.type_url == Kind::Route.type_url());
    for response in clusters {
        pair.deliver(response);
    }
    pair.install();
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(0), false)
    );
    for response in routes {
        pair.deliver(response);
    }
    pair.install();
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(10), true)
    );
}

#[test]
fn a_heartbeat_for_another_version_renews_nothing() {
    let mut pair = settled(&ten());
    pair.now += TTL / 3;
    let mut beat = pair.server.next(&ten(), pair.now).unwrap();
    beat.resources[0].version = "another".to_owned();
    let ends = pair.client.lapses_at();
    pair.deliver(beat.clone());
    assert_eq!(pair.client.lapses_at(), ends);
    let version = &ten()
        .resolve(Kind::Route, "shop/web/80")
        .unwrap()
        .version
        .clone();
    beat.resources[0].version = version.clone();
    pair.deliver(beat);
    assert_eq!(pair.client.lapses_at(), Some(pair.now + TTL));
    assert!(pair.rejected.is_empty());
}

#[test]
fn a_lifetime_that_makes_no_sense_is_rejected() {
    for (seconds, nanos) in [(0, 0), (-1, 0), (1, -1), (i64::MAX, 0)] {
        let mut pair = settled(&full_world(0, &["10.1.0.2:8080"]));
        let mut response = pair.server.next(&ten(), pair.now).unwrap();
        response.resources[0].ttl =
            Some(envoy_types::pb::google::protobuf::Duration { seconds, nanos });
        pair.deliver(response);
        assert!(pair.rejected[0].contains("TTL"), "{:?}", pair.rejected);
        assert_eq!(pair.shown("web"), percent(0));
    }
}
