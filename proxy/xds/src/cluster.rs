//! [`Cluster`] as two resources: an EDS cluster over ADS, and its ClusterLoadAssignment.
//!
//! The EDS service name is the cluster's own name: two Envoy clusters that share one stall for 15 s (envoy#47302).
//!
//! Who answers at an endpoint is in its metadata `aviary.dev`: `identity`, a SPIFFE ID, `tls`, whether its sidecar accepts TLS, and `strict`, where it
//! takes nothing else; and `workload`, what its pod is one of, where that has been asked for. What of that is wrong is
//! refused with the whole message, and never left out: an endpoint whose identity was left out would be called in plaintext.

use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::google::protobuf::{Duration, Struct};
use traffic_core::config::{Cluster, Endpoint, Expected, Health};
use traffic_core::spiffe::{InvalidId, SpiffeId};

use crate::address::{self, AddressProblem};
use crate::metadata::{self, FieldProblem, Fields, KEY};

/// Who answers.
const IDENTITY: &str = "identity";
/// Whether its sidecar accepts TLS.
const TLS: &str = "tls";
/// Whether nothing else is taken there.
const STRICT: &str = "strict";
/// What its pod is one of.
const WORKLOAD: &str = "workload";
/// Names of Kubernetes are not longer.
const LONGEST_WORKLOAD: usize = 253;

/// A Cluster or ClusterLoadAssignment that is not one of ours; the text goes into the NACK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster `{cluster}`: {problem}")]
pub struct InvalidCluster {
    pub cluster: String,
    pub problem: ClusterProblem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterProblem {
    #[error("it has no name")]
    NoName,
    #[error("its type is not EDS")]
    NotEds,
    #[error("its EDS service name is `{0}`, expected the cluster's own name")]
    ServiceName(String),
    #[error("its endpoints do not come over ADS")]
    NotAds,
    #[error("endpoint {0} has no socket address")]
    NoAddress(usize),
    #[error("endpoint {index}: `{address}` is no IP address")]
    NotIp { index: usize, address: String },
    #[error("endpoint {index}: port {port} is none")]
    Port { index: usize, port: u32 },
    #[error("endpoint {index}: health status {status} is unknown")]
    Health { index: usize, status: i32 },
    #[error("endpoint {index}: {problem}")]
    Metadata { index: usize, problem: FieldProblem },
    #[error("endpoint {index}: identity {problem}")]
    Identity { index: usize, problem: InvalidId },
    #[error("endpoint {0}: it says whether it accepts TLS, and not who answers")]
    Nobody(usize),
}

/// CDS: that the cluster exists. Nothing in it changes when endpoints do.
pub fn encode(cluster: &Cluster) -> cds::Cluster {
    let over_ads = core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})),
        ..core::ConfigSource::default()
    };
    cds::Cluster {
        name: cluster.name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(over_ads),
            service_name: cluster.name.clone(),
        }),
        connect_timeout: Some(Duration {
            seconds: 1,
            nanos: 0,
        }),
        lb_policy: LbPolicy::LeastRequest.into(),
        ..cds::Cluster::default()
    }
}

/// The cluster's name, after checking that its endpoints come the way we expect.
pub fn decode(wire: &cds::Cluster) -> Result<String, InvalidCluster> {
    let invalid = |problem| InvalidCluster {
        cluster: wire.name.clone(),
        problem,
    };
    if wire.name.is_empty() {
        return Err(invalid(ClusterProblem::NoName));
    }
    if wire.cluster_discovery_type != Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())) {
        return Err(invalid(ClusterProblem::NotEds));
    }
    let eds = wire
        .eds_cluster_config
        .as_ref()
        .ok_or_else(|| invalid(ClusterProblem::NotEds))?;
    if eds.service_name != wire.name {
        return Err(invalid(ClusterProblem::ServiceName(
            eds.service_name.clone(),
        )));
    }
    match eds
        .eds_config
        .as_ref()
        .and_then(|source| source.config_source_specifier.as_ref())
    {
        Some(ConfigSourceSpecifier::Ads(_)) => Ok(wire.name.clone()),
        _ => Err(invalid(ClusterProblem::NotAds)),
    }
}

/// EDS.
pub fn encode_endpoints(cluster: &Cluster) -> eds::ClusterLoadAssignment {
    let lb_endpoints = cluster.endpoints.iter().map(encode_endpoint).collect();
    eds::ClusterLoadAssignment {
        cluster_name: cluster.name.clone(),
        endpoints: vec![eds::LocalityLbEndpoints {
            lb_endpoints,
            ..eds::LocalityLbEndpoints::default()
        }],
        ..eds::ClusterLoadAssignment::default()
    }
}

/// Unhealthy endpoints are left out, the rest is sorted and free of duplicates.
pub fn decode_endpoints(wire: &eds::ClusterLoadAssignment) -> Result<Cluster, InvalidCluster> {
    let invalid = |problem| InvalidCluster {
        cluster: wire.cluster_name.clone(),
        problem,
    };
    if wire.cluster_name.is_empty() {
        return Err(invalid(ClusterProblem::NoName));
    }
    let mut endpoints = Vec::new();
    for (index, each) in wire
        .endpoints
        .iter()
        .flat_map(|locality| &locality.lb_endpoints)
        .enumerate()
    {
        let address = address_of(index, each).map_err(invalid)?;
        let identity = identity(index, each).map_err(invalid)?;
        let workload = workload(index, each).map_err(invalid)?;
        if let Some(health) = health(index, each.health_status).map_err(invalid)? {
            endpoints.push(Endpoint {
                address,
                health,
                identity,
                workload,
            });
        }
    }
    // Healthy sorts before draining: an address that is listed as both stays usable. One that is listed with an identity and without has it.
    endpoints.sort_by(|one: &Endpoint, other| {
        let place = |endpoint: &Endpoint| (endpoint.address, endpoint.health);
        let identity = other.identity.cmp(&one.identity);
        place(one).cmp(&place(other)).then(identity)
    });
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    Ok(Cluster {
        name: wire.cluster_name.clone(),
        endpoints,
    })
}

