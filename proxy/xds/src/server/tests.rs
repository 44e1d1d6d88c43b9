use std::net::SocketAddr;
use std::sync::LazyLock;

use traffic_core::bounds::Bounds;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Health, Protocol, Route, Split, Weight,
};
use traffic_core::lease::Lease;

use super::*;

/// A route `shop/<service>/80` with a canary at so many percent.
pub(crate) fn route(service: &str, percent: u32) -> Route {
    let arm = |revision: &str| Arm {
        cluster: format!("shop/{service}/80/{revision}"),
        revision: revision.to_owned(),
    };
    let canary = CanaryArm {
        arm: arm("v2"),
        weight: Weight::percent(percent).unwrap(),
        run: 1,
        lease: Lease::for_weight(Weight::percent(percent).unwrap()),
        fuse: None,
        sticky: None,
    };
    Route {
        name: format!("shop/{service}/80"),
        namespace: "shop".to_owned(),
        service: service.to_owned(),
        port: 80,
        protocol: Protocol::Http,
        rollout: format!("shop/{service}"),
        split: Split {
            stable: arm("v1"),
            canary: Some(canary),
        },
        bounds: Bounds::default(),
        revoked: Vec::new(),
    }
}

/// The destinations of a service in these tests: `web` is 10.96.0.1 and fd00::1, `api` is 10.96.0.2 and fd00::2.
pub(crate) fn destinations(service: &str) -> Vec<SocketAddr> {
    let number = if service == "web" { 1 } else { 2 };
    vec![
        format!("10.96.0.{number}:80").parse().unwrap(),
        format!("[fd00::{number}]:80").parse().unwrap(),
    ]
}

pub(crate) fn cluster(name: &str, addresses: &[&str]) -> Cluster {
    let endpoint = |address: &&str| Endpoint {
        address: address.parse().unwrap(),
        health: Health::Healthy,
        identity: None,
        workload: None,
    };
    Cluster {
        name: name.to_owned(),
        endpoints: addresses.iter().map(endpoint).collect(),
    }
}

pub(crate) fn world(routes: &[Route], clusters: &[Cluster]) -> Resources {
    let mut resources = Resources::default();
    for route in routes {
        resources.insert_route(route, &destinations(&route.service));
    }
    for cluster in clusters {
        resources.insert_cluster(cluster);
    }
    resources
}

/// A moment; these tests take no time.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

const WEB: &str = "dst/10.96.0.1:80";
const API: &str = "dst/10.96.0.2:80";
const STABLE: &str = "shop/web/80/v1";
const CANARY: &str = "shop/web/80/v2";

pub(crate) fn subscribe(kind: Kind, names: &[&str]) -> Request {
    Request {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: names.iter().map(|&name| name.to_owned()).collect(),
        ..Request::default()
    }
}

pub(crate) fn ack(response: &Response) -> Request {
    Request {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Request::default()
    }
}

pub(crate) fn nack(response: &Response, message: &str) -> Request {
    let status = envoy_types::pb::google::rpc::Status {
        code: 3,
        message: message.to_owned(),
        details: Vec::new(),
    };
    Request {
        error_detail: Some(status),
        ..ack(response)
    }
}

fn drain(server: &mut DeltaServer, resources: &Resources) -> Vec<Response> {
    let sent = std::iter::from_fn(|| server.next(resources, *START)).collect();
    assert_eq!(server.urgency(resources, *START), Urgency::Nothing);
    sent
}

/// `+name` for what is sent, `-name` for what is removed, behind its kind's first letter.
fn summary(responses: &[Response]) -> Vec<String> {
    responses
        .iter()
        .flat_map(|response| {
            let kind = Kind::from_type_url(&response.type_url).unwrap().to_string();
            let added = response
                .resources
                .iter()
                .map(|each| format!("{kind} +{}", each.name))
                .collect::<Vec<_>>();
            added.into_iter().chain(
                response
                    .removed_resources
                    .iter()
                    .map(move |name| format!("{kind} -{name}")),
            )
        })
        .collect()
}

/// A server with a proxy that has everything of `resources` and has acknowledged it.
fn settled(resources: &Resources) -> DeltaServer {
    let mut server = DeltaServer::default();
    for (kind, names) in [
        (Kind::Route, &[WEB, API][..]),
        (Kind::Cluster, &[STABLE, CANARY]),
        (Kind::Endpoints, &[STABLE, CANARY]),
    ] {
        server.on_request(subscribe(kind, names)).unwrap();
    }
    for response in drain(&mut server, resources) {
        server.on_request(ack(&response)).unwrap();
    }
    server
}

