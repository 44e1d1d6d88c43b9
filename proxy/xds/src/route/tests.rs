use proptest::prelude::*;
use prost::Message;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use traffic_core::bounds::Bounds;
use traffic_core::config::{Revocation, Signature, SignedRevocation};
use traffic_core::fault::{Abort, Delay, Faults, Only};
use traffic_core::lease::Lease;
use traffic_core::retry::budget::Terms;
use traffic_core::retry::conditions::{Code, Condition};
use traffic_core::retry::methods::Method;
use traffic_core::retry::policy::{Retries, Times};

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, Header, PolicySpecifier,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::RandomValueSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{self, BoolValue};
use traffic_core::split::sticky::{InvalidKey, Key};

use super::*;

fn route(canary: Option<(u32, u64)>) -> Route {
    Route {
        name: "shop/web/80".to_owned(),
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: 80,
        protocol: Protocol::Http,
        rollout: "shop/web".to_owned(),
        split: Split {
            stable: Arm {
                cluster: "shop/web/80/v1".to_owned(),
                revision: "v1".to_owned(),
            },
            canary: canary.map(|(units, run)| CanaryArm {
                arm: Arm {
                    cluster: "shop/web/80/v2".to_owned(),
                    revision: "v2".to_owned(),
                },
                weight: Weight::new(units).unwrap(),
                run,
                lease: Lease::for_weight(Weight::new(units).unwrap()),
                fuse: Tolerance::new(5_000),
                sticky: Some(Key::header("x-user-id").unwrap()),
            }),
        },
        bounds: Bounds::default(),
        revoked: Vec::new(),
    }
}

/// What `decode` says about a good route after `spoil`.
fn problem(spoil: impl FnOnce(&mut wire::RouteConfiguration)) -> RouteProblem {
    let mut config = encode(&route(Some((1_000, 7))));
    spoil(&mut config);
    decode(&config, None)
        .expect_err("the route was spoiled")
        .problem
}

fn clusters(config: &mut wire::RouteConfiguration) -> &mut Vec<ClusterWeight> {
    match act(config).cluster_specifier.as_mut() {
        Some(ClusterSpecifier::WeightedClusters(weighted)) => &mut weighted.clusters,
        other => panic!("not weighted: {other:?}"),
    }
}

fn act(config: &mut wire::RouteConfiguration) -> &mut wire::RouteAction {
    match config.virtual_hosts[0].routes[0].action.as_mut() {
        Some(Action::Route(action)) => action,
        other => panic!("not a route: {other:?}"),
    }
}

fn random(action: &mut wire::RouteAction) -> &mut Option<RandomValueSpecifier> {
    match action.cluster_specifier.as_mut() {
        Some(ClusterSpecifier::WeightedClusters(weighted)) => &mut weighted.random_value_specifier,
        other => panic!("not weighted: {other:?}"),
    }
}

fn about(config: &mut wire::RouteConfiguration) -> &mut Struct {
    config
        .metadata
        .as_mut()
        .unwrap()
        .filter_metadata
        .get_mut(KEY)
        .unwrap()
}

#[test]
fn every_percentage_survives_the_wire() {
    for percent in 0..=100 {
        let route = route(Some((percent * 1_000, 7)));
        assert_eq!(decode(&encode(&route), ttl(&route)), Ok(route));
    }
}

#[test]
fn weights_sum_to_the_whole_and_a_canary_at_zero_stays_listed() {
    for (canary, expected) in [
        (None, vec![100_000]),
        (Some((0, 1)), vec![100_000, 0]),
        (Some((100_000, 1)), vec![0, 100_000]),
    ] {
        let mut config = encode(&route(canary));
        let units: Vec<u32> = clusters(&mut config)
            .iter()
            .map(|each| each.weight.unwrap().value)
            .collect();
        assert_eq!(units, expected);
    }
}

