//! [`Route`] as a RouteConfiguration: one virtual host for every domain, one route for every path, weighted clusters that sum
//! to [`Weight::SCALE`]. What Envoy has no field for is in metadata `aviary.dev`.
//!
//! A canary at weight 0 stays listed: Envoy accepts it, its clusters stay warm, and a rollback or a first step changes a number
//! and nothing else.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::google::protobuf::{Any, Struct, UInt32Value};
use traffic_core::config::{Arm, CanaryArm, Protocol, Route, Split, Weight};
use traffic_core::fuse::Tolerance;
use traffic_core::lease::Lease;

use crate::bounds::{self, BoundsProblem};
use crate::faults;
use crate::metadata::{self, FieldProblem, Fields, KEY};
use crate::retries;
use crate::sticky::{self, StickyProblem};

/// The canary's field for [`CanaryArm::fuse`], in millionths.
const FUSE: &str = "fuse";

/// A RouteConfiguration that is not one of ours; the text goes into the NACK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route `{route}`: {problem}")]
pub struct InvalidRoute {
    pub route: String,
    pub problem: RouteProblem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteProblem {
    #[error("{0} virtual hosts, expected exactly one")]
    VirtualHosts(usize),
    #[error("the virtual host's domains are {0:?}, expected [\"*\"]")]
    Domains(Vec<String>),
    #[error("{0} routes in the virtual host, expected exactly one")]
    Routes(usize),
    #[error("the route does not match every path (prefix `/`)")]
    NotEveryPath,
    #[error("the route's action is not weighted clusters")]
    NotWeightedClusters,
    #[error("metadata `aviary.dev` is missing")]
    NoMetadata,
    #[error(transparent)]
    Field(#[from] FieldProblem),
    #[error(transparent)]
    Sticky(#[from] StickyProblem),
    #[error(transparent)]
    Bounds(#[from] BoundsProblem),
    #[error("a hash policy, and no canary")]
    StickyAlone,
    #[error("a fuse of {0} millionths, the limit is 500000")]
    Fuse(u64),
    #[error("port {0} is none")]
    Port(u64),
    #[error("metadata names `{0}`, which is not the route's own name")]
    Name(String),
    #[error("stable and canary are the same cluster `{0}`")]
    SameCluster(String),
    #[error("cluster `{0}` has no weight")]
    NoWeight(String),
    #[error("weighted cluster `{0}` is neither the stable nor the canary cluster")]
    UnknownCluster(String),
    #[error("cluster `{0}` is listed twice")]
    ListedTwice(String),
    #[error("the weights sum to {0}, expected {scale}", scale = Weight::SCALE)]
    Sum(u64),
}

pub fn encode(route: &Route) -> wire::RouteConfiguration {
    let Route {
        name,
        namespace,
        service,
        port,
        protocol,
        rollout,
        split,
        bounds: allowed,
        revoked,
    } = route;
    let mut about = metadata::fields([
        ("namespace", metadata::text(namespace)),
        ("service", metadata::text(service)),
        ("port", metadata::text(port.to_string())),
        ("protocol", metadata::text(protocol_word(*protocol))),
        ("rollout", metadata::text(rollout)),
        ("fallback", metadata::text(&split.stable.revision)),
        ("stable", metadata::nested(arm_fields(&split.stable))),
        ("revoked", metadata::revocations(revoked)),
    ]);
    if let Some(requests) = allowed.requests {
        let requests = metadata::text(requests.to_string());
        about.fields.insert(bounds::REQUESTS.to_owned(), requests);
    }
    if let Some(policy) = allowed.retries {
        let budget = metadata::nested(retries::encode_budget(policy.budget));
        about.fields.insert(retries::BUDGET.to_owned(), budget);
    }
    let mut canary_units = 0;
    // The lease is no part of the message: it is the resource's TTL, see [`ttl`].
    if let Some(CanaryArm {
        arm,
        weight,
        run,
        lease: _,
        fuse,
        sticky: _,
    }) = &split.canary
    {
        canary_units = weight.units();
        let mut fields = arm_fields(arm);
        fields
            .fields
            .insert("run".to_owned(), metadata::text(run.to_string()));
        if let Some(tolerance) = fuse {
            let millionths = metadata::text(tolerance.millionths().to_string());
            fields.fields.insert(FUSE.to_owned(), millionths);
        }
        about
            .fields
            .insert("canary".to_owned(), metadata::nested(fields));
    }
    let mut clusters = vec![cluster_weight(&split.stable, Weight::SCALE - canary_units)];
    clusters.extend(
        split
            .canary
            .iter()
            .map(|canary| cluster_weight(&canary.arm, canary_units)),
    );
    let canary = split.canary.as_ref();
    let (hash_policy, random_value_specifier) =
        sticky::encode(canary.and_then(|canary| canary.sticky.as_ref()));
    let action = wire::RouteAction {
        hash_policy,
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(wire::WeightedCluster {
            clusters,
            random_value_specifier,
            ..wire::WeightedCluster::default()
        })),
        ..bounds::encode(allowed)
    };
    let every_path = wire::RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..wire::RouteMatch::default()
    };
    wire::RouteConfiguration {
        name: name.clone(),
        virtual_hosts: vec![wire::VirtualHost {
            name: name.clone(),
            domains: vec!["*".to_owned()],
            routes: vec![wire::Route {
                r#match: Some(every_path),
                action: Some(Action::Route(action)),
                typed_per_filter_config: allowed
                    .faults
                    .as_deref()
                    .map(faults::encode)
                    .unwrap_or_default(),
                ..wire::Route::default()
            }],
            ..wire::VirtualHost::default()
        }],
        metadata: Some(Metadata {
            filter_metadata: [(KEY.to_owned(), about)].into(),
            ..Metadata::default()
        }),
        ..wire::RouteConfiguration::default()
    }
}

/// The TTL of the resource that carries the route: how long its canary's weight is good for without a renewal.
pub fn ttl(route: &Route) -> Option<Duration> {
    route.split.canary.as_ref().and_then(CanaryArm::ttl)
}

/// `ttl` is that of the resource.
pub fn decode(
    config: &wire::RouteConfiguration,
    ttl: Option<Duration>,
) -> Result<Route, InvalidRoute> {
    let about = config
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.filter_metadata.get(KEY));
    action(config)
        .and_then(|action| {
            read(
                &config.name,
                about.ok_or(RouteProblem::NoMetadata)?,
                action,
                ttl,
            )
        })
        .map_err(|problem| InvalidRoute {
            route: config.name.clone(),
            problem,
        })
}

/// What is done with requests.
#[derive(Clone, Copy)]
struct Acts<'w> {
    action: &'w wire::RouteAction,
    filters: &'w HashMap<String, Any>,
    weighted: &'w wire::WeightedCluster,
}

