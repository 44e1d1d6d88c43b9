use proptest::prelude::*;

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;

use super::*;

fn endpoint(address: &str, health: Health) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        health,
        identity: None,
        workload: None,
    }
}

fn expected(account: &str, accepts: bool) -> Option<Expected> {
    Some(Expected {
        id: format!("spiffe://cluster.local/ns/shop/sa/{account}").into(),
        accepts,
        demands: false,
    })
}

fn cluster() -> Cluster {
    Cluster {
        name: "shop/web/80/v1".to_owned(),
        endpoints: vec![
            endpoint("10.1.0.1:8080", Health::Healthy),
            endpoint("[fd00::1]:8080", Health::Draining),
        ],
    }
}

fn first(wire: &mut eds::ClusterLoadAssignment) -> &mut eds::LbEndpoint {
    &mut wire.endpoints[0].lb_endpoints[0]
}

fn problem(spoil: impl FnOnce(&mut eds::ClusterLoadAssignment)) -> ClusterProblem {
    let mut wire = encode_endpoints(&cluster());
    spoil(&mut wire);
    decode_endpoints(&wire)
        .expect_err("the endpoints were spoiled")
        .problem
}

/// The endpoint's metadata, with one field as it should not be.
fn about(
    wire: &mut eds::ClusterLoadAssignment,
    fields: Vec<(&str, envoy_types::pb::google::protobuf::Value)>,
) {
    let fields = fields.into_iter();
    let about = envoy_types::pb::google::protobuf::Struct {
        fields: fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    };
    first(wire).metadata = Some(core::Metadata {
        filter_metadata: [(KEY.to_owned(), about)].into(),
        ..core::Metadata::default()
    });
}

fn socket(address: &str, port: u32) -> Option<HostIdentifier> {
    let address = core::SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..core::SocketAddress::default()
    };
    Some(HostIdentifier::Endpoint(eds::Endpoint {
        address: Some(core::Address {
            address: Some(AnyAddress::SocketAddress(address)),
        }),
        ..eds::Endpoint::default()
    }))
}

#[test]
fn a_cluster_is_eds_over_ads_under_its_own_name() {
    let wire = encode(&cluster());
    assert_eq!(
        wire.eds_cluster_config.as_ref().unwrap().service_name,
        wire.name
    );
    assert_eq!(decode(&wire), Ok("shop/web/80/v1".to_owned()));
}

#[test]
fn a_cluster_that_is_not_ours_is_refused_with_the_reason() {
    let spoiled = |spoil: fn(&mut cds::Cluster)| {
        let mut wire = encode(&cluster());
        spoil(&mut wire);
        decode(&wire).unwrap_err().problem
    };
    assert_eq!(spoiled(|wire| wire.name.clear()), ClusterProblem::NoName);
    assert_eq!(
        spoiled(|wire| wire.cluster_discovery_type = None),
        ClusterProblem::NotEds
    );
    assert_eq!(
        spoiled(|wire| wire.eds_cluster_config = None),
        ClusterProblem::NotEds
    );
    assert_eq!(
        spoiled(|wire| wire.name = "x".to_owned()),
        ClusterProblem::ServiceName("shop/web/80/v1".to_owned())
    );
    let not_ads = spoiled(|wire| wire.eds_cluster_config.as_mut().unwrap().eds_config = None);
    assert_eq!(not_ads, ClusterProblem::NotAds);
}

#[test]
fn endpoints_survive_the_wire_in_both_address_families() {
    assert_eq!(
        decode_endpoints(&encode_endpoints(&cluster())),
        Ok(cluster())
    );
}

#[test]
fn an_endpoint_that_cannot_be_dialled_is_refused_with_its_place() {
    assert_eq!(
        problem(|wire| first(wire).host_identifier = None),
        ClusterProblem::NoAddress(0)
    );
    let host = ClusterProblem::NotIp {
        index: 0,
        address: "web.example".to_owned(),
    };
    assert_eq!(
        problem(|wire| first(wire).host_identifier = socket("web.example", 80)),
        host
    );
    for port in [0, 65_536] {
        let expected = ClusterProblem::Port { index: 0, port };
        assert_eq!(
            problem(|wire| first(wire).host_identifier = socket("10.0.0.1", port)),
            expected
        );
    }
    assert_eq!(
        problem(|wire| first(wire).health_status = 99),
        ClusterProblem::Health {
            index: 0,
            status: 99
        }
    );
}

