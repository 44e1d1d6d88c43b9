//! One proxy's delta ADS stream as the control plane sees it, without I/O.
//!
//! ```text
//!   Waiting ──next()──> Given{nonce, Pending} ──ACK──> Accepted          changed, gone, asked again ──> next() answers again
//!      └─ Resumed: the proxy already has this version ────^  └──NACK──> Rejected: not sent again until it changes
//! ```
//!
//! The shell gives the time, and calls [`DeltaServer::next`] only when the transport takes a message, so a slow proxy gets the newest state and not
//! a queue of old ones. Guarantees:
//! - every subscribed name is answered, an unknown one with its removal, and nothing that did not change is sent again;
//! - one route per message, so that one bad or slow route holds back no other's acknowledgement;
//! - a route that carries a canary's weight is lent, and renewed as long as the proxy has its current version (see
//!   [`traffic_core::lease`]);
//! - a changed route goes first, behind nothing but changes of the clusters that it names itself (make before break);
//! - clusters and endpoints are removed only when no sent route awaits its acknowledgement;
//! - the one listener that a proxy may ask for, [`INBOUND`], is its own pod's.
//!
//! Not here: wildcard subscriptions. They are refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::Resource as WireResource;

use crate::kind::{ByKind, Kind, UnknownType};
use crate::node::{self, InvalidNode, Node, Report};
use crate::resources::{INBOUND, Resource, Resources};
use crate::{Request, Response};

mod heartbeats;
mod leases;
pub mod limits;
mod standing;
mod subscriptions;

pub use heartbeats::is_heartbeat;
pub use standing::{AcceptedCluster, RouteState, SentRoute};

use leases::Leases;
use limits::Limit;
use subscriptions::{Answer, Given, Subscriptions};

#[derive(Clone, Debug, Default)]
pub struct DeltaServer {
    /// Whose stream it is: `<ns>/<name>`.
    pod: String,
    kinds: ByKind<Subscriptions>,
    last_nonce: u64,
    edition: u64,
    leases: Leases,
    /// No lease is renewed for now.
    keeps_leases: bool,
    /// Whether there was a request.
    greeted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sent, and not yet acknowledged.
    Pending,
    /// The proxy has installed it.
    Accepted,
    /// The proxy keeps what it had before; the text of its NACK, cut to [`limits::LONGEST_REJECTION`].
    Rejected(Arc<str>),
}

/// What a request told us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub kind: Kind,
    /// In the first request of a stream.
    pub node: Option<Node>,
    /// The text of a NACK, cut to [`limits::LONGEST_REJECTION`].
    pub rejection: Option<Arc<str>>,
    /// Who calls the proxy's pod without an identity, if that is what it says.
    pub report: Option<Report>,
}

/// How soon [`DeltaServer::next`] wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// There is nothing to send.
    Nothing,
    /// Endpoints changed: more of that may come in a moment.
    CanWait,
    /// A route changed, or the proxy waits for a first answer.
    Now,
}