fn full_world(percent: u32, canary: &[&str]) -> Resources {
    world(
        &[route("web", percent), route("api", 0)],
        &[cluster(STABLE, &["10.1.0.1:8080"]), cluster(CANARY, canary)],
    )
}

fn verdict(server: &DeltaServer, name: &str) -> Option<Verdict> {
    server
        .routes()
        .get(name)
        .cloned()?
        .sent
        .map(|sent| sent.verdict)
}

#[test]
fn every_subscribed_name_is_answered_and_an_unknown_one_is_removed() {
    let mut server = DeltaServer::default();
    server
        .on_request(subscribe(Kind::Route, &[WEB, "dst/10.0.0.9:80"]))
        .unwrap();
    server
        .on_request(subscribe(Kind::Endpoints, &[STABLE, "gone"]))
        .unwrap();
    let resources = full_world(0, &[]);
    let sent = drain(&mut server, &resources);
    assert_eq!(
        summary(&sent),
        [
            "endpoints +shop/web/80/v1",
            "route +shop/web/80",
            "route -dst/10.0.0.9:80",
            "endpoints -gone"
        ]
    );
    assert!(
        drain(&mut server, &resources).is_empty(),
        "what did not change is not sent again"
    );
}

#[test]
fn a_route_carries_its_destinations_as_aliases() {
    let mut server = DeltaServer::default();
    server.on_request(subscribe(Kind::Route, &[WEB])).unwrap();
    let sent = drain(&mut server, &full_world(0, &[]));
    assert_eq!(sent[0].resources[0].aliases, [WEB, "dst/[fd00::1]:80"]);
}

#[test]
fn a_second_alias_of_a_known_route_is_answered_too() {
    let resources = full_world(0, &[]);
    let mut server = settled(&resources);
    server
        .on_request(subscribe(Kind::Route, &["dst/[fd00::1]:80"]))
        .unwrap();
    assert_eq!(server.urgency(&resources, *START), Urgency::Now);
    assert_eq!(
        summary(&drain(&mut server, &resources)),
        ["route +shop/web/80"]
    );
}

#[test]
fn a_weight_change_is_one_route_and_nothing_else() {
    let mut server = settled(&full_world(1, &["10.1.0.2:8080"]));
    let raised = full_world(10, &["10.1.0.2:8080"]);
    assert_eq!(server.urgency(&raised, *START), Urgency::Now);
    let sent = drain(&mut server, &raised);
    assert_eq!(summary(&sent), ["route +shop/web/80"]);
    assert_eq!(
        (sent[0].resources.len(), verdict(&server, WEB)),
        (1, Some(Verdict::Pending))
    );
    assert_eq!(
        verdict(&server, API),
        Some(Verdict::Accepted),
        "the other route is not touched"
    );
    server.on_request(ack(&sent[0])).unwrap();
    assert_eq!(verdict(&server, WEB), Some(Verdict::Accepted));
}

#[test]
fn endpoints_alone_can_wait() {
    let mut server = settled(&full_world(1, &[]));
    let grown = full_world(1, &["10.1.0.2:8080"]);
    assert_eq!(server.urgency(&grown, *START), Urgency::CanWait);
    assert_eq!(
        summary(&drain(&mut server, &grown)),
        ["endpoints +shop/web/80/v2"]
    );
}

#[test]
fn a_changed_route_goes_behind_the_endpoints_it_names_and_before_all_others() {
    let other = |address: &str| cluster("shop/api/80/v1", &[address]);
    let before = world(
        &[route("web", 0)],
        &[cluster(CANARY, &[]), other("10.2.0.1:80")],
    );
    let mut server = DeltaServer::default();
    server.on_request(subscribe(Kind::Route, &[WEB])).unwrap();
    server
        .on_request(subscribe(Kind::Endpoints, &[CANARY, "shop/api/80/v1"]))
        .unwrap();
    drain(&mut server, &before);
    let after = world(
        &[route("web", 1)],
        &[cluster(CANARY, &["10.1.0.2:80"]), other("10.2.0.2:80")],
    );
    assert_eq!(
        summary(&drain(&mut server, &after)),
        [
            "endpoints +shop/web/80/v2",
            "route +shop/web/80",
            "endpoints +shop/api/80/v1"
        ]
    );
}

