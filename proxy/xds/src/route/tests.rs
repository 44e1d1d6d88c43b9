mod any;
mod bounds;
mod faults;
mod retries;
mod sticky;

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
