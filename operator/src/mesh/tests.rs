use std::collections::BTreeSet;
use std::time::Duration;

use rollout_core::plan::Percent;
use serde_json::{Value, json};
use traffic_core::bounds::Bounds;
use traffic_core::config::{Cluster, Expected, Health, Protocol, Weight};
use traffic_core::fuse::Tolerance;
use traffic_core::split::sticky::Key as StickyKey;

use super::*;

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the fixture is a valid object")
}

fn service(name: &str, selector: Value, spec: Value) -> Arc<Service> {
    let mut all = json!({
        "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
        "selector": selector,
    });
    merge(&mut all, spec);
    Arc::new(object(
        json!({"metadata": {"namespace": "shop", "name": name}, "spec": all}),
    ))
}

/// The Service `web` with this annotation.
fn annotated(name: &str, value: &str) -> Arc<Service> {
    let mut service = Service::clone(&web());
    let annotations = [(name.to_owned(), value.to_owned())];
    service.metadata.annotations = Some(annotations.into());
    Arc::new(service)
}

fn merge(into: &mut Value, from: Value) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else {
        panic!("two objects")
    };
    into.extend(from);
}

fn web() -> Arc<Service> {
    service("web", json!({"app": "web"}), json!({}))
}

fn slice(service: &str, family: &str, endpoints: &[Value]) -> Arc<EndpointSlice> {
    Arc::new(object(json!({
        "metadata": {"namespace": "shop", "name": format!("{service}-x"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}],
        "endpoints": endpoints,
    })))
}

fn endpoint(address: &str, pod: &str, conditions: Value) -> Value {
    json!({
        "addresses": [address], "conditions": conditions,
        "targetRef": {"kind": "Pod", "namespace": "shop", "name": pod},
    })
}

fn ready(address: &str, pod: &str) -> Value {
    endpoint(
        address,
        pod,
        json!({"ready": true, "serving": true, "terminating": false}),
    )
}

fn revisions(pods: &[(&str, &str)]) -> BTreeMap<Key, String> {
    let pod = |(pod, revision): &(&str, &str)| (Key::new("shop", *pod), (*revision).to_owned());
    pods.iter().map(pod).collect()
}

fn target(name: &str, canary: Option<i64>) -> TargetSplit {
    TargetSplit {
        rollout: format!("shop/{name}"),
        namespace: "shop".to_owned(),
        deployment: name.to_owned(),
        pod_labels: [
            ("app".to_owned(), name.to_owned()),
            ("tier".to_owned(), "front".to_owned()),
        ]
        .into(),
        stable: "v1".to_owned(),
        canary: canary.map(|percent| CanarySplit {
            revision: "v2".to_owned(),
            weight: Percent::new(percent).unwrap(),
            run: 3,
            lease: rollout_core::Lease::Held,
        }),
        fuse: Tolerance::new(5_000),
        sticky: StickyKey::cookie("uid").ok(),
        revoked: Vec::new(),
    }
}

/// What is known of pods in a test.
#[derive(Default)]
struct Known {
    revisions: BTreeMap<Key, String>,
    copies: BTreeSet<Key>,
    /// By pod: the name of its ServiceAccount.
    accounts: BTreeMap<Key, String>,
}

impl Pods for Known {
    fn revision(&self, pod: &Key) -> Option<String> {
        self.revisions.get(pod).cloned()
    }

    fn is_of_copy(&self, pod: &Key) -> bool {
        self.copies.contains(pod)
    }

    fn identity(&self, pod: &Key, address: SocketAddr) -> Option<Expected> {
        let account = self.accounts.get(pod)?;
        Some(Expected {
            id: account.as_str().into(),
            accepts: address.port() == 8080,
            demands: false,
        })
    }
}

/// All parts together.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    world: World,
    /// Sorted, without duplicates.
    findings: Vec<Finding>,
}

