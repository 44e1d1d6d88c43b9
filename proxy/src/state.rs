//! What one worker knows: destinations, endpoints with their pools, the application's ports. Nothing in here is shared with another thread but
//! the counters and the splits, so nothing on the way of a request takes a lock or a channel.

mod access;
pub mod application;
pub mod destination;
mod endpoints;
pub mod fuse;
pub mod outcomes;
pub(crate) mod rate;
pub mod retries;
pub mod withdrawal;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use traffic_core::balance;
use traffic_core::config::{Inbound, Wanted};
use traffic_core::inbound::Probe;
use traffic_core::outcome::{Counts, Second};

use crate::clock::WallClock;
use crate::control::{Demand, Outcome};
use crate::drain::{Phases, Unwritten};
use crate::endpoint::way::Way;
use crate::endpoint::{Connections, Endpoint};
use crate::identity::Generation;
use crate::limits::Limits;
use crate::link::LinkState;
use crate::metrics::{ArmMetrics, Metrics, PortMetrics};
use crate::net::buffers::Buffers;
use crate::net::connect::Path;
use crate::net::local::Local;
use crate::net::origin::{OriginalDestination, OwnListeners};
use crate::plaintext::PlainCallers;
use crate::table::{ReadyRoute, Table};
use crate::telemetry::Telemetry;
use access::Access;
use application::{Application, Asking, Unproven};
use destination::{Arm, Destination, LocalRoute};
use endpoints::Endpoints;
use fuse::RouteFuse;
use outcomes::Outcomes;
use retries::RouteRetries;
use withdrawal::Withdrawals;

/// How long a connection waits for the control plane's answer about its destination.
const ANSWER: Duration = Duration::from_secs(1);

/// What all workers have in common.
#[derive(Clone)]
pub struct Common {
    pub metrics: Arc<Metrics>,
    pub clock: Arc<WallClock>,
    pub link: Arc<LinkState>,
    pub origin: Arc<dyn OriginalDestination>,
    pub own: Arc<OwnListeners>,
    pub demands: mpsc::Sender<Demand>,
    pub phases: Phases,
    /// What this proxy writes into the requests that it has picked a revision for, and expects back from a sidecar that did not deliver one.
    pub token: Arc<str>,
    pub limits: Limits,
    /// Probes that are asked under another name than the pod's address.
    pub probes_elsewhere: Arc<[Probe]>,
    /// What to do with what comes in, until the control plane has said it.
    pub until_told: Arc<Inbound>,
    /// How many requests the application gets.
    pub limiter: rate::Shared,
    /// Who has called without an identity.
    pub plaintext: Arc<PlainCallers>,
    /// Who wants to know of single requests; `None`: nobody.
    pub telemetry: Option<Arc<Telemetry>>,
}

pub struct State {
    pub common: Common,
    /// The token, as it goes into heads of HTTP/2.
    pub mark: HeaderValue,
    pub buffers: Rc<Buffers>,
    pub local: Local,
    pub outcomes: Outcomes,
    pub withdrawals: Withdrawals,
    pub unwritten: Rc<Unwritten>,
    destinations: RefCell<HashMap<SocketAddr, Rc<Destination>>>,
    applications: RefCell<HashMap<SocketAddr, Option<Rc<Application>>>>,
    unproven: RefCell<Unproven>,
    endpoints: RefCell<Endpoints>,
    /// What this proxy is to others, once it knows.
    identity: RefCell<Option<Arc<Generation>>>,
    access: Access,
    /// The application's ports, and destinations whose route went away under a connection.
    others: RefCell<HashMap<SocketAddr, Rc<App>>>,
    installed: Notify,
    random: RefCell<fastrand::Rng>,
    log: Cell<Option<Instant>>,
}

/// A port of the application, or any other address that is reached as it is.
#[derive(Debug)]
pub struct App {
    pub endpoint: Rc<Endpoint>,
    /// From the first answer on: a scan of all ports must not create series for each.
    pub metrics: RefCell<Option<Arc<PortMetrics>>>,
    asking: Cell<Asking>,
}

/// What is known about a destination.
#[derive(Debug)]
pub enum Lookup {
    Known(Rc<Destination>),
    NoRoute,
    NoAnswer,
}

