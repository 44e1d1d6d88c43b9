use std::net::SocketAddr;

use aviary_crds::policy::{Allow, Caller};
use aviary_xds::resources::alias;
use aviary_xds::{DeltaServer, Kind, Request, Response};
use traffic_core::bounds::Bounds;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Health, Protocol, Route, Split, Weight,
};
use traffic_core::lease::Lease;

use super::*;
use crate::ads::{Acks, Laggard};

const ROLLOUT: &str = "shop/web";
const ACCOUNT: &str = "client";
const CANARY: &str = "shop/web/80/v2";
const START: Time = Time(1_700_000_000_000);
const A_LEASE: i64 = LEASE.as_millis() as i64;

fn after(millis: i64) -> Time {
    START + Span(millis)
}

/// The Service `web` of this rollout, with a canary at so many percent, whose one pod ends in this number.
fn world(rollout: &str, percent: u32, endpoint: u8) -> Resources {
    let arm = |revision: &str| Arm {
        cluster: format!("shop/web/80/{revision}"),
        revision: revision.to_owned(),
    };
    let route = Route {
        name: "shop/web/80".to_owned(),
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: 80,
        protocol: Protocol::Http,
        rollout: rollout.to_owned(),
        split: Split {
            stable: arm("v1"),
            canary: Some(CanaryArm {
                arm: arm("v2"),
                weight: Weight::percent(percent).unwrap(),
                run: 1,
                lease: Lease::for_weight(Weight::percent(percent).unwrap()),
                fuse: None,
                sticky: None,
            }),
        },
        bounds: Bounds::default(),
        revoked: Vec::new(),
    };
    let mut resources = Resources::default();
    resources.insert_route(&route, &[web()]);
    for (name, last) in [("shop/web/80/v1", 1), (CANARY, endpoint)] {
        let endpoint = Endpoint {
            address: SocketAddr::from(([10, 1, 0, last], 80)),
            health: Health::Healthy,
            identity: None,
            workload: None,
        };
        resources.insert_cluster(&Cluster {
            name: name.to_owned(),
            endpoints: vec![endpoint],
        });
    }
    resources
}

fn web() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 1], 80))
}

/// A proxy that calls `web`, and its stream.
struct Proxy {
    key: Key,
    stream: StreamId,
    server: DeltaServer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accept,
    Reject,
    Nothing,
}

impl Proxy {
    fn enters(registry: &mut Registry, name: &str) -> Proxy {
        let mut server = DeltaServer::default();
        for (kind, names) in [
            (Kind::Route, vec![alias(web())]),
            (
                Kind::Cluster,
                vec!["shop/web/80/v1".to_owned(), CANARY.to_owned()],
            ),
            (
                Kind::Endpoints,
                vec!["shop/web/80/v1".to_owned(), CANARY.to_owned()],
            ),
        ] {
            let request = Request {
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: names,
                ..Request::default()
            };
            server.on_request(request).unwrap();
        }
        let proxy = Proxy {
            key: Key::new("shop", name),
            stream: registry.next_stream(),
            server,
        };
        let (end, view) = (CancellationToken::new(), View::of(&proxy.server));
        registry.enter(&proxy.key, proxy.stream, end, (ACCOUNT, view));
        proxy
    }

    /// Is sent everything, and answers as said.
    fn is_sent(&mut self, registry: &mut Registry, resources: &Resources, answer: Answer) {
        while let Some(response) = self.server.next(resources, std::time::Instant::now()) {
            if answer != Answer::Nothing {
                self.server.on_request(answered(&response, answer)).unwrap();
            }
        }
        registry.update(&self.key, self.stream, View::of(&self.server));
        if answer == Answer::Reject {
            registry.rejected(&self.key, self.stream);
        }
    }

    fn is_lost(&self, registry: &mut Registry) {
        registry.leave(&self.key, self.stream, START);
    }
}

fn answered(response: &Response, answer: Answer) -> Request {
    let mut request = Request {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Request::default()
    };
    if answer == Answer::Reject {
        let status = request.error_detail.get_or_insert_default();
        status.message = "no".to_owned();
    }
    request
}

/// A registry with one proxy that has all of `resources`.
fn settled(resources: &Resources) -> (Registry, Proxy) {
    let mut registry = Registry::default();
    let mut proxy = Proxy::enters(&mut registry, "web-1");
    proxy.is_sent(&mut registry, resources, Answer::Accept);
    assert_eq!(
        counts(&mut registry, resources, START),
        (1, 1, 1),
        "everything is acknowledged"
    );
    (registry, proxy)
}

fn acks(registry: &mut Registry, rollout: &str, resources: &Resources, now: Time) -> Acks {
    registry.lapse(now);
    registry.tally(rollout, resources).acks()
}

/// Proxies, acknowledged, endpoints.
fn counts(registry: &mut Registry, resources: &Resources, now: Time) -> (u32, u32, u32) {
    let seen = acks(registry, ROLLOUT, resources, now);
    (seen.proxies, seen.acknowledged, seen.endpoints)
}

