//! The endpoints of clusters in one worker. Their pools survive every new table, as long as the same address must be the same pod under the same roots: a
//! connection says who was there when it was made, so it serves nobody else's requests.
//!
//! Once this worker has spoken TLS with an endpoint it goes on with it as long as the control plane lists that identity there, also when it says no more that
//! the endpoint accepts TLS: a control plane that has just started has not heard that yet, and nobody who made it forget may read along. To an endpoint that demands
//! TLS nothing goes in the clear: what is called before this proxy has an identity waits for it a moment.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use traffic_core::config::{Cluster, Endpoint as Listed, Health};

use crate::endpoint::Endpoint;
use crate::endpoint::way::{Arrival, Way};
use crate::identity::Generation;
use crate::identity::roots::Roots;
use crate::metrics::Metrics;
use crate::table::Table;

#[derive(Debug, Default)]
pub(super) struct Endpoints {
    all: HashMap<Key, Rc<Endpoint>>,
    /// For those who wait for this proxy's identity.
    arrival: Rc<Arrival>,
    /// Who is spoken to by TLS, and where.
    secured: HashSet<(SocketAddr, Arc<str>)>,
}

/// What a pool belongs to.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    /// Who must be there, and who vouches for that.
    trust: Option<(Arc<str>, Arc<Roots>)>,
    /// Who must be there, as soon as anybody can prove it to this proxy.
    awaited: Option<Arc<str>>,
}

impl Endpoints {
    /// The healthy endpoints of each cluster of `table`, with the pools they had.
    pub(super) fn install<'t>(
        &mut self,
        table: &'t Table,
        metrics: &Arc<Metrics>,
        plain: impl Fn(SocketAddr) -> Way,
        make: impl Fn(Way) -> Endpoint,
    ) -> HashMap<&'t str, Rc<[Rc<Endpoint>]>> {
        let own = table.identity.as_ref();
        self.secured = match own {
            Some(own) => {
                self.arrival.set(own);
                self.by_tls(table)
            }
            None => HashSet::new(),
        };
        let mut old = std::mem::take(&mut self.all);
        let mut arms = HashMap::new();
        for (name, cluster) in &table.clusters {
            let healthy = healthy(cluster).map(|listed| {
                let trust = own.and_then(|own| self.trust(listed, own));
                let address = listed.address;
                let awaited = listed
                    .identity
                    .as_ref()
                    .filter(|it| own.is_none() && it.demands);
                let awaited = awaited.map(|it| it.id.clone());
                let key = Key {
                    address,
                    trust,
                    awaited,
                };
                if let Some(known) = self.all.get(&key) {
                    return known.clone();
                }
                let known = old.remove(&key).unwrap_or_else(|| {
                    let way = plain(address);
                    Rc::new(make(match (&key.trust, own, &key.awaited) {
                        (Some((id, _)), Some(own), _) => {
                            way.secured(id.clone(), own.clone(), metrics.clone())
                        }
                        (_, _, Some(id)) => {
                            way.awaiting(id.clone(), self.arrival.clone(), metrics.clone())
                        }
                        (None, _, None) | (_, None, None) => way,
                    }))
                });
                if let Some(own) = own {
                    known.way().renew(own);
                }
                self.all.insert(key, known.clone());
                known
            });
            let healthy: Rc<[Rc<Endpoint>]> = healthy.collect();
            arms.insert(name.as_str(), healthy);
        }
        arms
    }

    /// Whose pool an endpoint's is; `None`: anybody's who is there.
    fn trust(&self, listed: &Listed, own: &Arc<Generation>) -> Option<(Arc<str>, Arc<Roots>)> {
        let id = &listed.identity.as_ref()?.id;
        let is_secured = self.secured.contains(&(listed.address, id.clone()));
        is_secured.then(|| (id.clone(), own.roots().clone()))
    }

    /// Of those who are listed: who has said that they accept TLS, or takes nothing else, and with whom it was spoken before.
    fn by_tls(&self, table: &Table) -> HashSet<(SocketAddr, Arc<str>)> {
        let listed = table.clusters.values().flat_map(|it| &it.endpoints);
        let mut secured = HashSet::new();
        for Listed {
            address, identity, ..
        } in listed
        {
            let Some(expected) = identity else { continue };
            let key = (*address, expected.id.clone());
            if expected.accepts || expected.demands || self.secured.contains(&key) {
                secured.insert(key);
            }
        }
        secured
    }

    /// Closes connections that were idle too long.
    pub(super) fn sweep(&self, now: Instant) {
        for endpoint in self.all.values() {
            endpoint.sweep(now);
        }
    }
}

fn healthy(cluster: &Cluster) -> impl Iterator<Item = &Listed> {
    let endpoints = cluster.endpoints.iter();
    endpoints.filter(|endpoint| match endpoint.health {
        Health::Healthy => true,
        Health::Draining => false,
    })
}