fn action(config: &wire::RouteConfiguration) -> Result<Acts<'_>, RouteProblem> {
    let [host] = config.virtual_hosts.as_slice() else {
        return Err(RouteProblem::VirtualHosts(config.virtual_hosts.len()));
    };
    if host.domains != ["*"] {
        return Err(RouteProblem::Domains(host.domains.clone()));
    }
    let [route] = host.routes.as_slice() else {
        return Err(RouteProblem::Routes(host.routes.len()));
    };
    match route
        .r#match
        .as_ref()
        .and_then(|each| each.path_specifier.as_ref())
    {
        Some(PathSpecifier::Prefix(prefix)) if prefix == "/" => {}
        _ => return Err(RouteProblem::NotEveryPath),
    }
    match &route.action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::WeightedClusters(weighted)) => Ok(Acts {
                action,
                filters: &route.typed_per_filter_config,
                weighted,
            }),
            _ => Err(RouteProblem::NotWeightedClusters),
        },
        _ => Err(RouteProblem::NotWeightedClusters),
    }
}

fn read(
    name: &str,
    about: &Struct,
    Acts {
        action,
        filters,
        weighted,
    }: Acts<'_>,
    ttl: Option<Duration>,
) -> Result<Route, RouteProblem> {
    let about = Fields(about);
    let (namespace, service, port) = (
        about.text("namespace")?,
        about.text("service")?,
        about.number("port")?,
    );
    let port = u16::try_from(port).map_err(|_| RouteProblem::Port(port))?;
    let own_name = format!("{namespace}/{service}/{port}");
    if own_name != name {
        return Err(RouteProblem::Name(own_name));
    }
    let stable = arm(about
        .nested("stable")?
        .ok_or(FieldProblem::Missing("stable"))?)?;
    let canary = match about.nested("canary")? {
        Some(fields) => Some((arm(fields)?, fields.number("run")?, fuse(fields)?)),
        None => None,
    };
    if canary
        .as_ref()
        .is_some_and(|(canary, _, _)| canary.cluster == stable.cluster)
    {
        return Err(RouteProblem::SameCluster(stable.cluster));
    }
    let of_canary = canary.as_ref().map(|(arm, _, _)| arm);
    let weight = weight_of_canary(&weighted.clusters, &stable, of_canary)?;
    let random = weighted.random_value_specifier.as_ref();
    let sticky = sticky::decode(&action.hash_policy, random)?;
    if canary.is_none() && sticky.is_some() {
        return Err(RouteProblem::StickyAlone);
    }
    Ok(Route {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        port,
        protocol: protocol(about.text("protocol")?)?,
        rollout: about.text("rollout")?.to_owned(),
        split: Split {
            stable,
            canary: canary.map(|(arm, run, fuse)| CanaryArm {
                arm,
                weight,
                run,
                lease: lease(weight, ttl),
                fuse,
                sticky,
            }),
        },
        bounds: bounds::decode(action, about, filters)?,
        revoked: about.revocations("revoked")?,
    })
}