#[test]
fn a_lost_proxy_is_a_laggard_until_its_lease_is_over_and_not_longer() {
    let ten = world(ROLLOUT, 10, 2);
    let (mut registry, proxy) = settled(&ten);
    proxy.is_lost(&mut registry);
    let seen = acks(&mut registry, ROLLOUT, &ten, after(A_LEASE - 1));
    let until = Some(after(A_LEASE));
    let laggard = Laggard {
        pod: Key::new("shop", "web-1"),
        until,
    };
    assert_eq!(seen.laggards, [laggard]);
    assert_eq!((seen.next_lapse, seen.lagging()), (until, 1));
    assert_eq!(
        acks(&mut registry, ROLLOUT, &ten, after(A_LEASE)),
        Acks::default()
    );
    assert!(registry.pods.is_empty(), "nothing of it is left in memory");
}

#[test]
fn a_clock_that_is_set_back_keeps_a_lost_proxy_no_longer_than_one_more_lease() {
    let ten = world(ROLLOUT, 10, 2);
    let (mut registry, proxy) = settled(&ten);
    proxy.is_lost(&mut registry);
    let hour_ago = START + Span::seconds(-3600);
    assert_eq!(counts(&mut registry, &ten, hour_ago).0, 1);
    let later = hour_ago + Span(A_LEASE);
    assert_eq!(counts(&mut registry, &ten, later).0, 0);
}

#[test]
fn a_lost_proxy_of_another_rollout_or_none_does_not_count() {
    for other in ["shop/other", ""] {
        let before = world(other, 10, 2);
        let mut registry = Registry::default();
        let mut proxy = Proxy::enters(&mut registry, "web-1");
        proxy.is_sent(&mut registry, &before, Answer::Accept);
        proxy.is_lost(&mut registry);
        // The rollout takes the Service over when the proxy is away: it cannot have any of its weights.
        let now = world(ROLLOUT, 10, 2);
        assert_eq!(counts(&mut registry, &now, START), (0, 0, 0), "`{other}`");
    }
}

#[test]
fn a_proxy_that_was_lost_before_it_was_sent_anything_does_not_count() {
    let mut registry = Registry::default();
    let proxy = Proxy::enters(&mut registry, "web-1");
    let ten = world(ROLLOUT, 10, 2);
    assert_eq!(counts(&mut registry, &ten, START), (1, 0, 0), "connected");
    proxy.is_lost(&mut registry);
    assert_eq!(counts(&mut registry, &ten, START), (0, 0, 0), "lost");
}

#[test]
fn a_lost_proxy_counts_for_the_route_it_kept_after_it_rejected_a_newer_one() {
    let (mut registry, mut proxy) = settled(&world(ROLLOUT, 10, 2));
    let elsewhere = world("shop/other", 10, 2);
    proxy.is_sent(&mut registry, &elsewhere, Answer::Reject);
    proxy.is_lost(&mut registry);
    assert_eq!(counts(&mut registry, &elsewhere, START).0, 1);
    let other = acks(&mut registry, "shop/other", &elsewhere, START);
    assert_eq!(other.proxies, 0, "what it rejected, it does not use");
}

#[test]
fn a_service_that_leaves_a_rollout_is_waited_for_until_its_callers_know() {
    let (mut registry, mut proxy) = settled(&world(ROLLOUT, 10, 2));
    let released = world("", 0, 2);
    assert_eq!(counts(&mut registry, &released, START), (1, 0, 0));
    proxy.is_sent(&mut registry, &released, Answer::Nothing);
    assert_eq!(counts(&mut registry, &released, START), (1, 0, 0));
    let gone = Resources::default();
    proxy.is_sent(&mut registry, &gone, Answer::Nothing);
    assert_eq!(counts(&mut registry, &gone, START), (1, 0, 0));
    proxy.is_sent(&mut registry, &released, Answer::Accept);
    assert_eq!(counts(&mut registry, &released, START), (0, 0, 0));
}

#[test]
fn a_pod_that_is_gone_is_forgotten_at_once() {
    let ten = world(ROLLOUT, 10, 2);
    for lost in [false, true] {
        let (mut registry, proxy) = settled(&ten);
        if lost {
            proxy.is_lost(&mut registry);
        }
        assert!(registry.forget(&proxy.key));
        assert_eq!(acks(&mut registry, ROLLOUT, &ten, START), Acks::default());
    }
}

#[test]
fn a_pod_that_comes_back_counts_as_connected_again() {
    let ten = world(ROLLOUT, 10, 2);
    let (mut registry, proxy) = settled(&ten);
    proxy.is_lost(&mut registry);
    let mut again = Proxy::enters(&mut registry, "web-1");
    let seen = acks(&mut registry, ROLLOUT, &ten, START);
    assert_eq!((seen.laggards[0].until, seen.next_lapse), (None, None));
    again.is_sent(&mut registry, &ten, Answer::Accept);
    assert_eq!(counts(&mut registry, &ten, after(A_LEASE)), (1, 1, 1));
}