#[test]
fn unhealthy_endpoints_are_left_out_and_healthy_wins_over_draining() {
    let mut wire = encode_endpoints(&Cluster {
        name: "c".to_owned(),
        endpoints: vec![
            endpoint("10.1.0.2:80", Health::Draining),
            endpoint("10.1.0.1:80", Health::Healthy),
            endpoint("10.1.0.2:80", Health::Healthy),
        ],
    });
    wire.endpoints[0].lb_endpoints[1].health_status = core::HealthStatus::Unhealthy.into();
    assert_eq!(
        decode_endpoints(&wire).unwrap().endpoints,
        vec![endpoint("10.1.0.2:80", Health::Healthy)]
    );
}

#[test]
fn who_answers_survives_the_wire_and_whether_they_accept_tls() {
    let mut cluster = cluster();
    cluster.endpoints[0].identity = expected("web", true);
    cluster.endpoints[1].identity = expected("web", false).map(|it| Expected {
        demands: true,
        ..it
    });
    assert_eq!(decode_endpoints(&encode_endpoints(&cluster)), Ok(cluster));
}

#[test]
fn nobody_accepts_tls_who_has_not_said_so() {
    let mut wire = encode_endpoints(&cluster());
    let id = "spiffe://cluster.local/ns/shop/sa/web";
    about(&mut wire, vec![("identity", metadata::text(id))]);
    let decoded = decode_endpoints(&wire).unwrap();
    assert_eq!(decoded.endpoints[0].identity, expected("web", false));
    // What a newer control plane says besides is none of our business.
    about(&mut wire, vec![("zone", metadata::text("a"))]);
    let decoded = decode_endpoints(&wire).unwrap();
    assert_eq!(decoded.endpoints[0].identity, None);
}

#[test]
fn an_identity_that_is_wrong_is_refused_and_never_left_out() {
    let id = metadata::text("spiffe://cluster.local/ns/shop/sa/web");
    for (fields, text) in [
        (
            vec![("identity", metadata::text("web"))],
            "cluster `shop/web/80/v1`: endpoint 0: identity `web` is no SPIFFE ID: expected spiffe://<trust domain>/<path>, such as spiffe://cluster.local/ns/shop/sa/web",
        ),
        (
            vec![("identity", metadata::boolean(true))],
            "cluster `shop/web/80/v1`: endpoint 0: metadata field `identity` is not text",
        ),
        (
            vec![("identity", id.clone()), ("tls", metadata::text("true"))],
            "cluster `shop/web/80/v1`: endpoint 0: metadata field `tls` is not true or false",
        ),
        (
            vec![("workload", metadata::boolean(true))],
            "cluster `shop/web/80/v1`: endpoint 0: metadata field `workload` is not text",
        ),
        (
            vec![("workload", metadata::text("a b"))],
            "cluster `shop/web/80/v1`: endpoint 0: metadata field `workload` is not the name of a workload",
        ),
        (
            vec![("tls", metadata::boolean(true))],
            "cluster `shop/web/80/v1`: endpoint 0: it says whether it accepts TLS, and not who answers",
        ),
    ] {
        let mut wire = encode_endpoints(&cluster());
        about(&mut wire, fields);
        assert_eq!(decode_endpoints(&wire).unwrap_err().to_string(), text);
    }
}

#[test]
fn an_address_that_is_listed_with_an_identity_and_without_has_it() {
    let with = |identity: Option<Expected>| Endpoint {
        identity,
        ..endpoint("10.1.0.2:80", Health::Healthy)
    };
    let wire = encode_endpoints(&Cluster {
        name: "c".to_owned(),
        endpoints: vec![
            with(None),
            with(expected("web", false)),
            with(expected("web", true)),
        ],
    });
    assert_eq!(
        decode_endpoints(&wire).unwrap().endpoints,
        vec![with(expected("web", true))]
    );
}

proptest! {
    #[test]
    fn any_cluster_survives_the_wire(
        addresses in proptest::collection::btree_map(any::<(IpAddr, std::num::NonZeroU16)>(), any::<bool>(), 0..20)
    ) {
        let health = |draining| if draining { Health::Draining } else { Health::Healthy };
        let endpoints = addresses
            .into_iter()
            .map(|((ip, port), draining)| Endpoint { address: SocketAddr::new(ip, port.get()), health: health(draining), identity: expected("web", draining).filter(|_| ip.is_ipv4()), workload: draining.then(|| "web-canary-1".into()) })
            .collect();
        let cluster = Cluster { name: "c".to_owned(), endpoints };
        prop_assert_eq!(decode_endpoints(&encode_endpoints(&cluster)), Ok(cluster));
    }
}
