use std::net::SocketAddr;

use prost::Message;
use traffic_core::config::{Revocation, Weight};

use super::visible::clusters_of;
use super::*;
use crate::Resources;
use crate::kind::Kind;
use crate::server::DeltaServer;
use crate::server::tests::{cluster, destinations, route, world};

mod inbound;
mod lease;

const STABLE: &str = "shop/web/80/v1";
const CANARY: &str = "shop/web/80/v2";
const POD: &str = "shop/web-1";

/// Both ends of a stream, joined without a socket. Snapshots are installed when the test says so.
struct Pair {
    client: DeltaClient,
    server: DeltaServer,
    snapshots: Vec<(Generation, Arc<Snapshot>)>,
    /// Every message of the server, as `<kind>+<name>` and `<kind>-<name>`, and `<kind>~<name>` for a heartbeat.
    sent: Vec<String>,
    rejected: Vec<String>,
    now: Instant,
}

impl Pair {
    fn connected(client: DeltaClient) -> Pair {
        let mut pair = Pair {
            client,
            server: DeltaServer::of(POD.to_owned()),
            snapshots: Vec::new(),
            sent: Vec::new(),
            rejected: Vec::new(),
            now: Instant::now(),
        };
        let output = pair.client.connected(&Node::default());
        pair.carry(output);
        pair
    }

    fn carry(&mut self, output: Output) {
        self.snapshots.extend(output.snapshot);
        self.rejected.extend(output.rejected);
        for request in output.requests {
            self.server.on_request(request).unwrap();
        }
    }

    fn demand(&mut self, service: &str) {
        let output = self.client.demand([destinations(service)[0]]);
        self.carry(output);
    }

    /// Exchanges messages until both sides are silent.
    fn run(&mut self, resources: &Resources) {
        while let Some(response) = self.server.next(resources, self.now) {
            self.deliver(response);
        }
    }

    fn deliver(&mut self, response: Response) {
        let kind = Kind::from_type_url(&response.type_url).unwrap();
        self.sent
            .extend(response.resources.iter().map(|each| match &each.resource {
                Some(_) => format!("{kind}+{}", each.name),
                None => format!("{kind}~{}", each.name),
            }));
        let gone = response.removed_resources.iter();
        // Most of these worlds know nothing of the pod.
        let gone = gone.filter(|_| kind != Kind::Listener);
        self.sent.extend(gone.map(|name| format!("{kind}-{name}")));
        let output = self.client.received(response, self.now);
        self.carry(output);
    }

    fn install(&mut self) {
        let output = self.client.installed(self.client.generation);
        self.carry(output);
    }

    fn acknowledged(&self) -> bool {
        use crate::server::Verdict::Accepted;
        self.server.routes().values().all(|state| {
            state
                .sent
                .as_ref()
                .is_some_and(|sent| sent.verdict == Accepted)
        })
    }

    fn shown(&self, service: &str) -> Option<Option<Weight>> {
        let route = self.client.snapshot.routes.get(&destinations(service)[0])?;
        Some(route.as_ref().map(|route| {
            route
                .split
                .canary
                .as_ref()
                .map_or(Weight::ZERO, |canary| canary.weight)
        }))
    }
}

fn percent(percent: u32) -> Option<Option<Weight>> {
    Some(Some(Weight::percent(percent).unwrap()))
}

fn full_world(percent: u32, canary: &[&str]) -> Resources {
    world(
        &[route("web", percent)],
        &[cluster(STABLE, &["10.1.0.1:8080"]), cluster(CANARY, canary)],
    )
}

/// Connected, with `web` demanded, installed and acknowledged.
fn settled(resources: &Resources) -> Pair {
    let mut pair = Pair::connected(DeltaClient::default());
    pair.demand("web");
    pair.run(resources);
    pair.install();
    assert!(pair.acknowledged());
    pair.sent.clear();
    pair.snapshots.clear();
    pair
}

