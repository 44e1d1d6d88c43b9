//! Everything the control plane serves, encoded once and shared by all streams.
//!
//! A version is a hash of the content (of the validated value: protobuf maps have no order), so the same content has the same
//! version in every process, and a proxy that reconnects to a restarted control plane is sent only what did change.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use traffic_core::config::{Cluster, Route};

use crate::kind::{ByKind, Kind};
use crate::{cluster, route};

const PREFIX: &str = "dst/";

/// The name under which a proxy asks for the route of a destination: `dst/<ip>:<port>`.
pub fn alias(destination: SocketAddr) -> String {
    format!("{PREFIX}{destination}")
}

/// The destination in an alias.
pub fn destination(alias: &str) -> Option<SocketAddr> {
    alias.strip_prefix(PREFIX)?.parse().ok()
}

/// One encoded resource.
#[derive(Clone, Debug)]
pub struct Resource {
    pub name: String,
    pub version: String,
    /// Other names that it answers to: a route's destinations.
    pub aliases: Vec<String>,
    /// `<ns>/<name>` of the rollout behind a route.
    pub rollout: Option<String>,
    /// The clusters that a route names: they are sent first.
    pub clusters: Vec<String>,
    /// How long a route with a canary's weight is good for without a renewal.
    pub ttl: Option<Duration>,
    pub(crate) body: Any,
}

/// What is served at one moment. Build it, share it, never change it.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    by_name: ByKind<BTreeMap<String, Arc<Resource>>>,
    /// From a route's alias to its name.
    aliases: HashMap<String, String>,
}

impl Resources {
    pub fn insert_route(&mut self, route: &Route, destinations: &[SocketAddr]) {
        let mut destinations = destinations.to_vec();
        destinations.sort_unstable();
        destinations.dedup();
        let aliases: Vec<String> = destinations.iter().copied().map(alias).collect();
        self.aliases.extend(
            aliases
                .iter()
                .map(|alias| (alias.clone(), route.name.clone())),
        );
        let arms = std::iter::once(&route.split.stable)
            .chain(route.split.canary.iter().map(|canary| &canary.arm));
        let resource = Resource {
            name: route.name.clone(),
            version: route_version(route, &destinations),
            aliases,
            rollout: Some(route.rollout.clone()),
            clusters: arms.map(|arm| arm.cluster.clone()).collect(),
            ttl: route::ttl(route),
            body: Any {
                type_url: Kind::Route.type_url().to_owned(),
                value: route::encode(route).encode_to_vec(),
            },
        };
        self.by_name[Kind::Route].insert(route.name.clone(), Arc::new(resource));
    }

    pub fn insert_cluster(&mut self, cluster: &Cluster) {
        let Cluster { name, endpoints } = cluster;
        let mut insert = |kind: Kind, version: String, value: Vec<u8>| {
            let body = Any {
                type_url: kind.type_url().to_owned(),
                value,
            };
            let resource = Resource {
                name: name.clone(),
                version,
                aliases: Vec::new(),
                rollout: None,
                clusters: Vec::new(),
                ttl: None,
                body,
            };
            self.by_name[kind].insert(name.clone(), Arc::new(resource));
        };
        insert(
            Kind::Cluster,
            hash(name),
            cluster::encode(cluster).encode_to_vec(),
        );
        insert(
            Kind::Endpoints,
            hash(&(name, endpoints)),
            cluster::encode_endpoints(cluster).encode_to_vec(),
        );
    }

    /// Takes over a route from `before`, where it was the same; `false` if it was not there.
    pub fn carry_route(&mut self, before: &Resources, name: &str) -> bool {
        let Some(route) = before.by_name[Kind::Route].get(name) else {
            return false;
        };
        let aliases = route
            .aliases
            .iter()
            .map(|alias| (alias.clone(), route.name.clone()));
        self.aliases.extend(aliases);
        self.by_name[Kind::Route].insert(route.name.clone(), Arc::clone(route));
        true
    }

    /// Takes over a cluster and its endpoints from `before`, where they were the same; `false` if they were not there.
    pub fn carry_cluster(&mut self, before: &Resources, name: &str) -> bool {
        let of_kind = |kind: Kind| before.by_name[kind].get(name);
        let (Some(cluster), Some(endpoints)) = (of_kind(Kind::Cluster), of_kind(Kind::Endpoints))
        else {
            return false;
        };
        self.by_name[Kind::Cluster].insert(name.to_owned(), Arc::clone(cluster));
        self.by_name[Kind::Endpoints].insert(name.to_owned(), Arc::clone(endpoints));
        true
    }

