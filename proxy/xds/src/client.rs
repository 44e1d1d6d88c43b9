//! The same stream as the proxy sees it, without I/O.
//!
//! ```text
//!   demand(dst) ─> RDS dst/<ip>:<port> ─> route ─> CDS and EDS of its clusters ─> Snapshot ─> install ─> ACK
//!   demand(app) ─> RDS app/<ip>:<port> ─────^
//!   connected() ─> LDS inbound/self ─────────────────────────────────────────────────^
//! ```
//!
//! Guarantees:
//! - tear-free: a new route becomes visible when the endpoints of all its clusters are known; until then the old one stays.
//!   A canary at weight 0 gets no requests and is not waited for: lowering depends on nothing;
//! - an ACK says "installed", not "received": it leaves when the shell has confirmed a snapshot that shows the resource;
//! - a bad resource rejects only itself; the last good one stays and the NACK carries the reason;
//! - what to do with what comes in stays as it was said last, also when it is no longer said;
//! - a canary's weight is only lent: when it is not renewed in time it decays to stable, is no longer acknowledged, and is asked
//!   for again;
//! - when the stream is lost the snapshot stays; the next stream starts with what is installed, so that only changes are sent.
//!
//! The last [`MOST_DESTINATIONS`] destinations are remembered; one that was forgotten is asked for again when it is called again.
//! Revocations are the data plane's business.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use traffic_core::config::{Cluster, Inbound, Route, Snapshot, Wanted};
use traffic_core::inbound::Unidentified;

use crate::kind::{ByKind, Kind, LISTENER};
use crate::node::{self, Node};
use crate::resources::{INBOUND, alias};
use crate::{Request, Response};

mod acks;
mod leases;
mod receive;
mod standing;
mod visible;

use acks::Awaiting;
use leases::Leases;
pub use standing::{Exchanged, Rejection, Standing};

/// A pod calls a bounded number of Services; one that scans addresses must not fill the control plane's memory, nor reach the
/// limit at which that ends the stream.
pub const MOST_DESTINATIONS: usize = 1000;

/// Counts snapshots: [`DeltaClient::installed`] says which one every worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

/// What the shell has to do after an event.
#[derive(Debug, Default)]
pub struct Output {
    /// To send, in this order.
    pub requests: Vec<Request>,
    /// To install, and then to confirm by its generation.
    pub snapshot: Option<(Generation, Arc<Snapshot>)>,
    /// The text of a NACK that is among the requests.
    pub rejected: Option<String>,
    /// Names of routes whose leases have ended.
    pub lapsed: Vec<String>,
}

#[derive(Debug, Default)]
pub struct DeltaClient {
    destinations: BTreeMap<Wanted, Destination>,
    /// In the order in which they were demanded.
    demanded: VecDeque<Wanted>,
    /// The newest that was received, by name.
    routes: HashMap<String, Arc<HeldRoute>>,
    /// Those that a received or a visible route names.
    clusters: BTreeMap<String, HeldCluster>,
    stream: Option<Stream>,
    inbound: Option<HeldInbound>,
    /// Whether the control plane of the next stream does not know of listeners: asked for one, it would end the stream.
    without_listener: bool,
    /// Whether the control plane is to know that this proxy accepts mutual TLS.
    accepts: bool,
    leases: Leases,
    snapshot: Arc<Snapshot>,
    generation: Generation,
    installed: Generation,
    exchanged: ByKind<Exchanged>,
    last_rejection: Option<Rejection>,
}

#[derive(Debug, Default)]
struct Destination {
    answer: Answer,
    /// What the snapshot shows; `None` until there was something to show.
    shown: Option<Shown>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    Awaited,
    /// The control plane knows no route there.
    Nowhere,
    /// The route's name.
    Route(String),
}

#[derive(Debug)]
enum Shown {
    PassThrough,
    Route(Arc<HeldRoute>),
}

#[derive(Debug)]
struct HeldRoute {
    version: String,
    route: Arc<Route>,
}

/// A subscribed cluster. The endpoints outlive their removal as long as a visible route names them.
#[derive(Debug, Default)]
struct HeldCluster {
    cluster_version: Option<String>,
    endpoints_version: Option<String>,
    cluster: Option<Arc<Cluster>>,
}

