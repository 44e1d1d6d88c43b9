use std::net::SocketAddr;
use std::time::Duration;

use aviary_xds::resources::alias;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Health, Protocol, Route, Split, Weight,
};
use traffic_core::lease::Lease;

use super::*;
use crate::ads::RevocationKey;

const STABLE: &str = "shop/web/80/v1";

fn world(percent: u32, endpoint: u8) -> Resources {
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
        rollout: "shop/web".to_owned(),
        split: Split {
            stable: arm("v1"),
            canary: Some(CanaryArm {
                arm: arm("v2"),
                weight: Weight::percent(percent).unwrap(),
                run: 1,
                lease: Lease::for_weight(Weight::percent(percent).unwrap()),
            }),
        },
        revoked: Vec::new(),
    };
    let address = SocketAddr::from(([10, 1, 0, endpoint], 80));
    let endpoints = vec![Endpoint {
        address,
        health: Health::Healthy,
    }];
    let mut resources = Resources::default();
    resources.insert_route(&route, &[web()]);
    resources.insert_cluster(&Cluster {
        name: STABLE.to_owned(),
        endpoints,
    });
    resources
}

fn web() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 1], 80))
}

/// A proxy that was sent all of `resources`.
fn up_to_date(resources: &Resources) -> Session {
    let pod = PodIdentity {
        namespace: "shop".to_owned(),
        pod: "web-1".to_owned(),
        uid: "1".to_owned(),
    };
    let mut session = Session::new(
        Ads::new(RevocationKey::new(&[1; 32])),
        pod,
        mpsc::channel(1).0,
    );
    for (kind, name) in [
        (Kind::Route, alias(web())),
        (Kind::Endpoints, STABLE.to_owned()),
    ] {
        let request = Request {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: vec![name],
            ..Request::default()
        };
        session.receive(request).unwrap();
    }
    while session
        .server
        .next(resources, Instant::now().into_std())
        .is_some()
    {}
    session
}

#[test]
fn a_route_is_sent_at_once_and_endpoints_when_it_is_quiet() {
    let mut session = up_to_date(&world(1, 1));
    let now = Instant::now();
    assert_eq!(session.send_at(Some(&world(1, 1)), now), None);
    session.debounce.touch(now);
    assert_eq!(
        session.send_at(Some(&world(1, 2)), now),
        Some(now + Duration::from_millis(25))
    );
    assert_eq!(
        session.send_at(Some(&world(2, 2)), now),
        Some(now),
        "a weight waits for nothing"
    );
}

#[test]
fn before_the_first_world_there_is_nothing_to_send() {
    let mut session = up_to_date(&Resources::default());
    assert_eq!(session.send_at(None, Instant::now()), None);
}
