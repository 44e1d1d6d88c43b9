//! Everything the control plane serves, encoded once and shared by all streams; a change touches what changed and nothing else.
//!
//! A version is a hash of the content (of the validated value: protobuf maps have no order), so the same content has the same
//! version in every process, and a proxy that reconnects to a restarted control plane is sent only what did change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use traffic_core::config::{Cluster, Inbound, Route, Wanted};

use crate::kind::{ByKind, Kind};
pub use crate::listener::INBOUND;
use crate::{cluster, listener, route};

const DESTINATION: &str = "dst/";
const APPLICATION: &str = "app/";

/// The name under which a proxy asks for a route: `dst/<ip>:<port>`, or `app/<ip>:<port>`.
pub fn alias(wanted: impl Into<Wanted>) -> String {
    match wanted.into() {
        Wanted::Destination(address) => format!("{DESTINATION}{address}"),
        Wanted::Application(address) => format!("{APPLICATION}{address}"),
    }
}

/// What is asked for by an alias.
pub fn wanted(alias: &str) -> Option<Wanted> {
    let address = |text: &str| text.parse().ok();
    match alias.strip_prefix(DESTINATION) {
        Some(text) => address(text).map(Wanted::Destination),
        None => address(alias.strip_prefix(APPLICATION)?).map(Wanted::Application),
    }
}

/// The destination in an alias, if it is one's.
pub fn destination(alias: &str) -> Option<SocketAddr> {
    match wanted(alias)? {
        Wanted::Destination(address) => Some(address),
        Wanted::Application(_) => None,
    }
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
    pub(crate) body: Vec<u8>,
}

impl Resource {
    pub(crate) fn wire_body(&self, kind: Kind) -> Any {
        Any {
            type_url: kind.type_url().to_owned(),
            value: self.body.clone(),
        }
    }
}

/// What is served now. A resource is replaced, never changed: streams share it.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    by_name: ByKind<BTreeMap<String, Arc<Resource>>>,
    /// From a route's alias to its name.
    aliases: HashMap<String, String>,
    /// The same of applications, of which several Services may select one: the first by name answers.
    applications: HashMap<String, BTreeSet<String>>,
    /// The applications of a route, sorted.
    of_route: HashMap<String, Vec<String>>,
    /// The names of a rollout's routes.
    of_rollout: HashMap<String, BTreeSet<String>>,
    /// The listeners in use, by version: most pods have the same one.
    listeners: HashMap<String, Arc<Resource>>,
}

impl Resources {
    /// Says whether that is another one than before.
    pub fn insert_route(&mut self, route: &Route, destinations: &[SocketAddr]) -> bool {
        let mut destinations = destinations.to_vec();
        destinations.sort_unstable();
        destinations.dedup();
        let version = route_version(route, &destinations);
        if self.has(Kind::Route, &route.name, &version) {
            return false;
        }
        let aliases = destinations.iter().copied().map(Wanted::Destination);
        let aliases: Vec<String> = aliases.map(alias).collect();
        let arms = std::iter::once(&route.split.stable)
            .chain(route.split.canary.iter().map(|canary| &canary.arm));
        let resource = Resource {
            name: route.name.clone(),
            version,
            aliases,
            rollout: Some(route.rollout.clone()),
            clusters: arms.map(|arm| arm.cluster.clone()).collect(),
            ttl: route::ttl(route),
            body: route::encode(route).encode_to_vec(),
        };
        self.forget_route(&route.name);
        let aliases = resource.aliases.iter();
        self.aliases
            .extend(aliases.map(|alias| (alias.clone(), route.name.clone())));
        let of_rollout = self.of_rollout.entry(route.rollout.clone()).or_default();
        of_rollout.insert(route.name.clone());
        self.by_name[Kind::Route].insert(route.name.clone(), Arc::new(resource));
        true
    }

    /// The route is that of these applications from now on. Gives the names that are answered in another way than before. Endpoints come and go, so
    /// they are no part of the route's version.
    pub fn set_applications(&mut self, route: &str, addresses: &[SocketAddr]) -> Vec<String> {
        let names = addresses.iter().copied().map(Wanted::Application);
        let mut names: Vec<String> = names.map(alias).collect();
        names.sort_unstable();
        names.dedup();
        let before = if names.is_empty() {
            self.of_route.remove(route).unwrap_or_default()
        } else {
            let before = self.of_route.insert(route.to_owned(), names.clone());
            before.unwrap_or_default()
        };
        if before == names {
            return Vec::new();
        }
        for name in &before {
            if let Some(routes) = self.applications.get_mut(name) {
                routes.remove(route);
                if routes.is_empty() {
                    self.applications.remove(name);
                }
            }
        }
        for name in &names {
            let routes = self.applications.entry(name.clone()).or_default();
            routes.insert(route.to_owned());
        }
        let concerned: BTreeSet<String> = before.into_iter().chain(names).collect();
        concerned.into_iter().collect()
    }

    /// The names of the applications that a route is that of.
    pub fn applications_of(&self, route: &str) -> &[String] {
        self.of_route.get(route).map_or(&[], Vec::as_slice)
    }