fn view(
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    pods: &Known,
    targets: &[TargetSplit],
) -> View {
    let key = |service: &Service| {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        Key::new(
            part(&service.metadata.namespace),
            part(&service.metadata.name),
        )
    };
    let mut addresses = Addresses::default();
    for service in services {
        addresses.set(&key(service), addresses_of(service));
    }
    let (mut view, mut change) = (View::default(), WorldChange::default());
    for service in services {
        let key = key(service);
        let of_it = |slice: &&Arc<EndpointSlice>| service_of(slice).as_ref() == Some(&key);
        let slices: Vec<_> = slices.iter().filter(of_it).cloned().collect();
        let selected = targets.iter().filter(|target| selects(service, target));
        let selected: Vec<TargetSplit> = selected.cloned().collect();
        let objects = Objects {
            service,
            slices: &slices,
            pods,
            owns: &|address| addresses.owns(&key, address),
        };
        let part = part(objects, &selected);
        let routes = part.routes.into_iter();
        change
            .routes
            .extend(routes.map(|entry| (entry.route.name.clone(), Some(entry))));
        let clusters = part.clusters.into_iter();
        change
            .clusters
            .extend(clusters.map(|cluster| (cluster.name.clone(), Some(cluster))));
        view.findings.extend(part.findings);
    }
    view.world.apply(change);
    view.findings.sort();
    view.findings.dedup();
    view
}

/// The view of one Service `web` with these endpoints, at 10 %.
fn view_of(endpoints: &[Value]) -> View {
    let known = Known {
        revisions: revisions(&[
            ("web-a", "v1"),
            ("web-b", "v1"),
            ("web-c", "v2"),
            ("web-old", "v0"),
        ]),
        ..Known::default()
    };
    let slices = [slice("web", "IPv4", endpoints)];
    view(&[web()], &slices, &known, &[target("web", Some(10))])
}

fn view_of_services(services: &[Arc<Service>], targets: &[TargetSplit]) -> View {
    view(services, &[], &Known::default(), targets)
}

fn listed(cluster: &Cluster) -> Vec<String> {
    let health = |health| {
        if health == Health::Healthy {
            ""
        } else {
            " draining"
        }
    };
    cluster
        .endpoints
        .iter()
        .map(|each| format!("{}{}", each.address, health(each.health)))
        .collect()
}

fn canary_weight(view: &View) -> Weight {
    view.world.routes["shop/web/80"]
        .route
        .split
        .canary
        .as_ref()
        .unwrap()
        .weight
}

#[test]
fn an_endpoint_is_told_with_who_answers_there() {
    let known = Known {
        revisions: revisions(&[("web-a", "v1"), ("web-c", "v2")]),
        accounts: [(Key::new("shop", "web-a"), "web".to_owned())].into(),
        ..Known::default()
    };
    let endpoints = [ready("10.1.0.1", "web-a"), ready("10.1.0.3", "web-c")];
    let slices = [slice("web", "IPv4", &endpoints)];
    let view = view(&[web()], &slices, &known, &[target("web", Some(10))]);
    let identity = |revision: &str| {
        let cluster = &view.world.clusters[&format!("shop/web/80/{revision}")];
        cluster.endpoints[0].identity.clone()
    };
    let expected = Expected {
        id: "web".into(),
        accepts: true,
        demands: false,
    };
    assert_eq!(identity("v1"), Some(expected));
    assert_eq!(identity("v2"), None);
}