    /// The resource that answers to `name`: its own name, or one of its aliases.
    pub fn resolve(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        let of_kind = &self.by_name[kind];
        of_kind.get(name).or_else(|| match kind {
            Kind::Route => of_kind.get(self.aliases.get(name)?),
            Kind::Cluster | Kind::Endpoints => None,
        })
    }

    /// How many resources of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.by_name[kind].len()
    }
}

/// Taken apart, so that a new field cannot be forgotten here.
fn route_version(route: &Route, destinations: &[SocketAddr]) -> String {
    let Route {
        name,
        namespace,
        service,
        port,
        protocol,
        rollout,
        split,
        revoked,
    } = route;
    hash(&(
        (name, namespace, service, port),
        protocol,
        rollout,
        split,
        revoked,
        destinations,
    ))
}

fn hash(content: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{cluster, route, world};
    use traffic_core::config::{Endpoint, Health};

    #[test]
    fn an_alias_names_a_destination_in_both_address_families() {
        for text in ["10.96.0.1:80", "[fd00::1]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(alias(address), format!("dst/{text}"));
            assert_eq!(destination(&alias(address)), Some(address));
        }
        assert_eq!(destination("shop/web/80"), None);
        assert_eq!(destination("dst/web:80"), None);
    }

    #[test]
    fn a_route_is_found_by_its_name_and_by_every_destination() {
        let world = world(&[route("web", 0)], &[]);
        for name in ["shop/web/80", "dst/10.96.0.1:80", "dst/[fd00::1]:80"] {
            assert_eq!(
                world
                    .resolve(Kind::Route, name)
                    .map(|found| found.name.as_str()),
                Some("shop/web/80")
            );
        }
        assert!(world.resolve(Kind::Cluster, "dst/10.96.0.1:80").is_none());
    }

    #[test]
    fn what_is_carried_over_answers_to_the_same_names() {
        let before = world(&[route("web", 0)], &[cluster("c", &["10.1.0.1:80"])]);
        let mut after = Resources::default();
        assert!(after.carry_route(&before, "shop/web/80") && after.carry_cluster(&before, "c"));
        for (kind, name) in [
            (Kind::Route, "shop/web/80"),
            (Kind::Route, "dst/10.96.0.1:80"),
            (Kind::Route, "dst/[fd00::1]:80"),
            (Kind::Cluster, "c"),
            (Kind::Endpoints, "c"),
        ] {
            let (old, new) = (
                before.resolve(kind, name).unwrap(),
                after.resolve(kind, name).unwrap(),
            );
            assert!(Arc::ptr_eq(old, new), "{kind} {name}");
        }
        assert!(!after.carry_route(&before, "other") && !after.carry_cluster(&before, "other"));
    }

    #[test]
    fn a_version_follows_the_content_and_nothing_else() {
        let version = |world: &Resources, kind, name: &str| {
            world.resolve(kind, name).unwrap().version.clone()
        };
        let same = version(&world(&[route("web", 10)], &[]), Kind::Route, "shop/web/80");
        assert_eq!(
            version(&world(&[route("web", 10)], &[]), Kind::Route, "shop/web/80"),
            same
        );
        assert_ne!(
            version(&world(&[route("web", 11)], &[]), Kind::Route, "shop/web/80"),
            same
        );

        let with = |endpoints: Vec<Endpoint>| {
            let mut resources = Resources::default();
            resources.insert_cluster(&Cluster {
                name: "c".to_owned(),
                endpoints,
            });
            resources
        };
        let one = Endpoint {
            address: "10.1.0.1:80".parse().unwrap(),
            health: Health::Healthy,
        };
        let (empty, full) = (with(Vec::new()), with(vec![one]));
        assert_ne!(
            version(&empty, Kind::Endpoints, "c"),
            version(&full, Kind::Endpoints, "c")
        );
        // Endpoints come and go: the cluster resource must not, or Envoy warms it again.
        assert_eq!(
            version(&empty, Kind::Cluster, "c"),
            version(&full, Kind::Cluster, "c")
        );
    }
}
