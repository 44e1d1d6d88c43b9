use proptest::prelude::*;
use std::num::NonZeroU32;
use std::time::Duration;

use traffic_core::bounds::Bounds;
use traffic_core::config::{Revocation, Signature, SignedRevocation};
use traffic_core::lease::Lease;

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, Header, PolicySpecifier,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::RandomValueSpecifier;
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
    let bounds = (time.clone(), time, proptest::option::of(1_u32..)).prop_map(
        |(request, idle, requests)| Bounds {
            request: request.map(Duration::from_millis),
            idle: idle.map(Duration::from_millis),
            requests: requests.and_then(NonZeroU32::new),
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

proptest! {
    #[test]
    fn any_route_survives_the_wire(route in any_route()) {
        use prost::Message;
        let bytes = encode(&route).encode_to_vec();
        let config = wire::RouteConfiguration::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(decode(&config, ttl(&route)), Ok(route));
    }
}
