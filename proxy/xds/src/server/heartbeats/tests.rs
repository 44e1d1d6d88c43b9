use std::time::{Duration, Instant};

use traffic_core::lease::{self, TTL};

use super::super::tests::{ack, nack, route, subscribe, world};
use super::super::{DeltaServer, Urgency};
use super::*;
use crate::node::{self, Node};

const WEB: &str = "dst/10.96.0.1:80";
const WEB_6: &str = "dst/[fd00::1]:80";
const HEARTBEAT: Duration = Duration::from_secs(TTL.as_secs() / lease::HEARTBEATS as u64);

/// The stream of a proxy that calls `web` on both of its addresses.
fn connected() -> DeltaServer {
    let mut server = DeltaServer::default();
    let mut request = subscribe(Kind::Route, &[WEB, WEB_6]);
    request.node = Some(node::encode(&Node::default()));
    server.on_request(request).unwrap();
    server
}

fn only(server: &mut DeltaServer, resources: &Resources, now: Instant) -> Response {
    let response = server.next(resources, now).unwrap();
    assert!(server.next(resources, now).is_none());
    response
}

/// One that has accepted its route at `start`.
fn settled(resources: &Resources, start: Instant) -> DeltaServer {
    let mut server = connected();
    let sent = only(&mut server, resources, start);
    server.on_request(ack(&sent)).unwrap();
    server
}

#[test]
fn a_canary_s_weight_is_sent_with_its_lease_and_weight_zero_without() {
    let start = Instant::now();
    for (percent, expected) in [(0, None), (1, Some(120)), (100, Some(120))] {
        let world = world(&[route("web", percent)], &[]);
        let sent = only(&mut connected(), &world, start);
        let ttl = sent.resources[0].ttl.map(|ttl| ttl.seconds);
        assert_eq!(ttl, expected, "{percent} %");
        let server = settled(&world, start);
        assert_eq!(server.heartbeat_at(&world).is_some(), percent != 0);
    }
    let mut promoting = route("web", 100);
    promoting.split.canary.as_mut().unwrap().lease = lease::Lease::Unlimited;
    let world = world(&[promoting], &[]);
    assert_eq!(only(&mut connected(), &world, start).resources[0].ttl, None);
    assert_eq!(settled(&world, start).heartbeat_at(&world), None);
}

#[test]
fn a_lease_is_renewed_every_third_of_its_time_without_a_body() {
    let start = Instant::now();
    let world = world(&[route("web", 10)], &[]);
    let mut server = settled(&world, start);
    let mut at = start;
    for _ in 0..5 {
        at += HEARTBEAT;
        assert_eq!(server.heartbeat_at(&world), Some(at));
        let early = at - Duration::from_millis(1);
        assert_eq!(server.urgency(&world, early), Urgency::Nothing);
        assert!(server.next(&world, early).is_none());
        assert_eq!(server.urgency(&world, at), Urgency::Now);
        let sent = only(&mut server, &world, at);
        let [beat] = sent.resources.as_slice() else {
            panic!("one for both addresses: {sent:?}");
        };
        let served = world.resolve(Kind::Route, WEB).unwrap();
        assert_eq!((&beat.name, &beat.version), (&served.name, &served.version));
        assert_eq!(beat.resource, None);
        assert_eq!(beat.ttl.map(|ttl| ttl.seconds), Some(120));
        // Whether it is answered or not makes no difference.
        server.on_request(ack(&sent)).unwrap();
    }
}

#[test]
fn what_the_proxy_has_not_accepted_is_not_renewed() {
    let (start, before) = (Instant::now(), world(&[route("web", 10)], &[]));
    let after = world(&[route("web", 20)], &[]);
    let later = start + TTL;
    let mut pending = settled(&before, start);
    let sent = only(&mut pending, &after, start);
    assert_eq!(pending.heartbeat_at(&after), None, "not acknowledged yet");
    assert!(pending.next(&after, later).is_none());
    let mut rejected = pending.clone();
    rejected.on_request(nack(&sent, "no")).unwrap();
    assert_eq!(rejected.heartbeat_at(&after), None, "it keeps the older");
    assert!(rejected.next(&after, later).is_none());
    pending.on_request(ack(&sent)).unwrap();
    assert_eq!(pending.heartbeat_at(&after), Some(start + HEARTBEAT));
    assert_eq!(pending.heartbeat_at(&before), None, "served no more");
}

#[test]
fn a_heartbeat_that_is_refused_takes_no_acknowledgement_back() {
    let (start, world) = (Instant::now(), world(&[route("web", 10)], &[]));
    let mut server = settled(&world, start);
    let beat = only(&mut server, &world, start + HEARTBEAT);
    server.on_request(nack(&beat, "no body")).unwrap();
    let sent = server.routes()[WEB].sent.clone();
    assert_eq!(sent.map(|sent| sent.verdict), Some(Verdict::Accepted));
}

#[test]
fn what_a_proxy_brings_along_is_renewed_at_once() {
    let (start, world) = (Instant::now(), world(&[route("web", 10)], &[]));
    let served = world.resolve(Kind::Route, WEB).unwrap();
    let mut request = subscribe(Kind::Route, &[WEB]);
    request.node = Some(node::encode(&Node::default()));
    request.initial_resource_versions = [(served.name.clone(), served.version.clone())].into();
    let mut server = DeltaServer::default();
    server.on_request(request).unwrap();
    let beat = only(&mut server, &world, start);
    assert_eq!(beat.resources[0].resource, None);
    assert_eq!(server.heartbeat_at(&world), Some(start + HEARTBEAT));
}

#[test]
fn a_proxy_that_knows_no_leases_gets_no_heartbeats() {
    let (start, world) = (Instant::now(), world(&[route("web", 10)], &[]));
    let mut server = DeltaServer::default();
    server.on_request(subscribe(Kind::Route, &[WEB])).unwrap();
    let sent = only(&mut server, &world, start);
    assert_eq!(sent.resources[0].ttl, None);
    server.on_request(ack(&sent)).unwrap();
    assert_eq!(server.heartbeat_at(&world), None);
}

#[test]
fn a_lease_that_may_not_be_renewed_is_renewed_when_it_may_and_a_lower_weight_waits_for_nothing() {
    let start = Instant::now();
    let raised = world(&[route("web", 10)], &[]);
    let mut server = settled(&raised, start);
    server.renews(false);
    let late = start + HEARTBEAT * 3;
    assert_eq!(server.heartbeat_at(&raised), None);
    assert_eq!(server.urgency(&raised, late), Urgency::Nothing);
    assert!(server.next(&raised, late).is_none());
    let lowered = world(&[route("web", 0)], &[]);
    assert_eq!(server.clone().urgency(&lowered, late), Urgency::Now);
    assert!(!is_heartbeat(&only(&mut server.clone(), &lowered, late)));
    server.renews(true);
    assert!(is_heartbeat(&only(&mut server, &raised, late)));
}