impl State {
    pub fn new(common: Common) -> State {
        State {
            access: Access::new(&common.until_told),
            mark: HeaderValue::from_str(&common.token).expect("a token is hexadecimal digits"),
            withdrawals: Withdrawals::new(common.limits.grace),
            common,
            buffers: Rc::default(),
            local: Local::default(),
            outcomes: Outcomes::default(),
            unwritten: Rc::default(),
            destinations: RefCell::default(),
            applications: RefCell::default(),
            unproven: RefCell::default(),
            endpoints: RefCell::default(),
            identity: RefCell::default(),
            others: RefCell::default(),
            installed: Notify::new(),
            random: RefCell::new(fastrand::Rng::new()),
            log: Cell::new(None),
        }
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.common.metrics
    }

    /// What this proxy is to others; `None`: it does not know yet.
    pub fn identity(&self) -> Option<Arc<Generation>> {
        self.identity.borrow().clone()
    }

    /// Takes over a table. From the next pick on it holds; connections are not touched.
    pub fn install(&self, table: &Table) {
        self.identity.replace(table.identity.clone());
        self.access.install(table.inbound.as_ref());
        let arms = self.endpoints.borrow_mut().install(
            table,
            self.metrics(),
            |address| Way::plain(address, self.path(address), self.common.limits.connect),
            |way| Endpoint::new(way, &self.buffers, &self.common.limits),
        );
        let mut routes: HashMap<&str, Rc<LocalRoute>> = HashMap::new();
        let mut destinations = self.destinations.borrow_mut();
        let before = by_name(destinations.values().filter_map(|it| it.route()));
        destinations.retain(|address, destination| {
            let kept = table.routes.contains_key(address);
            if !kept {
                destination.set(None);
            }
            kept
        });
        let now = Instant::now();
        let local = |ready: &Arc<ReadyRoute>, before: &ByName| {
            let is_judged = !ready.route.rollout.is_empty();
            let arm = |metrics: &Arc<ArmMetrics>, cluster: &str| Arm {
                metrics: metrics.clone(),
                endpoints: arms.get(cluster).cloned().unwrap_or_default(),
                ledger: is_judged.then(|| self.outcomes.of(cluster)),
                streams: None,
            };
            let canary = ready.canary.as_ref().zip(ready.split.canary.as_ref());
            let before = before.get(&ready.route.name);
            let fuse = before.and_then(|before| before.fuse.as_ref());
            let retries = before.and_then(|before| before.retries.as_deref());
            Rc::new(LocalRoute {
                fuse: RouteFuse::of(ready, fuse, now),
                retries: RouteRetries::of(ready, retries, now),
                stable: arm(&ready.stable, &ready.split.stable.cluster),
                canary: canary.map(|(metrics, canary)| Arm {
                    streams: self.withdrawals.of(ready),
                    ..arm(metrics, &canary.arm.cluster)
                }),
                ready: ready.clone(),
            })
        };
        for (address, ready) in &table.routes {
            let route = ready.as_ref().map(|ready| {
                let known = routes.entry(&ready.route.name);
                known.or_insert_with(|| local(ready, &before)).clone()
            });
            destinations
                .entry(*address)
                .or_insert_with(|| Rc::new(Destination::new(*address)))
                .set(route);
        }
        let mut applications = self.applications.borrow_mut();
        let before = by_name(applications.values().flatten().map(|it| it.route.clone()));
        let mut routes: HashMap<&str, Rc<LocalRoute>> = HashMap::new();
        let present = table.applications.iter().map(|(address, ready)| {
            let application = ready.as_ref().and_then(|ready| {
                let known = routes.entry(&ready.route.name);
                let route = known.or_insert_with(|| local(ready, &before)).clone();
                Application::new(route, *address, &table.clusters)
            });
            (*address, application)
        });
        *applications = present.collect();
        let others = self.others.borrow();
        // Of what is forgotten again it is asked as if for the first time.
        let told = others
            .values()
            .filter(|app| applications.contains_key(&app.address()));
        told.for_each(|app| app.asking.set(Asking::default()));
        let routes = table.routes.values().chain(table.applications.values());
        self.withdrawals.follow(routes.flatten(), Instant::now());
        self.installed.notify_waiters();
    }