    /// Says of which kinds there is another resource than before.
    pub fn insert_cluster(&mut self, cluster: &Cluster) -> Vec<Kind> {
        let Cluster { name, endpoints } = cluster;
        let mut insert = |kind: Kind, version: String, encode: fn(&Cluster) -> Vec<u8>| {
            if self.has(kind, name, &version) {
                return None;
            }
            let resource = Resource {
                name: name.clone(),
                version,
                aliases: Vec::new(),
                rollout: None,
                clusters: Vec::new(),
                ttl: None,
                body: encode(cluster),
            };
            self.by_name[kind].insert(name.clone(), Arc::new(resource));
            Some(kind)
        };
        let definition = insert(Kind::Cluster, hash(name), |cluster| {
            cluster::encode(cluster).encode_to_vec()
        });
        let endpoints = insert(Kind::Endpoints, hash(&(name, endpoints)), |cluster| {
            cluster::encode_endpoints(cluster).encode_to_vec()
        });
        definition.into_iter().chain(endpoints).collect()
    }

    /// `false`: there was none.
    pub fn remove_route(&mut self, name: &str) -> bool {
        self.forget_route(name);
        self.by_name[Kind::Route].remove(name).is_some()
    }

    /// The cluster and its endpoints; `false`: there were none.
    pub fn remove_cluster(&mut self, name: &str) -> bool {
        self.by_name[Kind::Endpoints].remove(name);
        self.by_name[Kind::Cluster].remove(name).is_some()
    }

    /// What the pod (`<ns>/<name>`) does with what comes in. Says whether that is another way than before.
    pub fn insert_inbound(&mut self, pod: &str, inbound: &Inbound) -> bool {
        let version = inbound_version(inbound);
        if self.has(Kind::Listener, pod, &version) {
            return false;
        }
        let known = self.listeners.entry(version.clone()).or_insert_with(|| {
            Arc::new(Resource {
                name: INBOUND.to_owned(),
                version,
                aliases: Vec::new(),
                rollout: None,
                clusters: Vec::new(),
                ttl: None,
                body: listener::encode(inbound).encode_to_vec(),
            })
        });
        let known = Arc::clone(known);
        let before = self.by_name[Kind::Listener].insert(pod.to_owned(), known);
        self.drop_listener(before);
        true
    }

    /// Nothing is known of the pod. `false`: nothing was.
    pub fn remove_inbound(&mut self, pod: &str) -> bool {
        let before = self.by_name[Kind::Listener].remove(pod);
        let was = before.is_some();
        self.drop_listener(before);
        was
    }

    /// One that was a pod's is kept as long as it is another one's.
    fn drop_listener(&mut self, of: Option<Arc<Resource>>) {
        // Its own place, and this one.
        if let Some(last) = of.filter(|of| Arc::strong_count(of) <= 2) {
            self.listeners.remove(&last.version);
        }
    }