#[test]
fn clusters_go_before_endpoints_before_routes() {
    let mut server = DeltaServer::default();
    for kind in [Kind::Route, Kind::Endpoints, Kind::Cluster] {
        let name = if kind == Kind::Route { WEB } else { STABLE };
        server.on_request(subscribe(kind, &[name])).unwrap();
    }
    assert_eq!(
        summary(&drain(&mut server, &full_world(0, &[]))),
        [
            "cluster +shop/web/80/v1",
            "endpoints +shop/web/80/v1",
            "route +shop/web/80"
        ]
    );
}

#[test]
fn clusters_are_removed_after_the_route_without_them_is_acknowledged() {
    let mut server = settled(&full_world(50, &["10.1.0.2:8080"]));
    let mut promoted = route("web", 0);
    promoted.split.canary = None;
    let after = world(
        &[promoted, route("api", 0)],
        &[cluster(STABLE, &["10.1.0.1:8080"])],
    );
    let sent = drain(&mut server, &after);
    assert_eq!(summary(&sent), ["route +shop/web/80"]);
    server.on_request(ack(&sent[0])).unwrap();
    assert_eq!(
        summary(&drain(&mut server, &after)),
        ["endpoints -shop/web/80/v2", "cluster -shop/web/80/v2"]
    );
}

#[test]
fn a_rejected_route_is_not_sent_again_until_it_changes() {
    let mut server = settled(&full_world(1, &[]));
    let sent = drain(&mut server, &full_world(10, &[]));
    let received = server
        .on_request(nack(&sent[0], "weights sum to 0"))
        .unwrap();
    assert_eq!(received.rejection.as_deref(), Some("weights sum to 0"));
    assert_eq!(
        verdict(&server, WEB),
        Some(Verdict::Rejected("weights sum to 0".into()))
    );
    assert!(drain(&mut server, &full_world(10, &[])).is_empty());
    assert_eq!(
        summary(&drain(&mut server, &full_world(1, &[]))),
        ["route +shop/web/80"]
    );
}

#[test]
fn an_old_acknowledgement_says_nothing_about_a_newer_version() {
    let mut server = settled(&full_world(1, &[]));
    let ten = drain(&mut server, &full_world(10, &[]));
    let one = drain(&mut server, &full_world(1, &[]));
    server.on_request(ack(&ten[0])).unwrap();
    assert_eq!(
        verdict(&server, WEB),
        Some(Verdict::Pending),
        "the version was acknowledged before, this sending was not"
    );
    server.on_request(ack(&one[0])).unwrap();
    assert_eq!(verdict(&server, WEB), Some(Verdict::Accepted));
    server.on_request(nack(&one[0], "late")).unwrap();
    assert_eq!(
        verdict(&server, WEB),
        Some(Verdict::Accepted),
        "a nonce counts once"
    );
}

#[test]
fn a_stale_nonce_still_changes_subscriptions() {
    let resources = full_world(1, &[]);
    let mut server = settled(&resources);
    let request = Request {
        response_nonce: "999".to_owned(),
        ..subscribe(Kind::Route, &["dst/10.0.0.9:80"])
    };
    server.on_request(request).unwrap();
    assert_eq!(
        summary(&drain(&mut server, &resources)),
        ["route -dst/10.0.0.9:80"]
    );
}

#[test]
fn a_proxy_that_comes_back_is_sent_only_what_changed() {
    let had = full_world(1, &["10.1.0.2:8080"]);
    let version = |kind, name: &str| had.resolve(kind, name).unwrap().version.clone();
    let back = |kind: Kind, subscribed: &[&str], known: &[&str]| Request {
        initial_resource_versions: known
            .iter()
            .map(|&name| (name.to_owned(), version(kind, name)))
            .collect(),
        ..subscribe(kind, subscribed)
    };
    let connect = || {
        let mut server = DeltaServer::default();
        server
            .on_request(back(
                Kind::Route,
                &[WEB, API],
                &["shop/web/80", "shop/api/80"],
            ))
            .unwrap();
        server
            .on_request(back(Kind::Endpoints, &[STABLE, CANARY], &[STABLE, CANARY]))
            .unwrap();
        server
    };
    let mut unchanged = connect();
    assert!(drain(&mut unchanged, &had).is_empty());
    assert_eq!(
        verdict(&unchanged, WEB),
        Some(Verdict::Accepted),
        "what it has installed counts as acknowledged"
    );
    assert_eq!(
        summary(&drain(&mut connect(), &full_world(10, &["10.1.0.2:8080"]))),
        ["route +shop/web/80"]
    );
    assert_eq!(
        summary(&drain(&mut connect(), &full_world(1, &[]))),
        ["endpoints +shop/web/80/v2"]
    );
}