/// The stream ends with this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error(transparent)]
    UnknownType(#[from] UnknownType),
    #[error("wildcard subscriptions to {0} resources are not served: subscribe by name")]
    Wildcard(Kind),
    #[error("listener `{0}` is not served: a proxy's own is `{INBOUND}`, and there is no other")]
    Listener(String),
    #[error(transparent)]
    Node(#[from] InvalidNode),
    #[error(transparent)]
    Limit(#[from] Limit),
}

impl DeltaServer {
    /// The stream of this pod (`<ns>/<name>`), which is known from elsewhere.
    pub fn of(pod: String) -> DeltaServer {
        DeltaServer {
            pod,
            ..DeltaServer::default()
        }
    }

    pub fn on_request(&mut self, mut request: Request) -> Result<Received, ProtocolError> {
        let kind = Kind::from_type_url(&request.type_url)?;
        self.edition += 1;
        let node = self.greet(&request)?;
        let report = match &request.node {
            Some(wire) if kind == Kind::Listener && node.is_none() => node::decode_report(wire)?,
            Some(_) | None => None,
        };
        limits::check_report(report.as_ref())?;
        limits::check_names(kind, &request)?;
        self.own(kind, &mut request)?;
        let subscriptions = &mut self.kinds[kind];
        // Subscriptions before the verdict: a stale nonce voids the verdict only.
        subscriptions.change(kind, &mut request)?;
        let rejection = request
            .error_detail
            .map(|status| limits::cut(&status.message));
        if let Ok(nonce) = request.response_nonce.parse() {
            let verdict = rejection
                .clone()
                .map_or(Verdict::Accepted, Verdict::Rejected);
            subscriptions.judge(nonce, verdict);
        }
        Ok(Received {
            kind,
            node,
            rejection,
            report,
        })
    }

    /// A listener is kept by the pod that it is of.
    fn own(&self, kind: Kind, request: &mut Request) -> Result<(), ProtocolError> {
        let Kind::Listener = kind else { return Ok(()) };
        let names = &mut request.resource_names_subscribe;
        for name in names
            .iter_mut()
            .chain(&mut request.resource_names_unsubscribe)
        {
            if name != INBOUND {
                return Err(ProtocolError::Listener(name.chars().take(100).collect()));
            }
            name.clone_from(&self.pod);
        }
        Ok(())
    }

    /// What the first request of the stream says about the proxy; a node in a later one is not read.
    fn greet(&mut self, request: &Request) -> Result<Option<Node>, ProtocolError> {
        let greeted = std::mem::replace(&mut self.greeted, true);
        let Some(wire) = request.node.as_ref().filter(|_| !greeted) else {
            return Ok(None);
        };
        if node::honours_leases(wire) {
            self.leases = Leases::Honoured;
        }
        let node = node::decode(wire)?;
        limits::check_node(&node)?;
        Ok(Some(node))
    }

    /// The next message for this proxy, by what is due most.
    pub fn next(&mut self, resources: &Resources, now: Instant) -> Option<Response> {
        self.settle(resources, now);
        self.next_route(resources, now)
            .or_else(|| self.next_heartbeat(resources, now))
            .or_else(|| self.next_changed(Kind::Listener, resources, Scope::All, now))
            .or_else(|| self.next_changed(Kind::Cluster, resources, Scope::All, now))
            .or_else(|| self.next_changed(Kind::Endpoints, resources, Scope::All, now))
            .or_else(|| self.next_removed(Kind::Endpoints, resources, now))
            .or_else(|| self.next_removed(Kind::Cluster, resources, now))
            .or_else(|| self.next_removed(Kind::Listener, resources, now))
    }

    /// All that the proxy subscribes to; of a listener, the pod that it is of.
    pub fn names(&self) -> impl Iterator<Item = (Kind, &String)> {
        Kind::ALL.into_iter().flat_map(|kind| {
            let names = self.kinds[kind].names.keys();
            names.map(move |name| (kind, name))
        })
    }

    pub fn urgency(&mut self, resources: &Resources, now: Instant) -> Urgency {
        self.settle(resources, now);
        if self.heartbeat_at(resources).is_some_and(|at| at <= now) {
            return Urgency::Now;
        }
        let of_kind = |kind: Kind| {
            let due = self.kinds[kind]
                .due(kind, resources)
                .map(|due| match (kind, due.answer) {
                    (Kind::Route | Kind::Listener, _) | (_, Answer::Waiting | Answer::Resumed) => {
                        Urgency::Now
                    }
                    (Kind::Cluster | Kind::Endpoints, Answer::Given { .. }) => match due.target {
                        None if self.routes_pending() => Urgency::Nothing,
                        None | Some(_) => Urgency::CanWait,
                    },
                });
            due.max().unwrap_or(Urgency::Nothing)
        };
        Kind::ALL
            .into_iter()
            .map(of_kind)
            .max()
            .unwrap_or(Urgency::Nothing)
    }

    fn settle(&mut self, resources: &Resources, now: Instant) {
        for kind in Kind::ALL {
            if self.kinds[kind].settle(kind, resources, self.leases, now) {
                self.edition += 1;
            }
        }
    }

    fn routes_pending(&self) -> bool {
        !self.kinds[Kind::Route].unanswered_nonces.is_empty()
    }

    fn next_route(&mut self, resources: &Resources, now: Instant) -> Option<Response> {
        let due: Vec<(String, Option<Arc<Resource>>)> = self.kinds[Kind::Route]
            .due(Kind::Route, resources)
            .map(|due| (due.name.to_owned(), due.target.cloned()))
            .collect();
        let unknown = || {
            due.iter()
                .filter(|(_, target)| target.is_none())
                .map(|(name, _)| name.clone())
                .collect()
        };
        // A route that changed for a proxy that has it goes before first answers: it may be a rollback.
        let known = due
            .iter()
            .filter_map(|(name, target)| Some((name, target.as_ref()?)));
        let (_, route) = known.min_by_key(|(name, _)| !self.has_answer(name)).unzip();
        let Some(route) = route.cloned() else {
            return self.respond(Kind::Route, Vec::new(), unknown(), now);
        };
        let clusters = Scope::Only(&route.clusters);
        self.next_changed(Kind::Cluster, resources, clusters, now)
            .or_else(|| self.next_changed(Kind::Endpoints, resources, clusters, now))
            .or_else(|| {
                let same = |target: &Option<Arc<Resource>>| {
                    target.as_ref().is_some_and(|each| each.name == route.name)
                };
                let names = due
                    .iter()
                    .filter(|(_, target)| same(target))
                    .map(|(name, _)| name.clone());
                let changed = names.map(|name| (name, Arc::clone(&route))).collect();
                self.respond(Kind::Route, changed, Vec::new(), now)
            })
    }

    fn has_answer(&self, route: &str) -> bool {
        matches!(
            self.kinds[Kind::Route].names.get(route),
            Some(Answer::Given { .. })
        )
    }

    /// All that is new or changed in one message, and first answers about what does not exist.
    fn next_changed(
        &mut self,
        kind: Kind,
        resources: &Resources,
        scope: Scope<'_>,
        now: Instant,
    ) -> Option<Response> {
        let (mut changed, mut unknown) = (Vec::new(), Vec::new());
        for due in self.kinds[kind]
            .due(kind, resources)
            .filter(|due| scope.covers(due.name))
        {
            match (due.target, due.answer) {
                (Some(target), _) => changed.push((due.name.to_owned(), Arc::clone(target))),
                (None, Answer::Waiting | Answer::Resumed) => unknown.push(due.name.to_owned()),
                (None, Answer::Given { .. }) => {}
            }
        }
        self.respond(kind, changed, unknown, now)
    }

    /// What is gone, once no route that was sent still waits for its acknowledgement.
    fn next_removed(
        &mut self,
        kind: Kind,
        resources: &Resources,
        now: Instant,
    ) -> Option<Response> {
        let waits = match kind {
            Kind::Cluster | Kind::Endpoints => self.routes_pending(),
            Kind::Route | Kind::Listener => false,
        };
        if waits {
            return None;
        }
        let gone = self.kinds[kind]
            .due(kind, resources)
            .filter(|due| due.target.is_none());
        let gone = gone.map(|due| due.name.to_owned()).collect();
        self.respond(kind, Vec::new(), gone, now)
    }

    /// Records what is sent. `changed` is by subscribed name: several may be answered by one resource.
    fn respond(
        &mut self,
        kind: Kind,
        changed: Vec<(String, Arc<Resource>)>,
        gone: Vec<String>,
        now: Instant,
    ) -> Option<Response> {
        if changed.is_empty() && gone.is_empty() {
            return None;
        }
        self.edition += 1;
        self.last_nonce += 1;
        let (nonce, leases) = (self.last_nonce, self.leases);
        let subscriptions = &mut self.kinds[kind];
        subscriptions.unanswered_nonces.insert(nonce);
        let mut bodies: BTreeMap<String, (Arc<Resource>, Vec<String>)> = BTreeMap::new();
        for (name, target) in changed {
            let renew_at = leases.renew_at(&target, now);
            subscriptions.give(name.clone(), Some(Given::of(&target)), nonce, renew_at);
            let body = bodies.entry(target.name.clone());
            let (body, aliases) = body.or_insert_with(|| (Arc::clone(&target), Vec::new()));
            // What this proxy alone asks it by.
            if name != body.name && !body.aliases.contains(&name) {
                aliases.push(name);
            }
        }
        for name in &gone {
            subscriptions.give(name.clone(), None, nonce, None);
        }
        Some(Response {
            type_url: kind.type_url().to_owned(),
            resources: bodies
                .into_values()
                .map(|(each, aliases)| wire(kind, &each, aliases, leases))
                .collect(),
            removed_resources: match kind {
                Kind::Cluster | Kind::Endpoints | Kind::Route => gone,
                Kind::Listener => gone.iter().map(|_| INBOUND.to_owned()).collect(),
            },
            nonce: nonce.to_string(),
            ..Response::default()
        })
    }
}

/// Which subscriptions a message may carry.
#[derive(Clone, Copy)]
enum Scope<'a> {
    All,
    Only(&'a [String]),
}

impl Scope<'_> {
    fn covers(self, name: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Only(names) => names.iter().any(|each| each == name),
        }
    }
}

fn wire(kind: Kind, resource: &Resource, more: Vec<String>, leases: Leases) -> WireResource {
    WireResource {
        name: resource.name.clone(),
        aliases: resource.aliases.iter().cloned().chain(more).collect(),
        version: resource.version.clone(),
        resource: Some(resource.wire_body(kind)),
        ttl: leases.ttl(resource).map(leases::duration),
        ..WireResource::default()
    }
}

#[cfg(test)]
pub(crate) mod tests;
