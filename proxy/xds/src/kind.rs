//! The kinds of resources that Aviary serves, in the order in which new ones are sent: what a route names is there
//! before the route ("make before break"); removals go the other way.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// CDS: that a cluster exists.
    Cluster,
    /// EDS: the endpoints of a cluster.
    Endpoints,
    /// RDS: which clusters share the requests for a destination.
    Route,
    /// LDS: what a proxy does with what comes in. It hangs on nothing else.
    Listener,
}

/// CDS.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// EDS.
pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// RDS.
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// LDS.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

impl Kind {
    /// Make before break.
    pub const ALL: [Kind; 4] = [Kind::Cluster, Kind::Endpoints, Kind::Route, Kind::Listener];

    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Cluster => CLUSTER,
            Kind::Endpoints => ENDPOINTS,
            Kind::Route => ROUTE,
            Kind::Listener => LISTENER,
        }
    }

    pub fn from_type_url(url: &str) -> Result<Kind, UnknownType> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.type_url() == url)
            .ok_or_else(|| UnknownType(url.to_owned()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Cluster => "cluster",
            Kind::Endpoints => "endpoints",
            Kind::Route => "route",
            Kind::Listener => "listener",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "resource type `{0}` is not served: Aviary serves Cluster, ClusterLoadAssignment, RouteConfiguration and Listener (xDS v3)"
)]
pub struct UnknownType(pub String);

/// A table with one place for each kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByKind<T>([T; 4]);

impl<T> std::ops::Index<Kind> for ByKind<T> {
    type Output = T;
    fn index(&self, kind: Kind) -> &T {
        &self.0[kind as usize]
    }
}

impl<T> std::ops::IndexMut<Kind> for ByKind<T> {
    fn index_mut(&mut self, kind: Kind) -> &mut T {
        &mut self.0[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::{cluster, endpoint, listener, route};
    use prost::Name;

    #[test]
    fn type_urls_are_those_of_the_protobuf_definitions() {
        assert_eq!(CLUSTER, cluster::v3::Cluster::type_url());
        assert_eq!(ENDPOINTS, endpoint::v3::ClusterLoadAssignment::type_url());
        assert_eq!(ROUTE, route::v3::RouteConfiguration::type_url());
        assert_eq!(LISTENER, listener::v3::Listener::type_url());
    }

    #[test]
    fn every_kind_is_found_by_its_url_and_nothing_else_is() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_type_url(kind.type_url()), Ok(kind));
        }
        let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
        assert_eq!(
            Kind::from_type_url(secret),
            Err(UnknownType(secret.to_owned()))
        );
    }
}