#[test]
fn endpoints_are_acknowledged_apart_from_weights() {
    let (mut registry, mut proxy) = settled(&world(ROLLOUT, 10, 2));
    let moved = world(ROLLOUT, 10, 3);
    assert_eq!(
        counts(&mut registry, &moved, START),
        (1, 1, 0),
        "the weight stays acknowledged"
    );
    proxy.is_sent(&mut registry, &moved, Answer::Reject);
    assert_eq!(counts(&mut registry, &moved, START), (1, 1, 0));
    let again = world(ROLLOUT, 10, 4);
    proxy.is_sent(&mut registry, &again, Answer::Accept);
    assert_eq!(counts(&mut registry, &again, START), (1, 1, 1));
    let raised = world(ROLLOUT, 20, 4);
    proxy.is_sent(&mut registry, &raised, Answer::Nothing);
    assert_eq!(counts(&mut registry, &raised, START), (1, 0, 1));
}

#[test]
fn the_first_ten_laggards_are_named_and_all_of_them_are_counted() {
    let ten = world(ROLLOUT, 10, 2);
    let mut registry = Registry::default();
    for number in (0..25).rev() {
        let mut proxy = Proxy::enters(&mut registry, &format!("web-{number:02}"));
        proxy.is_sent(&mut registry, &ten, Answer::Accept);
        // The last to go is the last by name, which nobody names.
        let at = after(i64::from(number) * 1000);
        registry.leave(&proxy.key, proxy.stream, at);
    }
    let seen = acks(&mut registry, ROLLOUT, &ten, after(24_000));
    let named: Vec<String> = seen.laggards.iter().map(|l| l.pod.name.clone()).collect();
    let expected: Vec<String> = (0..10).map(|number| format!("web-{number:02}")).collect();
    assert_eq!((named, seen.lagging()), (expected, 25));
    assert_eq!(seen.next_lapse, Some(after(A_LEASE)));
    registry.forget(&Key::new("shop", "web-00"));
    let seen = acks(&mut registry, ROLLOUT, &ten, after(24_000));
    assert_eq!(seen.next_lapse, Some(after(A_LEASE + 1000)));
}

#[test]
fn people_see_every_proxy_that_counts_and_where_it_stands() {
    let ten = world(ROLLOUT, 10, 2);
    let (mut registry, proxy) = settled(&ten);
    let seen = |registry: &Registry, at: Time| {
        let known = registry.known(at).into_iter();
        let of = |key| crate::ads::proxies::of(key, registry, &ten);
        known.map(of).collect::<Vec<_>>()
    };
    let settled = seen(&registry, START).remove(0);
    assert!(settled.connected && settled.rollouts[ROLLOUT].acknowledged);

    let mut refuses = Proxy::enters(&mut registry, "web-2");
    refuses.is_sent(&mut registry, &ten, Answer::Reject);
    let stands = &seen(&registry, START)[1].rollouts[ROLLOUT];
    assert_eq!(stands.refused.as_deref(), Some("no"));
    assert!(!stands.acknowledged);

    proxy.is_lost(&mut registry);
    let lost = seen(&registry, START).remove(0);
    let until = lost.until.map(|until| Time(until.as_millisecond()));
    assert!(!lost.connected && !lost.rollouts[ROLLOUT].acknowledged);
    assert_eq!(until, Some(after(A_LEASE)));
    let names: Vec<String> = seen(&registry, after(A_LEASE))
        .into_iter()
        .map(|it| it.pod)
        .collect();
    assert_eq!(names, ["web-2"], "who is lost for a lease counts no more");
}

fn only(service_account: &str) -> Option<Callers> {
    let allowed = Allow {
        from: vec![Caller {
            namespace: "shop".to_owned(),
            service_account: Some(service_account.to_owned()),
        }],
        ..Allow::default()
    };
    Some(Callers::of([&allowed].into_iter()))
}

#[test]
fn whose_business_a_release_is_not_is_not_waited_for_whether_connected_or_lost() {
    let (mut registry, proxy) = settled(&world(ROLLOUT, 10, 2));
    let raised = world(ROLLOUT, 20, 2);
    for is_lost in [false, true] {
        if is_lost {
            proxy.is_lost(&mut registry);
        }
        assert!(registry.restrict(ROLLOUT, only(ACCOUNT)));
        assert!(!registry.restrict(ROLLOUT, only(ACCOUNT)), "as before");
        assert_eq!(counts(&mut registry, &raised, START).0, 1, "it may call");
        assert!(registry.restrict(ROLLOUT, only("other")));
        assert_eq!(counts(&mut registry, &raised, START), (0, 0, 0));
        assert!(registry.restrict(ROLLOUT, None));
        assert_eq!(counts(&mut registry, &raised, START).0, 1);
    }
    registry.restrict("shop/another", only("other"));
    assert_eq!(counts(&mut registry, &raised, START).0, 1);
}