fn encode_endpoint(endpoint: &Endpoint) -> eds::LbEndpoint {
    let status = match endpoint.health {
        Health::Healthy => core::HealthStatus::Healthy,
        Health::Draining => core::HealthStatus::Draining,
    };
    eds::LbEndpoint {
        health_status: status.into(),
        host_identifier: Some(HostIdentifier::Endpoint(eds::Endpoint {
            address: Some(address::encode(endpoint.address)),
            ..eds::Endpoint::default()
        })),
        metadata: about(endpoint),
        ..eds::LbEndpoint::default()
    }
}

fn about(endpoint: &Endpoint) -> Option<core::Metadata> {
    let identity = endpoint.identity.as_ref().map(encode_identity);
    let workload = endpoint.workload.as_deref().map(metadata::text);
    if identity.is_none() && workload.is_none() {
        return None;
    }
    let mut about = identity.unwrap_or_default();
    let workload = workload.map(|workload| (WORKLOAD.to_owned(), workload));
    about.fields.extend(workload);
    Some(core::Metadata {
        filter_metadata: [(KEY.to_owned(), about)].into(),
        ..core::Metadata::default()
    })
}

fn encode_identity(expected: &Expected) -> Struct {
    let Expected {
        id,
        accepts,
        demands,
    } = expected;
    let mut about = metadata::fields([
        (IDENTITY, metadata::text(&**id)),
        (TLS, metadata::boolean(*accepts)),
    ]);
    if *demands {
        let demands = metadata::boolean(true);
        about.fields.insert(STRICT.to_owned(), demands);
    }
    about
}

fn workload(index: usize, wire: &eds::LbEndpoint) -> Result<Option<Arc<str>>, ClusterProblem> {
    let about = wire.metadata.as_ref();
    let Some(about) = about.and_then(|about| about.filter_metadata.get(KEY)) else {
        return Ok(None);
    };
    let field = |problem| ClusterProblem::Metadata { index, problem };
    let Some(name) = Fields(about).text_if_any(WORKLOAD).map_err(field)? else {
        return Ok(None);
    };
    let is_name = (1..=LONGEST_WORKLOAD).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name {
        return Err(field(FieldProblem::NotA {
            field: WORKLOAD,
            expected: "the name of a workload",
        }));
    }
    Ok(Some(name.into()))
}

fn identity(index: usize, wire: &eds::LbEndpoint) -> Result<Option<Expected>, ClusterProblem> {
    let about = wire.metadata.as_ref();
    let Some(about) = about.and_then(|about| about.filter_metadata.get(KEY)) else {
        return Ok(None);
    };
    let field = |problem| ClusterProblem::Metadata { index, problem };
    let about = Fields(about);
    let accepts = about.boolean_if_any(TLS).map_err(field)?;
    let demands = about.boolean_if_any(STRICT).map_err(field)?;
    match (
        about.text_if_any(IDENTITY).map_err(field)?,
        accepts.or(demands),
    ) {
        (Some(id), _) => {
            let id = SpiffeId::parse(id);
            let id = id.map_err(|problem| ClusterProblem::Identity { index, problem })?;
            Ok(Some(Expected {
                id: id.shared(),
                accepts: accepts.unwrap_or_default(),
                demands: demands.unwrap_or_default(),
            }))
        }
        (None, Some(_)) => Err(ClusterProblem::Nobody(index)),
        (None, None) => Ok(None),
    }
}

fn address_of(index: usize, wire: &eds::LbEndpoint) -> Result<SocketAddr, ClusterProblem> {
    let Some(HostIdentifier::Endpoint(endpoint)) = &wire.host_identifier else {
        return Err(ClusterProblem::NoAddress(index));
    };
    address::decode(endpoint.address.as_ref()).map_err(|problem| match problem {
        AddressProblem::None => ClusterProblem::NoAddress(index),
        AddressProblem::NotIp(address) => ClusterProblem::NotIp { index, address },
        AddressProblem::Port(port) => ClusterProblem::Port { index, port },
    })
}

fn health(index: usize, status: i32) -> Result<Option<Health>, ClusterProblem> {
    match core::HealthStatus::try_from(status) {
        // An endpoint without a status counts as healthy in Envoy, too.
        Ok(
            core::HealthStatus::Unknown
            | core::HealthStatus::Healthy
            | core::HealthStatus::Degraded,
        ) => Ok(Some(Health::Healthy)),
        Ok(core::HealthStatus::Draining) => Ok(Some(Health::Draining)),
        Ok(core::HealthStatus::Unhealthy | core::HealthStatus::Timeout) => Ok(None),
        Err(_) => Err(ClusterProblem::Health { index, status }),
    }
}

#[cfg(test)]
mod tests;