    /// The way to an endpoint of a route.
    fn path(&self, address: SocketAddr) -> Path {
        if self.local.contains(address.ip()) {
            Path::Hairpin
        } else {
            Path::Direct
        }
    }

    /// What to do with a destination; asks the control plane if nobody did.
    pub async fn look_up(&self, address: SocketAddr) -> Lookup {
        if let Some(lookup) = self.known(address) {
            return lookup;
        }
        let wanted = Wanted::Destination(address);
        if self.common.demands.try_send(wanted).is_err() || !self.common.link.is_hopeful() {
            return Lookup::NoAnswer;
        }
        let answer = async {
            loop {
                let installed = self.installed.notified();
                match self.known(address) {
                    Some(lookup) => return lookup,
                    None => installed.await,
                }
            }
        };
        timeout(ANSWER, answer).await.unwrap_or(Lookup::NoAnswer)
    }

    /// Any 64 random bits.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// The present route of a destination.
    pub fn route(&self, address: SocketAddr) -> Option<Rc<LocalRoute>> {
        self.destinations.borrow().get(&address)?.route()
    }

    fn known(&self, address: SocketAddr) -> Option<Lookup> {
        let destination = self.destinations.borrow().get(&address)?.clone();
        Some(match destination.route() {
            Some(_) => Lookup::Known(destination),
            None => Lookup::NoRoute,
        })
    }

    /// One of `endpoints` by load, another one than `not` if there is one.
    pub fn pick(
        &self,
        endpoints: &[Rc<Endpoint>],
        not: Option<SocketAddr>,
        now: Instant,
    ) -> Option<Rc<Endpoint>> {
        let skipped = not.and_then(|not| {
            endpoints
                .iter()
                .position(|endpoint| endpoint.address() == not)
        });
        let skipped = skipped.filter(|_| endpoints.len() > 1);
        let at = |index: usize| match skipped {
            Some(skipped) if index >= skipped => &endpoints[index + 1],
            Some(_) | None => &endpoints[index],
        };
        let count = endpoints.len() - usize::from(skipped.is_some());
        let random = self.random();
        balance::pick(count, |index| at(index).load(), random, now).map(|index| at(index).clone())
    }

    /// An address that is reached as it is.
    pub fn app(&self, address: SocketAddr) -> Rc<App> {
        self.others
            .borrow_mut()
            .entry(address)
            .or_insert_with(|| {
                Rc::new(App {
                    endpoint: Rc::new(Endpoint::new(
                        Way::plain(address, Path::Direct, self.common.limits.connect),
                        &self.buffers,
                        &self.common.limits,
                    )),
                    metrics: RefCell::new(None),
                    asking: Cell::default(),
                })
            })
            .clone()
    }

    /// Whether a warning may be logged now: at most one a second, for things that can happen with every connection.
    pub fn may_log(&self) -> bool {
        let now = Instant::now();
        let may = self
            .log
            .get()
            .is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(1));
        if may {
            self.log.set(Some(now));
        }
        may
    }

    /// What is new of the seconds before `now`, and which streams are open that should not be for long, as of the last of them.
    pub fn tell(&self, now: Second) -> Vec<Outcome> {
        let mut told = self.outcomes.tell(now);
        let open = self.withdrawals.still_open().into_iter();
        told.extend(open.map(|(cluster, open)| Outcome {
            cluster,
            second: now.saturating_sub(1),
            counts: Counts {
                open,
                ..Counts::default()
            },
        }));
        told
    }

    pub fn sweep(&self, now: Instant) {
        self.outcomes.sweep(self.common.clock.second(now));
        self.endpoints.borrow().sweep(now);
        self.others.borrow_mut().retain(|_, app| {
            app.endpoint.sweep(now) == Connections::Some
                || Rc::strong_count(app) > 1
                || app.metrics.borrow().is_some()
        });
    }
}

type ByName = HashMap<String, Rc<LocalRoute>>;

fn by_name(routes: impl Iterator<Item = Rc<LocalRoute>>) -> ByName {
    routes
        .map(|route| (route.ready.route.name.clone(), route))
        .collect()
}