#[test]
fn a_service_becomes_a_route_at_every_cluster_ip_and_a_cluster_per_revision() {
    let View { world, findings } = view_of(&[
        ready("10.1.0.2", "web-b"),
        ready("10.1.0.1", "web-a"),
        ready("10.1.0.3", "web-c"),
    ]);
    let entry = &world.routes["shop/web/80"];
    let addresses: Vec<String> = entry.destinations.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.96.0.1:80", "[fd00::1]:80"]);
    assert_eq!(
        (entry.route.protocol, entry.route.rollout.as_str()),
        (Protocol::Http, "shop/web")
    );
    assert_eq!(entry.route.split.stable.cluster, "shop/web/80/v1");
    let canary = entry.route.split.canary.as_ref().unwrap();
    assert_eq!(
        (canary.weight, canary.run),
        (Weight::percent(10).unwrap(), 3)
    );
    assert_eq!(
        listed(&world.clusters["shop/web/80/v1"]),
        ["10.1.0.1:8080", "10.1.0.2:8080"]
    );
    assert_eq!(listed(&world.clusters["shop/web/80/v2"]), ["10.1.0.3:8080"]);
    assert!(findings.is_empty());
}

#[test]
fn a_canary_without_a_healthy_endpoint_gets_no_requests() {
    let draining = endpoint(
        "10.1.0.3",
        "web-c",
        json!({"ready": false, "serving": true, "terminating": true}),
    );
    for endpoints in [vec![], vec![draining]] {
        let view = view_of(&endpoints);
        assert_eq!(canary_weight(&view), Weight::ZERO);
        assert!(
            view.world.clusters.contains_key("shop/web/80/v2"),
            "the cluster that the route names is there"
        );
    }
    assert_eq!(
        canary_weight(&view_of(&[ready("10.1.0.3", "web-c")])),
        Weight::percent(10).unwrap()
    );
}

#[test]
fn conditions_decide_about_health() {
    for (conditions, expected) in [
        (json!({}), Some("10.1.0.1:8080")),
        (json!({"ready": true}), Some("10.1.0.1:8080")),
        (
            json!({"ready": false, "serving": true, "terminating": true}),
            Some("10.1.0.1:8080 draining"),
        ),
        (
            json!({"ready": false, "serving": false, "terminating": true}),
            None,
        ),
        (
            json!({"ready": false, "serving": false, "terminating": false}),
            None,
        ),
        (json!({"ready": false}), None),
    ] {
        let view = view_of(&[endpoint("10.1.0.1", "web-a", conditions.clone())]);
        let found = listed(&view.world.clusters["shop/web/80/v1"]);
        assert_eq!(
            found.iter().map(String::as_str).collect::<Vec<_>>(),
            Vec::from_iter(expected),
            "{conditions}"
        );
    }
}

/// A second Deployment behind the same Service, or an endpoint that is no pod, loses nothing when the first is adopted.
#[test]
fn strangers_serve_in_the_stable_arm_and_are_reported() {
    let nobody = json!({"addresses": ["10.1.0.7"]});
    let View { world, findings } = view_of(&[
        ready("10.1.0.9", "web-old"),
        ready("10.1.0.1", "web-a"),
        ready("10.1.0.3", "web-c"),
        ready("10.1.0.8", "stranger"),
        endpoint("10.1.0.6", "starting", json!({"ready": false})),
        nobody,
    ]);
    let stable = listed(&world.clusters["shop/web/80/v1"]);
    assert_eq!(stable, ["10.1.0.1:8080", "10.1.0.7:8080", "10.1.0.8:8080"]);
    assert_eq!(listed(&world.clusters["shop/web/80/v2"]), ["10.1.0.3:8080"]);
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].starts_with("10.1.0.7:8080, a ready endpoint"),
        "{texts:?}"
    );
    assert!(
        texts[1].starts_with("pod shop/stranger, a ready endpoint"),
        "{texts:?}"
    );
}

#[test]
fn the_stable_arm_is_never_empty_while_another_has_endpoints() {
    let (stray, canary) = (ready("10.1.0.9", "web-old"), ready("10.1.0.3", "web-c"));
    let stable = |endpoints: &[Value]| {
        let view = view_of(endpoints);
        let said = view
            .findings
            .iter()
            .any(|f| matches!(f, Finding::StableEmpty { .. }));
        (listed(&view.world.clusters["shop/web/80/v1"]), said)
    };
    let of = |address: &str| vec![format!("{address}:8080")];
    assert_eq!(
        stable(&[stray.clone(), canary.clone()]),
        (of("10.1.0.9"), true),
        "not the canary, as long as there is another"
    );
    assert_eq!(
        stable(std::slice::from_ref(&canary)),
        (of("10.1.0.3"), true)
    );
    assert_eq!(
        stable(&[ready("10.1.0.1", "web-a"), stray, canary]),
        (of("10.1.0.1"), false)
    );
    assert_eq!(stable(&[]), (Vec::new(), false));
}