#[cfg(test)]
mod tests {
    use traffic_core::config::Expected;

    use super::*;
    use crate::identity::testing::{Authority, ID};
    use crate::limits::Limits;
    use crate::metrics::Metrics;
    use crate::net::buffers::Buffers;
    use crate::net::connect::Path;

    const ADDRESS: &str = "10.1.0.1:80";

    /// A worker whose clusters are one endpoint.
    #[derive(Default)]
    struct Worker {
        endpoints: Endpoints,
        metrics: Arc<Metrics>,
        buffers: Rc<Buffers>,
        /// Whether they take nothing else than TLS.
        demands: bool,
    }

    impl Worker {
        fn installs(
            &mut self,
            identity: Option<&Arc<Generation>>,
            health: Health,
            expected: Option<(&str, bool)>,
        ) -> Option<Rc<Endpoint>> {
            let listed = Listed {
                address: ADDRESS.parse().unwrap(),
                health,
                identity: expected.map(|(id, accepts)| Expected {
                    id: id.into(),
                    accepts,
                    demands: self.demands,
                }),
                workload: None,
            };
            let cluster = Cluster {
                name: "c".to_owned(),
                endpoints: vec![listed],
            };
            let table = Table {
                clusters: HashMap::from([("c".to_owned(), Arc::new(cluster))]),
                identity: identity.cloned(),
                ..Table::default()
            };
            let arms = self.endpoints.install(
                &table,
                &self.metrics,
                |address| Way::plain(address, Path::Direct, Limits::default().connect),
                |way| Endpoint::new(way, &self.buffers, &Limits::default()),
            );
            arms["c"].first().cloned()
        }

        /// Healthy, with this identity.
        fn has(
            &mut self,
            identity: Option<&Arc<Generation>>,
            expected: Option<(&str, bool)>,
        ) -> Rc<Endpoint> {
            self.installs(identity, Health::Healthy, expected).unwrap()
        }
    }

    #[test]
    fn tls_begins_with_an_identity_of_our_own_and_an_endpoint_that_accepts() {
        let own = Authority::new().generation(1);
        for (identity, expected, is_secured) in [
            (None, None, false),
            (None, Some((ID, true)), false),
            (Some(&own), None, false),
            (Some(&own), Some((ID, false)), false),
            (Some(&own), Some((ID, true)), true),
        ] {
            let endpoint = Worker::default().has(identity, expected);
            assert_eq!(endpoint.way().is_secured(), is_secured, "{expected:?}");
        }
    }

    #[test]
    fn nothing_goes_in_the_clear_to_whoever_demands_tls() {
        let own = Authority::new().generation(1);
        let mut worker = Worker {
            demands: true,
            ..Worker::default()
        };
        let waiting = worker.has(None, Some((ID, false)));
        assert!(waiting.way().is_secured());
        let same = worker.has(None, Some((ID, true)));
        assert!(Rc::ptr_eq(&waiting, &same));
        let secured = worker.has(Some(&own), Some((ID, false)));
        assert!(secured.way().is_secured() && !Rc::ptr_eq(&waiting, &secured));
        worker.demands = false;
        assert!(!worker.has(None, Some((ID, true))).way().is_secured());
    }

    #[test]
    fn tls_goes_on_as_long_as_the_same_identity_is_listed() {
        let own = Authority::new().generation(1);
        let mut worker = Worker::default();
        let first = worker.has(Some(&own), Some((ID, true)));
        let draining = worker.installs(Some(&own), Health::Draining, Some((ID, false)));
        assert!(draining.is_none());
        assert!(worker.has(Some(&own), Some((ID, false))).way().is_secured());
        // The next one to get the address is somebody else, and so is the one after it.
        let other = worker.has(Some(&own), Some(("spiffe://b/other", false)));
        assert!(!other.way().is_secured() && !Rc::ptr_eq(&first, &other));
        assert!(!worker.has(Some(&own), Some((ID, false))).way().is_secured());
    }

    #[test]
    fn a_pool_belongs_to_an_address_an_identity_and_its_roots() {
        let (authority, other) = (Authority::new(), Authority::new());
        let (own, renewed, rotated) = (
            authority.generation(1),
            authority.generation(2),
            other.generation(3),
        );
        let mut worker = Worker::default();
        let plain = worker.has(None, Some((ID, true)));
        let first = worker.has(Some(&own), Some((ID, true)));
        assert!(!Rc::ptr_eq(&plain, &first), "what was open is not proven");
        let same = worker.has(Some(&renewed), Some((ID, false)));
        assert!(Rc::ptr_eq(&first, &same), "a renewal keeps connections");
        let next = worker.has(Some(&rotated), Some((ID, false)));
        assert!(!Rc::ptr_eq(&first, &next) && next.way().is_secured());
        let moved = worker.has(Some(&rotated), Some(("spiffe://b/other", true)));
        assert!(!Rc::ptr_eq(&next, &moved));
    }
}
