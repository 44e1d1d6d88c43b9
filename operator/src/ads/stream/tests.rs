use std::net::SocketAddr;
use std::time::Duration;

use aviary_xds::resources::alias;
use aviary_xds::{DeltaClient, Node};
use traffic_core::bounds::Bounds;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Health, Protocol, Route, Split, Weight,
};
use traffic_core::lease::Lease;

use super::*;
use crate::ads::RevocationKey;
use crate::mesh::{RouteEntry, World};
use crate::tenure::Tenure;

const STABLE: &str = "shop/web/80/v1";

fn world(percent: u32, endpoint: u8) -> Resources {
    let mut resources = Resources::default();
    resources.insert_route(&route("shop/web", percent), &[web()]);
    resources.insert_cluster(&cluster(endpoint));
    resources
}

fn route(rollout: &str, percent: u32) -> Route {
    let arm = |revision: &str| Arm {
        cluster: format!("shop/web/80/{revision}"),
        revision: revision.to_owned(),
    };
    Route {
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
    }
}

fn cluster(endpoint: u8) -> Cluster {
    let address = SocketAddr::from(([10, 1, 0, endpoint], 80));
    Cluster {
        name: STABLE.to_owned(),
        endpoints: vec![Endpoint {
            address,
            health: Health::Healthy,
            identity: None,
            workload: None,
        }],
    }
}

fn web() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 1], 80))
}

/// A proxy that has just asked for everything.
fn connected(ads: &Ads, pod: &str) -> Session {
    let pod = PodIdentity {
        namespace: "shop".to_owned(),
        pod: pod.to_owned(),
        uid: "1".to_owned(),
        service_account: "web".to_owned(),
    };
    let mut session = Session::new(ads.clone(), pod, mpsc::channel(1).0);
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
    session
}

/// A proxy that was sent all of `resources`.
fn up_to_date(resources: &Resources) -> Session {
    let mut session = connected(&Ads::new(RevocationKey::new(&[1; 32])), "web-1");
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

/// Takes one message and answers it; `None`: says nothing to it.
fn takes(session: &mut Session, accepts: Option<bool>) {
    let Some(response) = session.next() else {
        return;
    };
    session.report();
    let Some(accepts) = accepts else { return };
    let mut answer = Request {
        type_url: response.type_url,
        response_nonce: response.nonce,
        ..Request::default()
    };
    if !accepts {
        answer.error_detail.get_or_insert_default().message = "no".to_owned();
    }
    session.receive(answer).unwrap();
    session.report();
}

/// Whatever proxies do and whatever is served: what was counted as it moved is what counting everybody anew gives.
#[test]
fn a_tally_that_follows_every_move_is_the_one_that_counts_everybody_anew() {
    let mut chance = fastrand::Rng::with_seed(1);
    let ads = Ads::new(RevocationKey::new(&[1; 32]));
    let mut sessions: [Option<Session>; 5] = Default::default();
    let mut now = Time(1_700_000_000_000);
    let (mut several, mut lost, mut rejected, mut all) = (0, 0, 0, 0);
    for move_ in 0..20_000 {
        let number = chance.usize(..sessions.len());
        let (pod, session) = (format!("web-{number}"), &mut sessions[number]);
        match (chance.u8(..16), session.as_mut()) {
            (0, _) => {
                let owner = ["shop/web", "shop/web", "shop/other", ""][chance.usize(..4)];
                let percent = 10 * chance.u32(1..4);
                let entry = RouteEntry {
                    route: route(owner, percent),
                    destinations: vec![web()],
                    applications: Vec::new(),
                };
                let mut world = World::default();
                world.routes.insert(entry.route.name.clone(), entry);
                let cluster = cluster(chance.u8(1..4));
                world.clusters.insert(cluster.name.clone(), cluster);
                ads.set_world(std::sync::Arc::new(world));
            }
            (1, _) => ads.forget_pod(&Key::new("shop", pod)),
            (2 | 3, _) => *session = Some(connected(&ads, &pod)),
            (4, Some(open)) => {
                let stream = open.stream;
                ads.learn(&open.pod, |registry| registry.leave(&open.pod, stream, now));
                *session = None;
            }
            (5, _) => now.0 += chance.i64(-20_000..60_000),
            (6, Some(session)) => takes(session, None),
            (7, Some(session)) => takes(session, Some(false)),
            (_, Some(session)) => takes(session, Some(true)),
            (_, None) => {}
        }
        for rollout in ["shop/web", "shop/other"] {
            let followed = ads.rollout_acks(rollout, now);
            let served = ads.world();
            let anew = served.as_ref().map(|served| {
                let registry = ads.registry();
                registry.tally(rollout, served).acks()
            });
            assert_eq!(
                followed,
                anew.unwrap_or_default(),
                "{rollout}, move {move_}"
            );
            several += u32::from(followed.proxies > 2);
            lost += u32::from(followed.next_lapse.is_some());
            rejected += u32::from(followed.rejected.is_some());
            all += u32::from(followed.proxies > 0 && followed.lagging() == 0);
        }
    }
    let seen = [several, lost, rejected, all];
    assert!(seen.iter().all(|times| *times > 100), "{seen:?}");
}

#[test]
fn a_weight_is_lent_for_longer_only_while_this_replica_may_write() {
    let (resources, tenure) = (world(1, 1), Tenure::unlimited());
    let ads = Ads::new(RevocationKey::new(&[1; 32]));
    ads.lends_during(tenure.clone());
    let pod = PodIdentity {
        namespace: "shop".to_owned(),
        pod: "web-1".to_owned(),
        uid: "1".to_owned(),
        service_account: "web".to_owned(),
    };
    let mut session = Session::new(ads, pod, mpsc::channel(1).0);
    let now = Instant::now();
    let mut client = DeltaClient::new(0.5);
    let mut asked = client.connected(&Node::default()).requests;
    asked.extend(client.demand([web()]).requests);
    for request in asked {
        session.receive(request).unwrap();
    }
    while let Some(response) = session.server.next(&resources, now.into_std()) {
        let acknowledged = Request {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..Request::default()
        };
        session.receive(acknowledged).unwrap();
    }
    let due = session.send_at(Some(&resources), now).unwrap();
    let late = due + Duration::from_secs(1);
    assert_eq!(session.send_at(Some(&resources), late), Some(late));
    tenure.end();
    let again = late + RENEW_AGAIN;
    assert_eq!(session.send_at(Some(&resources), late), Some(again));
    let lower = session.send_at(Some(&world(0, 1)), late);
    assert_eq!(lower, Some(late), "what lowers a weight waits for nothing");
}