/// EndpointSlices and pods are watched apart: an endpoint may be known before its pod.
#[test]
fn a_pod_of_a_copy_gets_nothing_outside_its_arm_even_before_it_is_known() {
    let view = view_of(&[
        ready("10.1.0.1", "web-a"),
        ready("10.1.0.4", "web-canary-v2-5d-x"),
    ]);
    assert_eq!(
        listed(&view.world.clusters["shop/web/80/v1"]),
        ["10.1.0.1:8080"]
    );
    assert!(view.findings.is_empty(), "{:?}", view.findings);
}

#[test]
fn every_tcp_port_has_a_route_and_named_ports_are_resolved() {
    let ports = json!({"ports": [
        {"name": "http", "port": 80}, {"name": "admin", "port": 81, "appProtocol": "grpc", "protocol": "TCP"},
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "absent", "port": 82},
    ]});
    let services = [service("web", json!({"app": "web"}), ports)];
    let slices = [slice("web", "IPv4", &[ready("10.1.0.1", "web-a")])];
    let revisions = revisions(&[("web-a", "v1")]);
    let View { world, .. } = view(
        &services,
        &slices,
        &Known {
            revisions: revisions.clone(),
            ..Known::default()
        },
        &[target("web", None)],
    );
    assert_eq!(
        world.routes.keys().collect::<Vec<_>>(),
        ["shop/web/80", "shop/web/81", "shop/web/82"]
    );
    assert_eq!(world.routes["shop/web/81"].route.protocol, Protocol::Http);
    assert_eq!(listed(&world.clusters["shop/web/81/v1"]), ["10.1.0.1:9090"]);
    assert!(world.clusters["shop/web/82/v1"].endpoints.is_empty());
    assert_eq!(world.clusters.len(), 3, "no canary, no cluster for it");
}

#[test]
fn a_pod_of_a_dual_stack_service_counts_once_by_the_first_family() {
    let slices = [
        slice("web", "IPv6", &[ready("fd01::1", "web-a")]),
        slice("web", "IPv4", &[ready("10.1.0.1", "web-a")]),
        slice("web", "FQDN", &[ready("web.example", "web-a")]),
        slice("other", "IPv4", &[ready("10.1.0.2", "web-a")]),
    ];
    let revisions = revisions(&[("web-a", "v1")]);
    let first = |families: Value| {
        let services = [service(
            "web",
            json!({"app": "web"}),
            json!({"ipFamilies": families}),
        )];
        listed(
            &view(
                &services,
                &slices,
                &Known {
                    revisions: revisions.clone(),
                    ..Known::default()
                },
                &[target("web", None)],
            )
            .world
            .clusters["shop/web/80/v1"],
        )
    };
    assert_eq!(first(json!(["IPv4", "IPv6"])), ["10.1.0.1:8080"]);
    assert_eq!(first(json!(["IPv6"])), ["[fd01::1]:8080"]);
}

#[test]
fn an_address_in_two_slices_is_one_endpoint() {
    let view = view_of(&[
        endpoint(
            "10.1.0.1",
            "web-a",
            json!({"ready": false, "serving": true, "terminating": true}),
        ),
        ready("10.1.0.1", "web-a"),
    ]);
    assert_eq!(
        listed(&view.world.clusters["shop/web/80/v1"]),
        ["10.1.0.1:8080"]
    );
}