#[test]
fn a_demand_brings_the_route_and_then_its_clusters() {
    let mut pair = Pair::connected(DeltaClient::default());
    pair.demand("web");
    pair.run(&full_world(1, &["10.1.0.2:8080"]));
    assert_eq!(
        pair.sent,
        [
            "route+shop/web/80",
            "cluster+shop/web/80/v1",
            "cluster+shop/web/80/v2",
            "endpoints+shop/web/80/v1",
            "endpoints+shop/web/80/v2"
        ]
    );
    assert_eq!(pair.shown("web"), percent(1));
    assert_eq!(pair.client.snapshot.clusters[CANARY].endpoints.len(), 1);
    assert_eq!(pair.snapshots.len(), 1, "nothing is shown by halves");
}

#[test]
fn that_tls_is_accepted_is_told_to_every_stream_and_nobody_needs_to_answer() {
    let mut pair = settled(&full_world(1, &["10.1.0.2:8080"]));
    assert!(!pair.server.routes().contains_key(INBOUND));
    let output = pair.client.accept_tls();
    pair.carry(output);
    assert!(pair.server.routes().contains_key(INBOUND));
    assert!(
        pair.client.accept_tls().requests.is_empty(),
        "it is told once"
    );
    // As a control plane does that has never heard of it.
    pair.run(&full_world(1, &["10.1.0.2:8080"]));
    assert_eq!(pair.sent, ["route-inbound/self"]);
    assert!(pair.rejected.is_empty() && pair.snapshots.is_empty());
    assert_eq!(pair.shown("web"), percent(1));
    pair.client.disconnected();
    let pair = Pair::connected(pair.client);
    assert!(pair.server.routes().contains_key(INBOUND));
}

#[test]
fn how_it_stands_says_what_was_acknowledged_what_was_not_taken_and_the_versions_that_are_held() {
    let resources = full_world(1, &["10.1.0.2:8080"]);
    let mut pair = Pair::connected(DeltaClient::default());
    pair.demand("web");
    pair.run(&resources);
    let of = |pair: &Pair, wanted: Kind| {
        let kinds = pair.client.standing().kinds;
        let found = kinds.into_iter().find(|(kind, ..)| *kind == wanted);
        let (_, exchanged, awaiting) = found.unwrap();
        let Exchanged {
            received,
            acknowledged,
            rejected,
        } = exchanged;
        [received, acknowledged, rejected, awaiting]
    };
    assert_eq!(of(&pair, Kind::Route), [1, 0, 0, 1]);
    pair.install();
    assert_eq!(of(&pair, Kind::Route), [1, 1, 0, 0]);
    let standing = pair.client.standing();
    assert_eq!(standing.last_rejection, None);
    let names = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&standing.routes), ["shop/web/80"]);
    assert_eq!(names(&standing.endpoints), [STABLE, CANARY]);

    let bad = Response {
        type_url: Kind::Route.type_url().to_owned(),
        resources: vec![Default::default()],
        ..Response::default()
    };
    let output = pair.client.received(bad, pair.now);
    let rejection = pair.client.standing().last_rejection.unwrap();
    assert_eq!(output.rejected.as_ref(), Some(&rejection.reason));
    assert_eq!(rejection.type_url, Kind::Route.type_url());
    assert_eq!(of(&pair, Kind::Route), [2, 1, 1, 0]);
    assert_eq!(pair.client.standing().routes, standing.routes);
}

#[test]
fn an_unknown_destination_passes_through() {
    let mut pair = Pair::connected(DeltaClient::default());
    pair.demand("api");
    assert_eq!(pair.shown("api"), None);
    pair.run(&full_world(1, &[]));
    assert_eq!(pair.shown("api"), Some(None));
}

#[test]
fn a_weight_is_acknowledged_when_it_is_installed_and_not_before() {
    let mut pair = settled(&full_world(1, &["10.1.0.2:8080"]));
    pair.run(&full_world(10, &["10.1.0.2:8080"]));
    assert_eq!(
        (pair.sent.len(), pair.shown("web"), pair.acknowledged()),
        (1, percent(10), false)
    );
    pair.install();
    assert!(pair.acknowledged());
}

