use proptest::prelude::*;

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;

use super::*;

fn endpoint(address: &str, health: Health) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        health,
    }
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

proptest! {
    #[test]
    fn any_cluster_survives_the_wire(
        addresses in proptest::collection::btree_map(any::<(IpAddr, std::num::NonZeroU16)>(), any::<bool>(), 0..20)
    ) {
        let health = |draining| if draining { Health::Draining } else { Health::Healthy };
        let endpoints = addresses
            .into_iter()
            .map(|((ip, port), draining)| Endpoint { address: SocketAddr::new(ip, port.get()), health: health(draining) })
            .collect();
        let cluster = Cluster { name: "c".to_owned(), endpoints };
        prop_assert_eq!(decode_endpoints(&encode_endpoints(&cluster)), Ok(cluster));
    }
}