#[test]
fn services_without_an_address_or_with_session_affinity_have_no_route() {
    let app = || json!({"app": "web"});
    let services = [
        service(
            "headless",
            app(),
            json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        ),
        service(
            "external",
            app(),
            json!({"type": "ExternalName", "clusterIP": null, "clusterIPs": null}),
        ),
        service("bound", app(), json!({"sessionAffinity": "ClientIP"})),
    ];
    assert_eq!(
        view_of_services(&services, &[target("web", None)]),
        View::default()
    );
}

#[test]
fn services_of_no_rollout_have_one_arm_with_all_their_endpoints() {
    let elsewhere = {
        let mut service = (*web()).clone();
        service.metadata.namespace = Some("other".to_owned());
        Arc::new(service)
    };
    let at = |ip: &str| json!({"clusterIP": ip, "clusterIPs": [ip]});
    let services = [
        service("no-selector", json!(null), at("10.96.1.1")),
        service("empty-selector", json!({}), at("10.96.1.2")),
        service("other-app", json!({"app": "api"}), at("10.96.1.3")),
        service(
            "too-narrow",
            json!({"app": "web", "zone": "a"}),
            at("10.96.1.4"),
        ),
        elsewhere,
    ];
    let slices = [slice(
        "other-app",
        "IPv4",
        &[ready("10.1.0.1", "nobody-knows")],
    )];
    let view = view(
        &services,
        &slices,
        &Known {
            revisions: BTreeMap::new(),
            ..Known::default()
        },
        &[target("web", None)],
    );
    assert_eq!(view.findings, []);
    assert_eq!(view.world.routes.len(), 5);
    for entry in view.world.routes.values() {
        assert_eq!(
            (entry.route.rollout.as_str(), &entry.route.split.canary),
            ("", &None)
        );
    }
    assert_eq!(
        listed(&view.world.clusters["shop/other-app/80/-"]),
        ["10.1.0.1:8080"]
    );
}

#[test]
fn a_service_over_two_rollouts_is_not_split_and_reported() {
    let shared = service("front", json!({"tier": "front"}), json!({}));
    let view = view_of_services(&[shared], &[target("web", None), target("api", None)]);
    assert_eq!(view.world.routes["shop/front/80"].route.rollout, "");
    let rollouts = vec!["shop/api".to_owned(), "shop/web".to_owned()];
    assert_eq!(
        view.findings,
        [Finding::SharedService {
            service: "shop/front".to_owned(),
            rollouts
        }]
    );
}

#[test]
fn an_address_belongs_to_one_route() {
    let view = view_of_services(
        &[service("web-2", json!({"app": "web"}), json!({})), web()],
        &[target("web", None)],
    );
    assert_eq!(view.world.routes["shop/web/80"].destinations.len(), 2);
    assert!(view.world.routes["shop/web-2/80"].destinations.is_empty());
    assert_eq!(view.findings.len(), 2);
}

#[test]
fn the_order_of_the_objects_does_not_matter() {
    let revisions = revisions(&[("web-a", "v1"), ("web-c", "v2")]);
    let services = [
        web(),
        service(
            "web-2",
            json!({"app": "web"}),
            json!({"clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2"]}),
        ),
    ];
    let slices = [
        slice("web", "IPv4", &[ready("10.1.0.3", "web-c")]),
        slice("web", "IPv4", &[ready("10.1.0.1", "web-a")]),
    ];
    let targets = [target("web", Some(1)), target("api", None)];
    let forward = view(
        &services,
        &slices,
        &Known {
            revisions: revisions.clone(),
            ..Known::default()
        },
        &targets,
    );
    let (mut services, mut slices, mut targets) = (services, slices, targets);
    services.reverse();
    slices.reverse();
    targets.reverse();
    assert_eq!(
        view(
            &services,
            &slices,
            &Known {
                revisions: revisions.clone(),
                ..Known::default()
            },
            &targets
        ),
        forward
    );
}