/// What to do with what comes in.
#[derive(Debug)]
struct HeldInbound {
    version: String,
    inbound: Arc<Inbound>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Its control plane has been asked for listeners.
    listens: bool,
    awaiting: Vec<Awaiting>,
}

impl DeltaClient {
    /// `chance` (0..1) is this proxy's place in the jitter of leases that end.
    pub fn new(chance: f64) -> DeltaClient {
        DeltaClient {
            leases: Leases::with_chance(chance),
            ..DeltaClient::default()
        }
    }

    /// The pod calls these destinations, or is called at these addresses.
    pub fn demand(&mut self, destinations: impl IntoIterator<Item = impl Into<Wanted>>) -> Output {
        let mut output = Output::default();
        let mut fresh = Vec::new();
        for destination in destinations.into_iter().map(Into::into) {
            self.destinations.entry(destination).or_insert_with(|| {
                fresh.push(alias(destination));
                self.demanded.push_back(destination);
                Destination::default()
            });
        }
        if fresh.is_empty() {
            return output;
        }
        let forgotten = self.forget_destinations();
        let settle = !forgotten.is_empty();
        if self.stream.is_some() {
            output.requests.push(Request {
                resource_names_unsubscribe: forgotten,
                ..subscribe(Kind::Route, fresh)
            });
        }
        if settle {
            self.settle(&mut output);
        }
        output
    }

    /// From now on this proxy accepts mutual TLS, and the control plane of each stream is told so, by a subscription that ends with the stream. There need not
    /// be an answer: one that does not know the name says that there is no such route.
    pub fn accept_tls(&mut self) -> Output {
        let mut output = Output::default();
        if !std::mem::replace(&mut self.accepts, true) && self.stream.is_some() {
            let name = INBOUND.to_owned();
            output.requests.push(subscribe(Kind::Route, vec![name]));
        }
        output
    }

    /// Tells the control plane who has called this pod without an identity, and how long ago; nothing as long as probes are not known.
    pub fn report(&mut self, seen: &[(Unidentified, Duration)]) -> Output {
        let mut output = Output::default();
        let listens = self.stream.as_ref().is_some_and(|stream| stream.listens);
        if listens && self.inbound.is_some() {
            output.requests.push(Request {
                node: Some(node::encode_report(seen)),
                ..subscribe(Kind::Listener, Vec::new())
            });
        }
        output
    }

    /// Makes room, first of destinations that have no route; gives their aliases.
    fn forget_destinations(&mut self) -> Vec<String> {
        let mut forgotten = Vec::new();
        while self.demanded.len() > MOST_DESTINATIONS {
            let nowhere = |address: &Wanted| {
                let known = self.destinations.get(address);
                known.is_none_or(|each| each.answer == Answer::Nowhere)
            };
            let oldest = self.demanded.iter().position(nowhere).unwrap_or(0);
            if let Some(address) = self.demanded.remove(oldest) {
                self.destinations.remove(&address);
                forgotten.push(alias(address));
            }
        }
        forgotten
    }

    /// A stream is open: says who we are, what we want and what we have.
    pub fn connected(&mut self, node: &Node) -> Output {
        self.resume();
        let mut versions: ByKind<HashMap<String, String>> = ByKind::default();
        versions[Kind::Route] = self
            .routes
            .iter()
            .filter(|(name, held)| !self.leases.has_lapsed(name, &held.version))
            .map(|(name, held)| (name.clone(), held.version.clone()))
            .collect();
        for (name, held) in &self.clusters {
            let known =
                |version: &Option<String>| version.clone().map(|version| (name.clone(), version));
            versions[Kind::Cluster].extend(known(&held.cluster_version));
            versions[Kind::Endpoints].extend(known(&held.endpoints_version));
        }
        if let Some(held) = &self.inbound {
            versions[Kind::Listener].insert(INBOUND.to_owned(), held.version.clone());
        }
        let request = |kind: Kind, names: Vec<String>| Request {
            initial_resource_versions: versions[kind].clone(),
            ..subscribe(kind, names)
        };
        // Routes go first even when there are none: the control plane counts this proxy from here on.
        let destinations = self.destinations.keys().copied().map(alias);
        let accepts = self.accepts.then(|| INBOUND.to_owned());
        let routes = request(Kind::Route, destinations.chain(accepts).collect());
        let mut requests = vec![Request {
            node: Some(node::encode(node)),
            ..routes
        }];
        let listens = !std::mem::take(&mut self.without_listener);
        self.stream = Some(Stream {
            listens,
            ..Stream::default()
        });
        if listens {
            requests.push(request(Kind::Listener, vec![INBOUND.to_owned()]));
        }
        // No names would mean all clusters.
        if !self.clusters.is_empty() {
            let names: Vec<String> = self.clusters.keys().cloned().collect();
            requests.push(request(Kind::Cluster, names.clone()));
            requests.push(request(Kind::Endpoints, names));
        }
        Output {
            requests,
            ..Output::default()
        }
    }