#[test]
fn a_destination_that_moves_to_another_route_gets_that_one() {
    let mut server = settled(&full_world(1, &[]));
    let mut moved = Resources::default();
    moved.insert_route(&route("api", 0), &destinations("web"));
    assert_eq!(
        summary(&drain(&mut server, &moved)),
        ["route +shop/api/80", "route -dst/10.96.0.2:80"]
    );
}

#[test]
fn an_unsubscribed_name_is_heard_of_no_more() {
    let mut server = settled(&full_world(1, &[]));
    let request = Request {
        resource_names_unsubscribe: vec![CANARY.to_owned()],
        ..subscribe(Kind::Endpoints, &[])
    };
    server.on_request(request).unwrap();
    assert!(drain(&mut server, &full_world(1, &["10.1.0.9:80"])).is_empty());
}

#[test]
fn wildcards_and_unknown_types_are_refused_with_a_sentence() {
    let mut server = DeltaServer::default();
    for request in [
        subscribe(Kind::Cluster, &[]),
        subscribe(Kind::Cluster, &["*"]),
    ] {
        assert_eq!(
            server.on_request(request),
            Err(ProtocolError::Wildcard(Kind::Cluster))
        );
    }
    let listener = Request {
        type_url: "listener".to_owned(),
        ..Request::default()
    };
    let text = server.on_request(listener).unwrap_err().to_string();
    assert!(
        text.starts_with("resource type `listener` is not served"),
        "{text}"
    );
}

#[test]
fn a_proxy_gets_the_rules_of_its_own_pod_and_of_no_other() {
    use traffic_core::config::Inbound;
    use traffic_core::inbound::Mtls;
    let strict = Inbound {
        mtls: Mtls::Strict,
        ..Inbound::default()
    };
    let mut resources = world(&[], &[]);
    resources.insert_inbound("shop/web-1", &strict);
    let asks = |pod: &str| {
        let mut server = DeltaServer::of(pod.to_owned());
        let asked = subscribe(Kind::Listener, &[INBOUND]);
        server.on_request(asked).unwrap();
        let sent = drain(&mut server, &resources);
        server.on_request(ack(&sent[0])).unwrap();
        assert_eq!(drain(&mut server, &resources), []);
        (server, summary(&sent))
    };
    let (mut server, sent) = asks("shop/web-1");
    assert_eq!(sent, ["listener +inbound/self"]);
    assert_eq!(server.inbound(), Some(&Verdict::Accepted));
    let names: Vec<_> = server.names().collect();
    assert_eq!(names, [(Kind::Listener, &"shop/web-1".to_owned())]);
    let (other, sent) = asks("shop/web-2");
    assert_eq!(sent, ["listener -inbound/self"]);
    assert_eq!(other.inbound(), None);
    for name in ["shop/web-1", "inbound/other", ""] {
        let error = DeltaServer::of("shop/web-2".to_owned())
            .on_request(subscribe(Kind::Listener, &[name]))
            .unwrap_err();
        assert_eq!(error, ProtocolError::Listener(name.to_owned()));
    }
    let mut wildcard = DeltaServer::of("shop/web-2".to_owned());
    wildcard
        .on_request(subscribe(Kind::Listener, &[]))
        .unwrap_err();
    // Gone, though a route awaits its acknowledgement.
    let mut after = world(&[route("web", 0)], &[]);
    server.on_request(subscribe(Kind::Route, &[WEB])).unwrap();
    let sent = drain(&mut server, &after);
    assert_eq!(
        summary(&sent),
        ["route +shop/web/80", "listener -inbound/self"]
    );
    after.insert_inbound("shop/web-1", &Inbound::default());
    assert_eq!(server.urgency(&after, *START), Urgency::Now);
    let sent = drain(&mut server, &after);
    assert_eq!(summary(&sent), ["listener +inbound/self"]);
}