#[test]
fn a_new_route_becomes_visible_when_its_clusters_are_known() {
    let mut pair = settled(&full_world(50, &["10.1.0.2:8080"]));
    let mut next = route("web", 1);
    let arm = &mut next.split.canary.as_mut().unwrap().arm;
    (arm.cluster, arm.revision) = ("shop/web/80/v3".to_owned(), "v3".to_owned());
    let third = cluster("shop/web/80/v3", &["10.1.0.3:8080"]);
    let after = world(&[next], &[cluster(STABLE, &["10.1.0.1:8080"]), third]);

    let response = pair.server.next(&after, pair.now).unwrap();
    pair.deliver(response);
    pair.install();
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(50), false),
        "the old route stays"
    );
    assert!(pair.client.snapshot.clusters.contains_key(CANARY));
    pair.run(&after);
    assert_eq!(pair.shown("web"), percent(1));
    assert_eq!(
        pair.client.snapshot.clusters.len(),
        2,
        "the old canary's cluster is dropped with the route"
    );
    assert!(
        !pair.client.clusters.contains_key(CANARY),
        "and unsubscribed"
    );
    assert!(!pair.acknowledged());
    pair.install();
    assert!(pair.acknowledged());
    for (_, snapshot) in &pair.snapshots {
        for route in snapshot.routes.values().flatten() {
            assert!(
                clusters_of(route).all(|name| snapshot.clusters.contains_key(name)),
                "a route without its cluster"
            );
        }
    }
}

#[test]
fn a_superseded_canary_loses_its_weight_before_the_new_one_s_endpoints_are_known() {
    let mut pair = settled(&full_world(50, &["10.1.0.2:8080"]));
    let mut next = route("web", 0);
    next.split.canary.as_mut().unwrap().arm.cluster = "shop/web/80/v3".to_owned();
    let clusters = [
        cluster(STABLE, &["10.1.0.1:8080"]),
        cluster("shop/web/80/v3", &["10.1.0.3:80"]),
    ];
    let after = world(&[next], &clusters);
    let response = pair.server.next(&after, pair.now).unwrap();
    pair.deliver(response);
    assert_eq!(pair.shown("web"), percent(0));
    assert!(
        pair.client.snapshot.clusters["shop/web/80/v3"]
            .endpoints
            .is_empty()
    );
    pair.install();
    assert!(pair.acknowledged(), "nothing else is needed for a rollback");
    pair.run(&after);
    assert_eq!(
        pair.client.snapshot.clusters["shop/web/80/v3"]
            .endpoints
            .len(),
        1
    );
}

#[test]
fn endpoints_that_are_removed_stay_as_long_as_the_visible_route_names_them() {
    let mut pair = settled(&full_world(50, &["10.1.0.2:8080"]));
    // A world that forgot the canary's cluster: the route still names it.
    pair.run(&world(
        &[route("web", 50)],
        &[cluster(STABLE, &["10.1.0.1:8080"])],
    ));
    assert_eq!(
        pair.sent,
        ["endpoints-shop/web/80/v2", "cluster-shop/web/80/v2"]
    );
    assert_eq!(pair.client.snapshot.clusters[CANARY].endpoints.len(), 1);
    assert!(pair.snapshots.is_empty());
}

#[test]
fn a_new_route_does_not_count_on_endpoints_that_were_removed() {
    let mut pair = settled(&full_world(50, &["10.1.0.2:8080"]));
    let stable = || cluster(STABLE, &["10.1.0.1:8080"]);
    pair.run(&world(&[route("web", 50)], &[stable()]));
    pair.run(&world(&[route("web", 90)], &[stable()]));
    pair.install();
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(50), false)
    );
    pair.run(&full_world(90, &["10.1.0.4:8080"]));
    pair.install();
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(90), true)
    );
}