    /// The stream is lost; the snapshot stays.
    pub fn disconnected(&mut self) {
        self.stream = None;
    }

    /// The control plane ended the stream and said this. One of an older version says so of a kind of resources that it does not know: the next stream does
    /// without listeners, and the one after it asks again.
    pub fn ended_with(&mut self, text: &str) {
        self.without_listener = text.contains(LISTENER);
    }

    pub fn received(&mut self, response: Response, now: Instant) -> Output {
        let mut output = Output::default();
        if self.stream.is_some() {
            self.receive(response, now, &mut output);
            self.settle(&mut output);
        }
        output
    }

    /// Every worker has the snapshot of this generation, or a newer one.
    pub fn installed(&mut self, generation: Generation) -> Output {
        self.installed = self.installed.max(generation);
        let mut output = Output::default();
        self.acknowledge(&mut output);
        output
    }

    /// When [`DeltaClient::lapse`] has something to do.
    pub fn lapses_at(&self) -> Option<Instant> {
        self.leases.next()
    }

    /// Takes back canaries' weights that were not renewed in time. If there is a stream, the control plane is asked for them
    /// again: it must not go on believing that they are in use, and an acknowledgement that is still due counts no more.
    pub fn lapse(&mut self, now: Instant) -> Output {
        let mut output = Output::default();
        let mut again = Vec::new();
        for (name, version) in self.leases.lapse(now) {
            if self
                .routes
                .get(&name)
                .is_some_and(|held| held.version == version)
            {
                let named = Answer::Route(name.clone());
                let destinations = self.destinations.iter();
                let named = destinations.filter(|(_, each)| each.answer == named);
                again.extend(named.map(|(destination, _)| alias(*destination)));
            }
            output.lapsed.push(name);
        }
        if output.lapsed.is_empty() {
            return output;
        }
        if self.stream.is_some() && !again.is_empty() {
            output.requests.push(subscribe(Kind::Route, again));
        }
        self.publish(&mut output);
        self.acknowledge(&mut output);
        output
    }

    /// Routes that are visible, for the log line when the stream is lost.
    pub fn visible_routes(&self) -> usize {
        self.snapshot
            .routes
            .values()
            .flatten()
            .map(|route| route.name.as_str())
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Goes back to what is visible: what was received and never shown is asked for again.
    fn resume(&mut self) {
        self.routes.clear();
        for destination in self.destinations.values_mut() {
            destination.answer = match &destination.shown {
                Some(Shown::Route(held)) => {
                    self.routes
                        .insert(held.route.name.clone(), Arc::clone(held));
                    Answer::Route(held.route.name.clone())
                }
                Some(Shown::PassThrough) | None => Answer::Awaited,
            };
        }
        let wanted = self.wanted_clusters();
        self.clusters.retain(|name, _| wanted.contains(name));
    }

    fn settle(&mut self, output: &mut Output) {
        self.show();
        self.forget_routes();
        self.follow_clusters(output);
        self.publish(output);
        self.acknowledge(output);
    }
}

fn subscribe(kind: Kind, names: Vec<String>) -> Request {
    Request {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: names,
        ..Request::default()
    }
}

#[cfg(test)]
mod tests;