#[test]
fn while_the_original_takes_over_the_promoted_revision_there_is_one_arm() {
    let mut promoted = target("web", Some(100));
    promoted.stable = "v2".to_owned();
    let view = view_of_services(&[web()], &[promoted]);
    assert_eq!(view.world.routes["shop/web/80"].route.split.canary, None);
    assert_eq!(view.world.clusters.len(), 1);
}

#[test]
fn what_a_service_allows_is_in_its_routes_whether_it_is_released_or_not() {
    for targets in [&[][..], &[target("web", Some(10))]] {
        let view = |annotation, value| {
            let services = [annotated(annotation, value)];
            view(&services, &[], &Known::default(), targets)
        };
        let said = view("aviary.dev/request-timeout", "15s");
        let bounds = &said.world.routes["shop/web/80"].route.bounds;
        assert_eq!(bounds.request, Some(Duration::from_secs(15)));
        assert_eq!(said.findings, []);
        let wrong = view("aviary.dev/max-requests", "few");
        let bounds = &wrong.world.routes["shop/web/80"].route.bounds;
        assert_eq!(*bounds, Bounds::default());
        let texts: Vec<String> = wrong.findings.iter().map(ToString::to_string).collect();
        let says = "annotation aviary.dev/max-requests of Service shop/web is ignored: 'few' is no number from 1 to 4294967295: leave it out for no limit";
        assert_eq!(texts, [says]);
    }
}

#[test]
fn nothing_is_put_into_requests_on_purpose_while_a_release_is_under_way() {
    let faulty = |targets: &[TargetSplit]| {
        let services = [annotated("aviary.dev/fault-abort", "5% 503")];
        view(&services, &[], &Known::default(), targets)
    };
    let has_faults = |view: &View| {
        view.world.routes["shop/web/80"]
            .route
            .bounds
            .faults
            .is_some()
    };
    // Nobody releases it, or nothing is being released.
    for targets in [&[][..], &[target("web", None)]] {
        let view = faulty(targets);
        assert!(has_faults(&view));
        assert_eq!(view.findings, []);
    }
    // At weight 0 too, and while the original takes over: nobody is to be judged by them, and nobody has been told yet.
    let mut promoted = target("web", Some(100));
    promoted.stable = "v2".to_owned();
    for target in [target("web", Some(0)), target("web", Some(10)), promoted] {
        let view = faulty(&[target]);
        assert!(!has_faults(&view));
        let texts: Vec<String> = view.findings.iter().map(ToString::to_string).collect();
        let says = "the faults that Service shop/web asks for are off while CanaryRollout shop/web has a release under way: nobody is judged by them";
        assert_eq!(texts, [says]);
    }
}

#[test]
fn pods_are_told_what_to_split_for_callers_without_a_sidecar_while_a_release_is_under_way() {
    let pods = Known {
        revisions: revisions(&[("web-1", "v1"), ("web-canary-x", "v2")]),
        ..Known::default()
    };
    let mut elsewhere = ready("10.1.0.9", "gone");
    elsewhere.as_object_mut().unwrap().remove("targetRef");
    let unready = json!({"ready": false, "serving": false, "terminating": false});
    let slices = [slice(
        "web",
        "IPv4",
        &[
            ready("10.1.0.2", "web-canary-x"),
            ready("10.1.0.1", "web-1"),
            // kube-proxy sends nothing there.
            endpoint("10.1.0.3", "other", unready),
            elsewhere,
        ],
    )];
    let applications = |canary| {
        let view = view(&[web()], &slices, &pods, &[target("web", canary)]);
        let entry = &view.world.routes["shop/web/80"];
        let texts = entry.applications.iter().map(ToString::to_string);
        texts.collect::<Vec<_>>()
    };
    let all = ["10.1.0.1:8080", "10.1.0.2:8080"];
    for weight in [0, 10, 100] {
        assert_eq!(applications(Some(weight)), all, "{weight}");
    }
    assert!(applications(None).is_empty());
}