#[test]
fn a_bad_route_is_rejected_with_its_reason_and_the_last_good_one_stays() {
    let mut pair = settled(&full_world(1, &[]));
    let mut response = pair.server.next(&full_world(10, &[]), pair.now).unwrap();
    response.resources[0].resource.as_mut().unwrap().value = crate::route::encode(&{
        let mut bad = route("web", 10);
        bad.split.canary.as_mut().unwrap().arm.cluster = STABLE.to_owned();
        bad
    })
    .encode_to_vec();
    pair.deliver(response);
    pair.install();
    assert_eq!(
        pair.rejected,
        ["route `shop/web/80`: stable and canary are the same cluster `shop/web/80/v1`"]
    );
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(1), false)
    );
    pair.run(&full_world(0, &[]));
    pair.install();
    assert_eq!(
        (pair.shown("web"), pair.acknowledged()),
        (percent(0), true),
        "the next good one is taken"
    );
}

#[test]
fn one_bad_cluster_does_not_reject_its_neighbours() {
    let mut pair = settled(&full_world(1, &[]));
    let after = world(
        &[route("web", 1)],
        &[
            cluster(STABLE, &["10.1.0.7:8080"]),
            cluster(CANARY, &["10.1.0.8:8080"]),
        ],
    );
    let mut response = pair.server.next(&after, pair.now).unwrap();
    response.resources[0].resource.as_mut().unwrap().value = vec![0xff];
    pair.deliver(response);
    assert!(
        pair.rejected[0].starts_with("resource `shop/web/80/v1` cannot be decoded"),
        "{:?}",
        pair.rejected
    );
    let address = |name: &str| {
        pair.client.snapshot.clusters[name].endpoints[0]
            .address
            .to_string()
    };
    assert_eq!(
        (address(STABLE).as_str(), address(CANARY).as_str()),
        ("10.1.0.1:8080", "10.1.0.8:8080")
    );
}

#[test]
fn a_lost_stream_keeps_the_snapshot_and_the_next_one_brings_only_changes() {
    let before = full_world(1, &["10.1.0.2:8080"]);
    let mut pair = settled(&before);
    pair.client.disconnected();
    let output = pair.client.demand([destinations("api")[0]]);
    assert!(output.requests.is_empty(), "there is no stream to ask on");
    assert_eq!(pair.shown("web"), percent(1));

    let mut again = Pair::connected(pair.client);
    again.run(&before);
    assert_eq!(
        again.sent,
        ["route-dst/10.96.0.2:80", "route~shop/web/80"],
        "only the new destination is answered, and the lease renewed"
    );
    assert_eq!(again.shown("web"), percent(1));

    again.client.disconnected();
    let mut third = Pair::connected(again.client);
    third.run(&full_world(10, &["10.1.0.2:8080"]));
    assert_eq!(third.sent, ["route+shop/web/80", "route-dst/10.96.0.2:80"]);
    assert_eq!(third.shown("web"), percent(10));
}

#[test]
fn a_route_that_was_received_but_never_shown_is_not_claimed_after_a_reconnect() {
    let mut pair = settled(&full_world(50, &["10.1.0.2:8080"]));
    let mut next = route("web", 1);
    next.split.canary.as_mut().unwrap().arm.cluster = "shop/web/80/v3".to_owned();
    let after = world(
        &[next],
        &[
            cluster(STABLE, &["10.1.0.1:8080"]),
            cluster("shop/web/80/v3", &[]),
        ],
    );
    let response = pair.server.next(&after, pair.now).unwrap();
    pair.deliver(response);
    pair.client.disconnected();
    let mut again = Pair::connected(pair.client);
    assert_eq!(again.shown("web"), percent(50));
    again.run(&after);
    assert_eq!(
        (again.sent[0].as_str(), again.shown("web")),
        ("route+shop/web/80", percent(1))
    );
}

#[test]
fn a_service_that_is_deleted_passes_through_and_its_clusters_are_dropped() {
    let mut pair = settled(&full_world(1, &[]));
    pair.run(&Resources::default());
    assert_eq!(pair.shown("web"), Some(None));
    assert!(pair.client.clusters.is_empty() && pair.client.snapshot.clusters.is_empty());
    pair.run(&full_world(1, &[]));
    assert_eq!(pair.shown("web"), percent(1));
}

