//! Taking a response apart: every resource is decoded by itself, the good ones are kept, the bad ones make the NACK's text.

use envoy_types::pb::envoy::config::cluster::v3::Cluster as WireCluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::service::discovery::v3::Resource;
use envoy_types::pb::google::rpc::Status;
use prost::Message;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acks::Awaiting;
use super::{Answer, DeltaClient, HeldInbound, HeldRoute, Output};
use crate::cluster::{self, InvalidCluster};
use crate::kind::{Kind, UnknownType};
use crate::listener::{self, InvalidListener};
use crate::resources::{INBOUND, wanted};
use crate::route::{self, InvalidRoute};
use crate::server::limits;
use crate::{Request, Response};

/// google.rpc.Code INVALID_ARGUMENT.
const INVALID_ARGUMENT: i32 = 3;
/// A longer TTL is a mistake, and must not overflow a clock.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Invalid {
    #[error(transparent)]
    Type(#[from] UnknownType),
    #[error("resource `{name}` says it is a {found}, in a response about {kind} resources")]
    Mixed {
        name: String,
        found: String,
        kind: Kind,
    },
    #[error("resource `{0}` has a TTL that is not between zero and a day")]
    Lifetime(String),
    #[error("resource `{0}` has no body")]
    NoBody(String),
    #[error("resource `{name}` cannot be decoded: {reason}")]
    Undecodable {
        name: String,
        reason: prost::DecodeError,
    },
    #[error("resource `{name}` has a body named `{inner}`")]
    OtherName { name: String, inner: String },
    #[error(
        "route `{0}` has no alias `dst/<ip>:<port>` or `app/<ip>:<port>`: a proxy finds routes by address"
    )]
    NoAlias(String),
    #[error(transparent)]
    Route(#[from] InvalidRoute),
    #[error(transparent)]
    Cluster(#[from] InvalidCluster),
    #[error(transparent)]
    Listener(#[from] InvalidListener),
    #[error("listener `{0}` is not this proxy's, which is `{INBOUND}`")]
    OtherListener(String),
}

impl DeltaClient {
    pub(super) fn receive(&mut self, response: Response, now: Instant, output: &mut Output) {
        let Response {
            type_url,
            nonce,
            resources,
            removed_resources,
            ..
        } = response;
        let kind = match Kind::from_type_url(&type_url) {
            Ok(kind) => kind,
            Err(unknown) => {
                return self.reject(type_url, nonce, vec![unknown.into()], now, output);
            }
        };
        self.exchanged[kind].received += 1;
        let mut invalid = Vec::new();
        let mut routes = Vec::new();
        for resource in resources {
            let identity = (resource.name.clone(), resource.version.clone());
            let lent = match lifetime(&resource) {
                Ok(lent) => lent,
                Err(reason) => {
                    invalid.push(reason);
                    continue;
                }
            };
            if let (None, Some(ttl)) = (&resource.resource, lent) {
                self.leases.renew(&identity, ttl, now);
                continue;
            }
            match self.keep(kind, resource, lent, now) {
                Ok(()) if kind == Kind::Route => routes.push(identity),
                Ok(()) => {}
                Err(reason) => invalid.push(reason),
            }
        }
        for name in removed_resources {
            self.remove(kind, &name);
        }
        if invalid.is_empty() {
            self.await_install(Awaiting::new(kind, nonce, routes));
        } else {
            self.reject(type_url, nonce, invalid, now, output);
        }
    }

    fn reject(
        &mut self,
        type_url: String,
        nonce: String,
        invalid: Vec<Invalid>,
        now: Instant,
        output: &mut Output,
    ) {
        let reason = invalid
            .iter()
            .map(Invalid::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        self.rejected(&type_url, &reason, now);
        let message = limits::cut(&reason).to_string();
        output.rejected = Some(reason);
        output.requests.push(Request {
            type_url,
            response_nonce: nonce,
            error_detail: Some(Status {
                code: INVALID_ARGUMENT,
                message,
                details: Vec::new(),
            }),
            ..Request::default()
        });
    }

    fn keep(
        &mut self,
        kind: Kind,
        resource: Resource,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<(), Invalid> {
        match kind {
            Kind::Cluster => self.keep_cluster(resource),
            Kind::Endpoints => self.keep_endpoints(resource),
            Kind::Route => self.keep_route(resource, ttl, now),
            Kind::Listener => self.keep_listener(resource),
        }
    }

    fn keep_route(
        &mut self,
        resource: Resource,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<(), Invalid> {
        let route = route::decode(&body::<RouteConfiguration>(Kind::Route, &resource)?, ttl)?;
        check_name(&resource, &route.name)?;
        let destinations: Vec<_> = resource
            .aliases
            .iter()
            .filter_map(|alias| wanted(alias))
            .collect();
        if destinations.is_empty() {
            return Err(Invalid::NoAlias(resource.name));
        }
        for address in destinations {
            if let Some(wanted) = self.destinations.get_mut(&address) {
                wanted.answer = Answer::Route(route.name.clone());
            }
        }
        let version = (resource.name.clone(), resource.version.clone());
        self.leases.begin(version, route::ttl(&route), now);
        let held = HeldRoute {
            version: resource.version,
            route: Arc::new(route),
        };
        self.routes.insert(resource.name, Arc::new(held));
        Ok(())
    }

    fn keep_cluster(&mut self, resource: Resource) -> Result<(), Invalid> {
        let name = cluster::decode(&body::<WireCluster>(Kind::Cluster, &resource)?)?;
        check_name(&resource, &name)?;
        // One that was unsubscribed a moment ago may still arrive.
        if let Some(held) = self.clusters.get_mut(&name) {
            held.cluster_version = Some(resource.version);
        }
        Ok(())
    }

    fn keep_endpoints(&mut self, resource: Resource) -> Result<(), Invalid> {
        let cluster =
            cluster::decode_endpoints(&body::<ClusterLoadAssignment>(Kind::Endpoints, &resource)?)?;
        check_name(&resource, &cluster.name)?;
        if let Some(held) = self.clusters.get_mut(&cluster.name) {
            held.endpoints_version = Some(resource.version);
            held.cluster = Some(Arc::new(cluster));
        }
        Ok(())
    }

    fn keep_listener(&mut self, resource: Resource) -> Result<(), Invalid> {
        let wire = body::<Listener>(Kind::Listener, &resource)?;
        let inbound = listener::decode(&wire)?;
        check_name(&resource, &wire.name)?;
        if resource.name != INBOUND {
            return Err(Invalid::OtherListener(resource.name));
        }
        self.inbound = Some(HeldInbound {
            version: resource.version,
            inbound: Arc::new(inbound),
        });
        Ok(())
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Cluster => {
                if let Some(held) = self.clusters.get_mut(name) {
                    held.cluster_version = None;
                }
            }
            Kind::Endpoints => {
                if let Some(held) = self.clusters.get_mut(name) {
                    held.endpoints_version = None;
                }
            }
            // Whoever knows nothing of this pod has taken nothing back.
            Kind::Listener => {}
            Kind::Route => {
                let address = wanted(name);
                for (each, wanted) in &mut self.destinations {
                    let routed = matches!(&wanted.answer, Answer::Route(route) if route == name);
                    if address == Some(*each) || routed {
                        wanted.answer = Answer::Nowhere;
                    }
                }
            }
        }
    }
}

/// The TTL of a resource.
fn lifetime(resource: &Resource) -> Result<Option<Duration>, Invalid> {
    let Some(ttl) = &resource.ttl else {
        return Ok(None);
    };
    let invalid = || Invalid::Lifetime(resource.name.clone());
    let seconds = u64::try_from(ttl.seconds).map_err(|_| invalid())?;
    let nanos = u32::try_from(ttl.nanos).map_err(|_| invalid())?;
    let ttl = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()));
    ttl.filter(|ttl| (Duration::from_nanos(1)..=LONGEST_LIFETIME).contains(ttl))
        .map(Some)
        .ok_or_else(invalid)
}

fn body<T: Message + Default>(kind: Kind, resource: &Resource) -> Result<T, Invalid> {
    let body = resource
        .resource
        .as_ref()
        .ok_or_else(|| Invalid::NoBody(resource.name.clone()))?;
    if body.type_url != kind.type_url() {
        return Err(Invalid::Mixed {
            name: resource.name.clone(),
            found: body.type_url.clone(),
            kind,
        });
    }
    T::decode(body.value.as_slice()).map_err(|reason| Invalid::Undecodable {
        name: resource.name.clone(),
        reason,
    })
}

fn check_name(resource: &Resource, inner: &str) -> Result<(), Invalid> {
    if resource.name == inner {
        return Ok(());
    }
    Err(Invalid::OtherName {
        name: resource.name.clone(),
        inner: inner.to_owned(),
    })
}