#[test]
fn a_route_that_is_not_ours_is_refused_with_the_reason() {
    assert_eq!(
        problem(|config| config.virtual_hosts.clear()),
        RouteProblem::VirtualHosts(0)
    );
    let one = vec!["web".to_owned()];
    assert_eq!(
        problem(|config| config.virtual_hosts[0].domains = one.clone()),
        RouteProblem::Domains(one.clone())
    );
    assert_eq!(
        problem(|config| config.virtual_hosts[0].routes.clear()),
        RouteProblem::Routes(0)
    );
    assert_eq!(
        problem(|config| config.virtual_hosts[0].routes[0].r#match = None),
        RouteProblem::NotEveryPath
    );
    assert_eq!(
        problem(|config| config.virtual_hosts[0].routes[0].action = None),
        RouteProblem::NotWeightedClusters
    );
    assert_eq!(
        problem(|config| config.metadata = None),
        RouteProblem::NoMetadata
    );
    assert_eq!(
        problem(|config| config.name = "shop/web/81".to_owned()),
        RouteProblem::Name("shop/web/80".to_owned())
    );
    assert_eq!(
        problem(|config| clusters(config)[1].weight.as_mut().unwrap().value += 1),
        RouteProblem::Sum(100_001)
    );
    let other = problem(|config| clusters(config)[1].name = "other".to_owned());
    assert_eq!(other, RouteProblem::UnknownCluster("other".to_owned()));
    let dropped = problem(|config| drop(clusters(config).pop()));
    assert_eq!(dropped, RouteProblem::NoWeight("shop/web/80/v2".to_owned()));
    let twice = problem(|config| {
        let copy = clusters(config)[0].clone();
        clusters(config).push(copy);
    });
    assert_eq!(
        twice,
        RouteProblem::ListedTwice("shop/web/80/v1".to_owned())
    );
    for (said, expected) in [
        ("500001", RouteProblem::Fuse(500_001)),
        (
            "much",
            RouteProblem::Field(FieldProblem::NotA {
                field: FUSE,
                expected: "a whole number as text",
            }),
        ),
    ] {
        let fuse = problem(|config| {
            let canary = about(config).fields.get_mut("canary").unwrap();
            let Some(Kind::StructValue(canary)) = &mut canary.kind else {
                panic!("not a struct: {canary:?}");
            };
            canary.fields.insert(FUSE.to_owned(), metadata::text(said));
        });
        assert_eq!(fuse, expected);
    }
    let no_rollout = problem(|config| drop(about(config).fields.remove("rollout")));
    assert_eq!(
        no_rollout,
        RouteProblem::Field(FieldProblem::Missing("rollout"))
    );
    let port = problem(|config| {
        drop(
            about(config)
                .fields
                .insert("port".to_owned(), metadata::text("65536")),
        )
    });
    assert_eq!(port, RouteProblem::Port(65_536));
}

#[test]
fn users_are_told_apart_in_envoys_own_form() {
    let mut config = encode(&route(Some((1_000, 7))));
    let names: Vec<_> = clusters(&mut config)
        .iter()
        .map(|each| each.name.clone())
        .collect();
    assert_eq!(
        names,
        ["shop/web/80/v1", "shop/web/80/v2"],
        "what is raised comes last"
    );
    let action = act(&mut config);
    assert_eq!(
        random(action),
        &Some(RandomValueSpecifier::UseHashPolicy(BoolValue {
            value: true
        }))
    );
    let Some(PolicySpecifier::Header(header)) = &action.hash_policy[0].policy_specifier else {
        panic!("no header: {action:?}");
    };
    assert_eq!(
        (header.header_name.as_str(), action.hash_policy.len()),
        ("x-user-id", 1)
    );
    let alone = encode(&route(None));
    assert_eq!(act(&mut alone.clone()).hash_policy, []);
}

#[test]
fn a_hash_policy_that_is_not_ours_is_refused() {
    fn spoiled(spoil: impl FnOnce(&mut wire::RouteAction)) -> RouteProblem {
        problem(|config| spoil(act(config)))
    }
    let policy = |of| HashPolicy {
        policy_specifier: Some(of),
        ..HashPolicy::default()
    };
    let sticky = |problem| RouteProblem::Sticky(problem);
    let unused = spoiled(|action| *random(action) = None);
    assert_eq!(unused, sticky(StickyProblem::Unused));
    let missing = spoiled(|action| action.hash_policy.clear());
    assert_eq!(missing, sticky(StickyProblem::Missing));
    let two = spoiled(|action| action.hash_policy.push(HashPolicy::default()));
    assert_eq!(two, sticky(StickyProblem::Policies(2)));
    let by_header =
        spoiled(|action| *random(action) = Some(RandomValueSpecifier::HeaderName("x".to_owned())));
    assert_eq!(
        by_header,
        sticky(StickyProblem::RandomValue("x".to_owned()))
    );
    let makes_cookies = Cookie {
        name: "uid".to_owned(),
        ttl: Some(protobuf::Duration::default()),
        ..Cookie::default()
    };
    for strange in [
        PolicySpecifier::Cookie(makes_cookies),
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
    ] {
        let strange = spoiled(|action| action.hash_policy = vec![policy(strange)]);
        assert_eq!(strange, sticky(StickyProblem::NotPlain));
    }
    let named = |name: &str| {
        PolicySpecifier::Header(Header {
            header_name: name.to_owned(),
            ..Header::default()
        })
    };
    let all = spoiled(|action| action.hash_policy = vec![policy(named("cookie"))]);
    assert_eq!(all, sticky(InvalidKey::Nobodys("cookie".to_owned()).into()));
    let mut alone = encode(&route(None));
    let of = act(&mut alone);
    of.hash_policy = vec![policy(named("x-user-id"))];
    *random(of) = Some(RandomValueSpecifier::UseHashPolicy(BoolValue {
        value: true,
    }));
    assert_eq!(
        decode(&alone, None).unwrap_err().problem,
        RouteProblem::StickyAlone
    );
}

#[test]
fn what_is_not_bounded_is_so_for_envoy_too_and_grpc_says_its_own_time() {
    let mut config = encode(&route(None));
    let zero = Some(protobuf::Duration::default());
    let action = act(&mut config);
    assert_eq!((action.timeout, action.idle_timeout), (zero, zero));
    let most = action.max_stream_duration.unwrap();
    assert_eq!(
        (most.grpc_timeout_header_max, most.max_stream_duration),
        (zero, None)
    );
    *action = wire::RouteAction {
        timeout: None,
        idle_timeout: None,
        max_stream_duration: None,
        ..action.clone()
    };
    let silent = decode(&config, None).unwrap();
    assert_eq!(silent.bounds, Bounds::default());
}

#[test]
fn times_and_limits_that_cannot_be_are_refused() {
    let time = |seconds, nanos| Some(protobuf::Duration { seconds, nanos });
    for wrong in [time(-1, 0), time(0, -1), time(86_401, 0), time(i64::MAX, 0)] {
        let timeout = problem(|config| act(config).timeout = wrong);
        assert_eq!(
            timeout,
            RouteProblem::Bounds(BoundsProblem::Time("timeout"))
        );
        let idle = problem(|config| act(config).idle_timeout = wrong);
        assert_eq!(
            idle,
            RouteProblem::Bounds(BoundsProblem::Time("idle timeout"))
        );
    }
    for none in [0, u64::from(u32::MAX) + 1] {
        let requests = problem(|config| {
            let text = metadata::text(none.to_string());
            about(config).fields.insert("requests".to_owned(), text);
        });
        assert_eq!(
            requests,
            RouteProblem::Bounds(BoundsProblem::Requests(none))
        );
    }
}

fn faulty() -> Route {
    let share = Weight::new(500).unwrap();
    let faults = Faults::new(
        Delay::new(share, Duration::from_millis(1_500)),
        Abort::new(Weight::ALL, 503),
        Some(Only::header("x-test", "slow").unwrap()),
    );
    let bounds = Bounds {
        faults: faults.map(Arc::new),
        ..Bounds::default()
    };
    Route {
        bounds,
        ..route(None)
    }
}

#[test]
fn faults_are_what_envoys_filter_reads_and_what_it_would_do_otherwise_is_refused() {
    let wire_of = |config: &mut wire::RouteConfiguration| {
        let filters = &config.virtual_hosts[0].routes[0].typed_per_filter_config;
        HttpFault::decode(filters["envoy.filters.http.fault"].value.as_slice()).unwrap()
    };
    let fault = wire_of(&mut encode(&faulty()));
    let share = fault.delay.unwrap().percentage.unwrap();
    assert_eq!(
        (share.numerator, share.denominator),
        (5_000, 2),
        "0.5 % of a million"
    );
    assert_eq!(decode(&encode(&faulty()), None), Ok(faulty()));
    let none = encode(&route(None));
    assert!(
        none.virtual_hosts[0].routes[0]
            .typed_per_filter_config
            .is_empty()
    );
    type Spoil = fn(&mut HttpFault);
    let spoils: [(Spoil, &str); 7] = [
        (
            |fault| fault.delay.as_mut().unwrap().percentage = None,
            "a delay of no request",
        ),
        (
            |fault| fault.delay.as_mut().unwrap().fault_delay_secifier = None,
            "a delay of no request",
        ),
        (
            |fault| fault.abort.as_mut().unwrap().error_type = Some(ErrorType::HttpStatus(200)),
            "with a status that is no error",
        ),
        (
            |fault| fault.abort.as_mut().unwrap().error_type = Some(ErrorType::GrpcStatus(14)),
            "with a status that is no error",
        ),
        (
            |fault| fault.headers[0].invert_match = true,
            "a field that this proxy does not know",
        ),
        (
            |fault| fault.upstream_cluster = "other".to_owned(),
            "a field that this proxy does not know",
        ),
        (|fault| *fault = HttpFault::default(), "nothing is put in"),
    ];
    for (spoil, says) in spoils {
        let mut config = encode(&faulty());
        let mut fault = wire_of(&mut config);
        spoil(&mut fault);
        let filters = &mut config.virtual_hosts[0].routes[0].typed_per_filter_config;
        let filter = filters.get_mut("envoy.filters.http.fault").unwrap();
        filter.value = fault.encode_to_vec();
        let refused = decode(&config, None).unwrap_err().to_string();
        assert!(
            refused.starts_with("route `shop/web/80`: its faults: "),
            "{refused}"
        );
        assert!(refused.contains(says), "{refused}");
    }
}

fn retried() -> Route {
    let retries = Retries {
        on: [Condition::Reset, Condition::Status(503)]
            .into_iter()
            .collect(),
        times: Times::ONCE,
        each: Some(Duration::from_secs(1)),
        methods: [Method::Get, Method::Grpc].into_iter().collect(),
        budget: Terms::default(),
    };
    let bounds = Bounds {
        request: Some(Duration::from_secs(2)),
        retries: Some(retries),
        ..Bounds::default()
    };
    Route {
        bounds,
        ..route(Some((1_000, 7)))
    }
}

#[test]
fn retries_are_envoys_own_policy_and_a_budget_beside_it() {
    let mut config = encode(&retried());
    let policy = act(&mut config).retry_policy.clone().unwrap();
    assert_eq!(policy.retry_on, "reset,retriable-status-codes");
    assert_eq!(policy.retriable_status_codes, [503]);
    let names: Vec<&str> = policy
        .retriable_request_headers
        .iter()
        .map(|matcher| matcher.name.as_str())
        .collect();
    assert_eq!(names, [":method", "content-type"]);
    // Of a control plane that does not know of budgets.
    about(&mut config).fields.remove("retry_budget");
    assert_eq!(decode(&config, ttl(&retried())), Ok(retried()));
    assert_eq!(act(&mut encode(&route(None))).retry_policy, None);
}

#[test]
fn retries_that_cannot_be_are_refused_and_the_nack_says_why() {
    type Spoil = fn(&mut wire::RetryPolicy);
    let spoils: [(Spoil, &str); 13] = [
        (
            |policy| policy.retry_on = "reset,retriable-status-codes,often".to_owned(),
            "`often` is nothing that is tried again",
        ),
        (
            |policy| policy.retry_on = String::new(),
            "it names statuses without",
        ),
        (
            |policy| policy.retriable_status_codes.clear(),
            "it names statuses without",
        ),
        (
            |policy| policy.retriable_status_codes.push(404),
            "status 404 is none from 500 to 599",
        ),
        (
            |policy| policy.retriable_status_codes.push(70_000),
            "status 70000 is none",
        ),
        (
            |policy| policy.num_retries = Some(protobuf::UInt32Value { value: 6 }),
            "6 retries, expected 1 to 5",
        ),
        (
            |policy| policy.num_retries = Some(protobuf::UInt32Value { value: 0 }),
            "0 retries, expected 1 to 5",
        ),
        (
            |policy| policy.per_try_timeout = Some(protobuf::Duration::default()),
            "its time for one attempt is zero",
        ),
        (
            |policy| {
                policy.per_try_timeout = Some(protobuf::Duration {
                    seconds: 2,
                    nanos: 0,
                })
            },
            "one attempt may take 2s, and the whole call 2s",
        ),
        (
            |policy| policy.retriable_request_headers.clear(),
            "no list of methods",
        ),
        (
            |policy| policy.retriable_request_headers[0].invert_match = true,
            "no list of methods",
        ),
        (
            |policy| policy.retriable_request_headers[0].name = "x-again".to_owned(),
            "no list of methods",
        ),
        (
            |policy| policy.host_selection_retry_max_attempts = 3,
            "a field that this proxy does not know",
        ),
    ];
    for (spoil, says) in spoils {
        let mut config = encode(&retried());
        spoil(act(&mut config).retry_policy.as_mut().unwrap());
        let refused = decode(&config, None).unwrap_err().to_string();
        assert!(
            refused.starts_with("route `shop/web/80`: its retry policy: "),
            "{refused}"
        );
        assert!(refused.contains(says), "{refused}");
    }
    let mut config = encode(&retried());
    let budget = metadata::nested(metadata::fields([
        ("percent", metadata::text("101")),
        ("floor", metadata::text("0")),
    ]));
    about(&mut config)
        .fields
        .insert("retry_budget".to_owned(), budget);
    let refused = decode(&config, None).unwrap_err().to_string();
    assert!(
        refused.ends_with("a budget of 101 % and 0 a second is none"),
        "{refused}"
    );
}

#[test]
fn the_nack_text_names_the_route_and_the_field() {
    let mut config = encode(&route(None));
    about(&mut config)
        .fields
        .insert("protocol".to_owned(), metadata::text("quic"));
    let text = decode(&config, None).unwrap_err().to_string();
    assert_eq!(
        text,
        "route `shop/web/80`: metadata field `protocol` is `quic`, known are detect, http, opaque"
    );
}

fn any_route() -> impl Strategy<Value = Route> {
    let name = "[a-z][a-z0-9-]{0,20}";
    let signature = proptest::option::of(any::<[u8; 32]>());
    let revocation =
        (name, name, any::<u64>(), signature).prop_map(|(rollout, revision, run, signature)| {
            SignedRevocation {
                revocation: Revocation {
                    rollout,
                    revision,
                    run,
                },
                signature: signature.map(Signature),
            }
        });
    let protocol = prop_oneof![
        Just(Protocol::Detect),
        Just(Protocol::Http),
        Just(Protocol::Opaque)
    ];
    let canary = proptest::option::of((
        0..=Weight::SCALE,
        any::<u64>(),
        proptest::option::of(1..u64::from(u32::MAX)),
        proptest::option::of(0_u32..=500_000),
        proptest::option::of(prop_oneof![
            "[a-z][a-z0-9-]{0,20}-id".prop_map(|name| Key::header(&name).unwrap()),
            "[A-Za-z0-9_.!-]{1,20}".prop_map(|name| Key::cookie(&name).unwrap()),
        ]),
    ));
    let time = proptest::option::of(1_u64..86_400_000);
    let requests = proptest::option::of(1_u32..);
    let retries = proptest::option::of(any_retries());
    let bounds = (time.clone(), time, requests, retries, any_faults()).prop_map(
        |(request, idle, requests, retries, faults)| {
            let request = request.map(Duration::from_millis);
            Bounds {
                request,
                idle: idle.map(Duration::from_millis),
                requests: requests.and_then(NonZeroU32::new),
                retries: retries.filter(|retries| retries.check(request).is_ok()),
                faults: faults.map(Arc::new),
            }
        },
    );
    (
        name,
        name,
        any::<u16>(),
        protocol,
        name,
        canary,
        bounds,
        proptest::collection::vec(revocation, 0..4),
    )
        .prop_map(
            |(namespace, service, port, protocol, rollout, canary, bounds, revoked)| Route {
                name: format!("{namespace}/{service}/{port}"),
                rollout: format!("{namespace}/{rollout}"),
                split: Split {
                    stable: Arm {
                        cluster: format!("{namespace}/{service}/{port}/v1"),
                        revision: "v1".to_owned(),
                    },
                    canary: canary.map(|(units, run, lease, fuse, sticky)| CanaryArm {
                        arm: Arm {
                            cluster: format!("{namespace}/{service}/{port}/v2"),
                            revision: "v2".to_owned(),
                        },
                        weight: Weight::new(units).unwrap(),
                        run,
                        lease: match lease {
                            Some(millis) if units != 0 => Lease::Ttl(Duration::from_millis(millis)),
                            Some(_) | None => Lease::Unlimited,
                        },
                        fuse: fuse.and_then(Tolerance::new),
                        sticky,
                    }),
                },
                namespace,
                service,
                port,
                protocol,
                bounds,
                revoked,
            },
        )
}

fn any_faults() -> impl Strategy<Value = Option<Faults>> {
    let share = || (0..=Weight::SCALE).prop_map(|units| Weight::new(units).unwrap());
    let delay = (share(), 1_u64..60_000)
        .prop_map(|(share, millis)| Delay::new(share, Duration::from_millis(millis)));
    let abort = (share(), 400_u16..600).prop_map(|(share, status)| Abort::new(share, status));
    let only = proptest::option::of(("x-[a-z]{1,9}", "[!-~]{1,9}"));
    (delay, abort, only).prop_map(|(delay, abort, only)| {
        let only = only.map(|(name, value)| Only::header(&name, &value).unwrap());
        Faults::new(delay, abort, only)
    })
}

fn any_retries() -> impl Strategy<Value = Retries> {
    let condition = prop_oneof![
        Just(Condition::ConnectFailure),
        Just(Condition::Reset),
        Just(Condition::ServerError),
        (500_u16..600).prop_map(Condition::Status),
        (0_usize..5).prop_map(|code| Condition::Grpc(Code::ALL[code])),
    ];
    let method = (0_usize..8).prop_map(|method| Method::ALL[method]);
    (
        proptest::collection::vec(condition, 1..6),
        1_u32..=5,
        proptest::option::of(1_u64..86_400_000),
        proptest::collection::vec(method, 1..4),
        (0_u32..=100, 1_u32..=1_000),
    )
        .prop_map(|(on, times, each, methods, (percent, floor))| Retries {
            on: on.into_iter().collect(),
            times: Times::new(times).unwrap(),
            each: each.map(Duration::from_millis),
            methods: methods.into_iter().collect(),
            budget: Terms::new(percent, floor).unwrap(),
        })
}

proptest! {
    #[test]
    fn any_route_survives_the_wire(route in any_route()) {
        let bytes = encode(&route).encode_to_vec();
        let config = wire::RouteConfiguration::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(decode(&config, ttl(&route)), Ok(route));
    }
}