#[test]
fn the_first_request_says_who_we_are_even_when_nothing_is_called() {
    let revocation = Revocation {
        rollout: "shop/web".to_owned(),
        revision: "v2".to_owned(),
        run: 3,
    };
    let node = Node {
        id: "web-1.shop".to_owned(),
        version: "0.1.0".to_owned(),
        revocations: vec![revocation.into()],
    };
    let mut output = DeltaClient::default().connected(&node);
    let kinds: Vec<&str> = output.requests.iter().map(|it| &*it.type_url).collect();
    let expected = [Kind::Route, Kind::Listener].map(Kind::type_url);
    assert_eq!(kinds, expected, "no names would mean all clusters");
    let received = DeltaServer::default()
        .on_request(output.requests.remove(0))
        .unwrap();
    assert_eq!((received.kind, received.node), (Kind::Route, Some(node)));
}

#[test]
fn both_destinations_of_a_service_change_together() {
    let mut pair = settled(&full_world(1, &[]));
    let output = pair.client.demand([destinations("web")[1]]);
    pair.carry(output);
    pair.run(&full_world(1, &[]));
    pair.run(&full_world(10, &[]));
    let weights = pair
        .client
        .snapshot
        .routes
        .values()
        .flatten()
        .map(|route| route.split.canary.as_ref().unwrap().weight);
    assert_eq!(
        weights.collect::<Vec<_>>(),
        vec![Weight::percent(10).unwrap(); 2]
    );
}

#[test]
fn a_pod_that_scans_addresses_is_remembered_by_its_services_and_last_thousand_calls() {
    let mut pair = settled(&full_world(1, &[]));
    let resources = full_world(1, &[]);
    for subnet in 0..20 {
        let addresses = (0..=99).map(|host| SocketAddr::from(([10, 2, subnet, host], 80)));
        let output = pair.client.demand(addresses);
        pair.carry(output);
        pair.run(&resources);
    }
    assert_eq!(pair.shown("web"), percent(1));
    assert_eq!(pair.client.snapshot.routes.len(), MOST_DESTINATIONS);
    assert_eq!(
        pair.server.routes().len(),
        MOST_DESTINATIONS,
        "unsubscribed, too"
    );
    assert_eq!(pair.rejected, [""; 0]);
}

/// To pick for callers that have no sidecar.
#[test]
fn an_application_is_told_the_route_whose_endpoint_it_is_as_long_as_there_is_one() {
    let address: SocketAddr = "10.1.0.1:8080".parse().unwrap();
    let mut world = full_world(10, &["10.1.0.2:8080"]);
    world.set_applications("shop/web/80", &[address]);
    let mut pair = settled(&world);
    let told = |pair: &Pair| {
        let route = pair.client.snapshot.applications.get(&address)?;
        Some(route.as_ref().map(|route| route.name.clone()))
    };
    assert_eq!(told(&pair), None, "nobody asked");
    let output = pair.client.demand([Wanted::Application(address)]);
    pair.carry(output);
    pair.run(&world);
    assert_eq!(told(&pair), Some(Some("shop/web/80".to_owned())));
    let mut raised = full_world(20, &["10.1.0.2:8080"]);
    raised.set_applications("shop/web/80", &[address]);
    pair.run(&raised);
    let weight = |pair: &Pair| {
        let route = pair.client.snapshot.applications[&address].clone();
        route.and_then(|route| Some(route.split.canary.as_ref()?.weight))
    };
    assert_eq!(weight(&pair), Some(Weight::percent(20).unwrap()));
    // It is the endpoint of nothing that is split any more, and what it calls goes on.
    raised.set_applications("shop/web/80", &[]);
    pair.run(&raised);
    assert_eq!(told(&pair), Some(None));
    assert_eq!(pair.shown("web"), percent(20));
}