/// The canary's weight, after checking that both arms and nothing else are listed, once each, and make a whole.
fn weight_of_canary(
    weighted: &[ClusterWeight],
    stable: &Arm,
    canary: Option<&Arm>,
) -> Result<Weight, RouteProblem> {
    let (mut stable_units, mut canary_units) = (None, None);
    for each in weighted {
        let slot = if each.name == stable.cluster {
            &mut stable_units
        } else if canary.is_some_and(|canary| canary.cluster == each.name) {
            &mut canary_units
        } else {
            return Err(RouteProblem::UnknownCluster(each.name.clone()));
        };
        let units = each
            .weight
            .as_ref()
            .ok_or_else(|| RouteProblem::NoWeight(each.name.clone()))?
            .value;
        if slot.replace(units).is_some() {
            return Err(RouteProblem::ListedTwice(each.name.clone()));
        }
    }
    stable_units.ok_or_else(|| RouteProblem::NoWeight(stable.cluster.clone()))?;
    if let Some(canary) = canary {
        canary_units.ok_or_else(|| RouteProblem::NoWeight(canary.cluster.clone()))?;
    }
    let canary_units = canary_units.unwrap_or(0);
    let sum = u64::from(stable_units.unwrap_or(0)) + u64::from(canary_units);
    if sum != u64::from(Weight::SCALE) {
        return Err(RouteProblem::Sum(sum));
    }
    Weight::new(canary_units).map_err(|_| RouteProblem::Sum(sum))
}

fn lease(weight: Weight, ttl: Option<Duration>) -> Lease {
    ttl.filter(|_| weight != Weight::ZERO)
        .map_or(Lease::Unlimited, Lease::Ttl)
}

fn cluster_weight(arm: &Arm, units: u32) -> ClusterWeight {
    ClusterWeight {
        name: arm.cluster.clone(),
        weight: Some(UInt32Value { value: units }),
        ..ClusterWeight::default()
    }
}

fn arm_fields(arm: &Arm) -> Struct {
    metadata::fields([
        ("cluster", metadata::text(&arm.cluster)),
        ("revision", metadata::text(&arm.revision)),
    ])
}

fn arm(fields: Fields<'_>) -> Result<Arm, FieldProblem> {
    Ok(Arm {
        cluster: fields.text("cluster")?.to_owned(),
        revision: fields.text("revision")?.to_owned(),
    })
}

/// Of a control plane that knows of none there is none.
fn fuse(fields: Fields<'_>) -> Result<Option<Tolerance>, RouteProblem> {
    let Some(millionths) = fields.number_if_any(FUSE)? else {
        return Ok(None);
    };
    let tolerance = u32::try_from(millionths).ok().and_then(Tolerance::new);
    tolerance.map(Some).ok_or(RouteProblem::Fuse(millionths))
}

fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Detect => "detect",
        Protocol::Http => "http",
        Protocol::Opaque => "opaque",
    }
}

fn protocol(word: &str) -> Result<Protocol, FieldProblem> {
    match word {
        "detect" => Ok(Protocol::Detect),
        "http" => Ok(Protocol::Http),
        "opaque" => Ok(Protocol::Opaque),
        found => Err(FieldProblem::UnknownWord {
            field: "protocol",
            found: found.to_owned(),
            known: "detect, http, opaque",
        }),
    }
}

#[cfg(test)]
mod tests;