    /// The names of all resources of a kind; of listeners, the pods that they are of.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &String> {
        self.by_name[kind].keys()
    }

    fn has(&self, kind: Kind, name: &str, version: &str) -> bool {
        let known = self.by_name[kind].get(name);
        known.is_some_and(|known| known.version == version)
    }

    /// The routes of a rollout.
    pub fn routes_of(&self, rollout: &str) -> impl Iterator<Item = &Arc<Resource>> {
        let names = self.of_rollout.get(rollout).into_iter().flatten();
        names.filter_map(|name| self.by_name[Kind::Route].get(name))
    }

    /// What it is found by. An address that another route has taken over by now stays that one's.
    fn forget_route(&mut self, name: &str) {
        let Some(before) = self.by_name[Kind::Route].get(name) else {
            return;
        };
        for alias in &before.aliases {
            if self.aliases.get(alias).is_some_and(|of| of == name) {
                self.aliases.remove(alias);
            }
        }
        let rollout = before.rollout.as_deref().unwrap_or_default();
        if let Some(routes) = self.of_rollout.get_mut(rollout) {
            routes.remove(name);
            if routes.is_empty() {
                self.of_rollout.remove(rollout);
            }
        }
    }

    /// The resource that answers to `name`: its own name, or one of its aliases; of a listener, the pod that it is of.
    pub fn resolve(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        let of_kind = &self.by_name[kind];
        of_kind.get(name).or_else(|| match kind {
            Kind::Route => match self.aliases.get(name) {
                Some(route) => of_kind.get(route),
                None => of_kind.get(self.applications.get(name)?.first()?),
            },
            Kind::Cluster | Kind::Endpoints | Kind::Listener => None,
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
        bounds,
        revoked,
    } = route;
    hash(&(
        (name, namespace, service, port),
        protocol,
        rollout,
        split,
        bounds,
        revoked,
        destinations,
    ))
}

/// Taken apart, so that a new field cannot be forgotten here.
fn inbound_version(inbound: &Inbound) -> String {
    let Inbound {
        mtls,
        probes,
        callers,
    } = inbound;
    hash(&(mtls, probes, callers))
}

fn hash(content: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{cluster, destinations, route, world};
    use traffic_core::config::{Endpoint, Health};

    #[test]
    fn an_alias_names_a_destination_in_both_address_families() {
        for text in ["10.96.0.1:80", "[fd00::1]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            for (asked, name) in [
                (Wanted::Destination(address), format!("dst/{text}")),
                (Wanted::Application(address), format!("app/{text}")),
            ] {
                assert_eq!(alias(asked), name);
                assert_eq!(wanted(&name), Some(asked));
            }
        }
        for other in ["shop/web/80", "dst/web:80", "app/web:80", INBOUND] {
            assert_eq!(wanted(other), None, "{other}");
        }
    }

    #[test]
    fn an_application_of_two_services_has_the_route_of_the_first_by_name() {
        let mut world = world(&[route("web", 10), route("api", 10)], &[]);
        let address: SocketAddr = "10.1.0.1:8080".parse().unwrap();
        let name = alias(Wanted::Application(address));
        let found = |world: &Resources| {
            let found = world.resolve(Kind::Route, &name);
            found.map(|found| found.name.clone())
        };
        assert_eq!(found(&world), None);
        let concerned = world.set_applications("shop/web/80", &[address]);
        assert_eq!(concerned, std::slice::from_ref(&name));
        assert_eq!(found(&world).as_deref(), Some("shop/web/80"));
        world.set_applications("shop/api/80", &[address]);
        assert_eq!(found(&world).as_deref(), Some("shop/api/80"));
        assert!(world.set_applications("shop/api/80", &[address]).is_empty());
        let concerned = world.set_applications("shop/api/80", &[]);
        assert_eq!(concerned, std::slice::from_ref(&name));
        assert_eq!(found(&world).as_deref(), Some("shop/web/80"));
        world.set_applications("shop/web/80", &[]);
        assert_eq!(found(&world), None);
        assert!(world.applications.is_empty() && world.of_route.is_empty());
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
    fn only_what_is_another_one_is_replaced_and_what_is_removed_answers_to_no_name() {
        let mut world = world(&[route("web", 10)], &[cluster("c", &["10.1.0.1:80"])]);
        let before = Arc::clone(world.resolve(Kind::Route, "shop/web/80").unwrap());
        assert!(!world.insert_route(&route("web", 10), &destinations("web")));
        assert!(Arc::ptr_eq(
            &before,
            world.resolve(Kind::Route, "shop/web/80").unwrap()
        ));
        assert!(world.insert_route(&route("web", 20), &destinations("web")[..1]));
        assert!(world.resolve(Kind::Route, "dst/10.96.0.1:80").is_some());
        assert!(
            world.resolve(Kind::Route, "dst/[fd00::1]:80").is_none(),
            "an address that it gave up"
        );
        assert!(
            world
                .insert_cluster(&cluster("c", &["10.1.0.1:80"]))
                .is_empty()
        );
        assert_eq!(world.insert_cluster(&cluster("c", &[])), [Kind::Endpoints]);
        assert!(world.remove_route("shop/web/80") && !world.remove_route("shop/web/80"));
        assert!(world.remove_cluster("c") && !world.remove_cluster("c"));
        for (kind, name) in [
            (Kind::Route, "dst/10.96.0.1:80"),
            (Kind::Cluster, "c"),
            (Kind::Endpoints, "c"),
        ] {
            assert!(world.resolve(kind, name).is_none(), "{kind} {name}");
        }
    }

    #[test]
    fn an_address_that_moves_to_another_route_stays_there() {
        let mut world = world(&[route("web", 0)], &[]);
        world.insert_route(&route("api", 0), &destinations("web"));
        world.remove_route("shop/web/80");
        let found = world.resolve(Kind::Route, "dst/10.96.0.1:80").unwrap();
        assert_eq!(found.name, "shop/api/80");
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
            identity: None,
            workload: None,
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

    #[test]
    fn pods_with_the_same_rules_share_them_and_nothing_is_left_of_those_that_are_gone() {
        use traffic_core::inbound::Mtls;
        let strict = Inbound {
            mtls: Mtls::Strict,
            ..Inbound::default()
        };
        let mut world = Resources::default();
        assert!(world.insert_inbound("shop/a", &strict) && world.insert_inbound("shop/b", &strict));
        assert!(!world.insert_inbound("shop/a", &strict));
        let of = |world: &Resources, pod: &str| world.resolve(Kind::Listener, pod).cloned();
        let (a, b) = (of(&world, "shop/a").unwrap(), of(&world, "shop/b").unwrap());
        assert!(Arc::ptr_eq(&a, &b) && a.name == INBOUND);
        drop(b);
        assert!(world.insert_inbound("shop/a", &Inbound::default()));
        assert_ne!(of(&world, "shop/a").unwrap().version, a.version);
        drop(a);
        assert_eq!(world.listeners.len(), 2);
        assert!(world.remove_inbound("shop/b") && !world.remove_inbound("shop/b"));
        assert_eq!(world.listeners.len(), 1);
        assert!(of(&world, "shop/b").is_none() && of(&world, INBOUND).is_none());
        world.remove_inbound("shop/a");
        assert!(world.listeners.is_empty());
    }
}
