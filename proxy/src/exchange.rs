//! One request, whichever way it goes and whatever it is spoken in: pick a revision, pick an endpoint, send, send again where nothing was
//! processed, classify, count at the end of the answer.
//!
//! The two sides differ by a value, [`Policy`]; the two versions of HTTP by what they do for an [`Attempt`].
//!
//! If an application cannot be reached, nothing of the request was processed, and a calling proxy may send it elsewhere. It is told so:
//! REFUSED_STREAM in HTTP/2, a 503 with a marker header (which no proxy passes on) in HTTP/1.1.
//! One of a caller that may not have it is answered here and sent nowhere.
//!
//! A caller without a sidecar has its revision picked where it comes in, while a release is under way ([`crate::state::application`]). What is meant for this
//! very pod (probes, scrapes) is never split: a dead application would look alive through another pod.

pub mod flight;
mod outside;
mod patience;
pub mod peer;
pub mod tally;

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use traffic_core::authorize::Request;
use traffic_core::config::Route;
use traffic_core::outcome::{Class, Said, Trace};
use traffic_core::retry::{self, Decision, Failure};
use traffic_core::split::Pick;
use traffic_core::split::sticky::Head;

use crate::caller::Caller;
use crate::drain::Stream;
use crate::endpoint::{CallerFault, Endpoint, InFlight, Lost, SendError};
use crate::metrics::Limit;
use crate::net::origin::Side;
use crate::state::destination::{Destination, LocalRoute};
use crate::state::withdrawal::LongStream;
use crate::state::{App, State};
use crate::table::ReadyRoute;
use crate::telemetry::entry::{Asked, Parties};
use crate::telemetry::{Entry, Flag};
use flight::Flight;
pub use outside::Hold;
use patience::{Deadline, Patience};
use tally::Tally;

/// Where the requests of a connection go.
#[derive(Debug)]
pub enum Policy {
    /// The application calls out: to the revision that the split says, or to where it was going if there is no route.
    Outbound {
        destination: Rc<Destination>,
        owed: Owed,
    },
    /// The world calls the application.
    Inbound { app: Rc<App>, caller: Caller },
}

/// A pick that was counted for a connection before it said that it is HTTP: its first request that does not follow its user takes it, as long as the
/// weight is still that one.
#[derive(Debug, Default)]
pub struct Owed(RefCell<Option<(Arc<ReadyRoute>, Pick)>>);

impl Owed {
    pub fn new(route: &LocalRoute, pick: Pick) -> Owed {
        Owed(RefCell::new(Some((route.ready.clone(), pick))))
    }

    fn take(&self, route: &LocalRoute) -> Option<Pick> {
        let (of, pick) = self.0.take()?;
        Arc::ptr_eq(&of.interleaver, &route.ready.interleaver).then_some(pick)
    }
}

/// What has to be known of a request before it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'r> {
    /// From its target or Host.
    pub authority: Option<&'r str>,
    /// What a calling sidecar wrote.
    pub mark: Option<&'r [u8]>,
    /// How long its caller waits, if it says so.
    pub waits: Option<Duration>,
    /// What it asks for.
    pub request: Request<'r>,
    /// In which language: `HTTP/1.1` and its like.
    pub protocol: &'static str,
}

/// One request on its way.
pub struct Exchange {
    target: Target,
    tally: Tally,
    stream: Stream,
    arrived: Instant,
    deadline: Option<Deadline>,
}

enum Target {
    Split {
        route: Rc<LocalRoute>,
        pick: Pick,
        /// This pod's application, if it is of the picked revision and called by somebody without a sidecar.
        own: Option<Rc<App>>,
    },
    Passing(Rc<App>),
    App(Rc<App>),
    /// Nowhere: its caller may not have it. Why.
    Denied(String),
}

/// Where one attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// To an endpoint of a route, whose sidecar reads this proxy's mark.
    Endpoint,
    /// As it is to where it was going, with no mark.
    AsItIs,
}

/// Whether a request carries this proxy's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    Never,
    Always,
    /// Only if its first attempt, to this pod's own application, comes to nothing.
    LaterOn,
}

/// What a version of HTTP does to send a request to one endpoint.
pub trait Attempt {
    type Answer;

    /// Sends the request on a pooled or new connection and waits for the head of the answer.
    fn send(
        &mut self,
        endpoint: &Rc<Endpoint>,
        hop: Hop,
    ) -> impl Future<Output = Result<Answered<Self::Answer>, SendError>>;

    /// Whether another attempt could send all of it.
    fn body(&self) -> retry::Body;

    /// Which request it is, as its caller says. Asked of one that failed.
    fn trace(&self) -> Option<Trace>;

    /// What says, while it waits for an answer, that its revision gets nothing any more.
    fn long(&mut self) -> &mut Option<LongStream>;
}

/// The head of an answer.
#[derive(Debug)]
pub struct Answered<A> {
    pub status: u16,
    pub answer: A,
}

/// The proxy's own answer, since there is no other.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub reason: String,
    /// The code of the stream's reset that says it better than an answer, where there are streams.
    pub reset: Option<u32>,
    pub delivery: Delivery,
}

/// What a calling sidecar may conclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The application behind this proxy never saw the request.
    Unsent,
    Unknown,
}

/// RFC 9110, 15.5.4.
const FORBIDDEN: u16 = 403;
/// RFC 9113, 7.
pub const REFUSED_STREAM: u32 = 7;

/// An attempt that came to nothing.
struct Failed {
    why: Failure,
    class: Class,
    status: u16,
    reason: String,
    reset: Option<u32>,
    flag: Flag,
}

impl Policy {
    pub fn address(&self) -> SocketAddr {
        match self {
            Policy::Outbound { destination, .. } => destination.address,
            Policy::Inbound { app, .. } => app.endpoint.address(),
        }
    }

    /// Which way the requests go.
    pub fn side(&self) -> Side {
        match self {
            Policy::Outbound { .. } => Side::Outbound,
            Policy::Inbound { .. } => Side::Inbound,
        }
    }

    /// Resolves when whoever calls may not send bytes to the application any more.
    pub async fn expelled(&self, state: &State) -> io::Error {
        match self {
            Policy::Outbound { .. } => pending().await,
            Policy::Inbound { app, caller } => {
                let port = app.endpoint.address().port();
                state.expelled(caller, port).await
            }
        }
    }

    /// Picks, and begins to count. Of the `head` nothing is read but what a route asks for. An error: the request has to wait first, and to begin again then.
    pub fn begin(
        &self,
        state: &State,
        arrived: Instant,
        facts: Facts<'_>,
        head: &impl Head,
    ) -> Result<Exchange, Hold> {
        let mut deadline = None;
        let (target, tally) = match self {
            Policy::Outbound { destination, owed } => {
                let route = destination
                    .route()
                    .or_else(|| state.route(destination.address));
                match route {
                    Some(route) => {
                        let clock = &state.common.clock;
                        // What is owed waits for a request that nobody's revision is known for.
                        let pick = route
                            .pick_of_user(head, clock, arrived)
                            .or_else(|| owed.take(&route))
                            .unwrap_or_else(|| route.pick(clock, arrived));
                        let first = route.first_attempt(pick, clock, arrived);
                        let picked = route.arm(pick).metrics.clone();
                        let tally = Tally::outbound(picked, first, arrived);
                        let timeout = route.ready.route.bounds.timeout(facts.waits);
                        deadline = Deadline::of(timeout, arrived);
                        let own = None;
                        (Target::Split { route, pick, own }, tally)
                    }
                    // There was none when the connection came, or it went away under it: on to where it was going.
                    None => (
                        Target::Passing(state.app(destination.address)),
                        Tally::nobody(arrived),
                    ),
                }
            }
            Policy::Inbound { app, caller } => {
                let own = app.endpoint.address();
                if let Err(denied) = state.admit(caller, own.port(), Some(facts.request)) {
                    (Target::Denied(denied.reason), Tally::nobody(arrived))
                } else {
                    let (target, tally, until) = outside::begin(state, app, arrived, facts, head)?;
                    deadline = until;
                    (target, tally)
                }
            }
        };
        let entry = state.common.telemetry.as_ref().and_then(|telemetry| {
            // Nobody wants to know more of the pod's probes.
            let parties = (!tally.is_probe()).then(|| self.parties(&target))?;
            let asked = Asked {
                method: facts.request.method,
                target: facts.request.path,
                authority: facts.authority,
                protocol: facts.protocol,
            };
            let times = (arrived, state.common.clock.since_epoch(arrived));
            Some(Entry::begin(telemetry, times, asked, head, parties))
        });
        Ok(Exchange {
            target,
            tally: tally.watched(entry),
            stream: Stream::open(state.metrics()),
            arrived,
            deadline,
        })
    }

    /// Who is asked by whom.
    fn parties(&self, target: &Target) -> Parties {
        let (caller, caller_id) = match self {
            Policy::Outbound { .. } => (None, None),
            Policy::Inbound { caller, .. } => (Some(caller.address()), caller.id().cloned()),
        };
        let (route, endpoint, own) = match target {
            Target::Split { route, pick, own } => {
                let revision = route.revision(*pick).into();
                (Some((route.ready.clone(), revision)), None, own.is_some())
            }
            Target::Passing(app) => (None, Some(app.endpoint.address()), false),
            Target::App(app) => (None, Some(app.endpoint.address()), true),
            Target::Denied(_) => (None, Some(self.address()), true),
        };
        let (route, revision) = route.unzip();
        Parties {
            side: self.side(),
            route,
            endpoint,
            revision,
            caller,
            caller_id,
            own,
        }
    }
}

impl Exchange {
    /// Whether it carries this proxy's mark. Whatever does at some time may be sent to more than one endpoint.
    pub fn marking(&self) -> Marking {
        match &self.target {
            Target::Split { own: None, .. } => Marking::Always,
            Target::Split { own: Some(_), .. } => Marking::LaterOn,
            Target::Passing(_) | Target::App(_) | Target::Denied(_) => Marking::Never,
        }
    }

    /// Sends it until there is an answer or no way left.
    pub async fn run<A: Attempt>(
        mut self,
        state: &State,
        attempt: &mut A,
    ) -> Result<(A::Answer, Flight), Refusal> {
        let sent = match &self.target {
            Target::Split { route, pick, own } => {
                let (route, pick) = (route.clone(), *pick);
                let own = own.as_ref().map(|app| app.endpoint.clone());
                self.split(state, attempt, &route, pick, own).await
            }
            Target::Passing(app) | Target::App(app) => {
                let endpoint = app.endpoint.clone();
                let in_flight = InFlight::start(&endpoint, self.arrived);
                try_once(attempt, (&endpoint, Hop::AsItIs), in_flight, None).await
            }
            Target::Denied(reason) => {
                let reason = reason.clone();
                self.tally.refused(Flag::None, FORBIDDEN, &reason);
                self.tally.end(Class::Failure);
                return Err(Refusal {
                    status: FORBIDDEN,
                    reason,
                    reset: None,
                    // Another endpoint would say the same.
                    delivery: Delivery::Unknown,
                });
            }
        };
        match sent {
            Ok((answered, in_flight)) => {
                let (answer, flight) = self.answered(state, answered, in_flight);
                Ok((answer, flight.canarys(attempt.long().take())))
            }
            Err(failed) => Err(self.give_up(state, failed)),
        }
    }

    async fn split<A: Attempt>(
        &mut self,
        state: &State,
        attempt: &mut A,
        route: &LocalRoute,
        pick: Pick,
        mut own: Option<Rc<Endpoint>>,
    ) -> Result<(Answered<A::Answer>, InFlight), Failed> {
        let (mut arm, mut tried, mut now) = (route.arm(pick), None, self.arrived);
        let (mut number, mut revision) = (retry::Attempt::First, route.revision(pick));
        let Route { name, bounds, .. } = &*route.ready.route;
        loop {
            let place = match bounds.requests {
                None => Ok(None),
                Some(most) => arm.metrics.place(most).map(Some).ok_or(most),
            };
            let next = match own.take() {
                Some(endpoint) => Some((endpoint, Hop::AsItIs)),
                None => {
                    let picked = state.pick(&arm.endpoints, tried, now);
                    picked.map(|endpoint| (endpoint, Hop::Endpoint))
                }
            };
            let failed = match (place, next) {
                (Ok(place), Some((endpoint, hop))) => {
                    tried = Some(endpoint.address());
                    self.tally.goes_to(endpoint.address(), revision);
                    let in_flight = InFlight::at(&endpoint, now, place);
                    let to = (&endpoint, hop);
                    *attempt.long() = arm.long_stream();
                    match try_once(attempt, to, in_flight, self.deadline).await {
                        Ok((answered, in_flight)) => {
                            if answered.status >= 500 {
                                self.tally.traced(|| attempt.trace());
                            }
                            return Ok((answered, in_flight));
                        }
                        Err(failed) => failed,
                    }
                }
                (Ok(_), None) => Failed::no_endpoint(name, revision),
                (Err(most), _) => {
                    state.metrics().refused(Limit::Overflow);
                    Failed::overflow(name, revision, most)
                }
            };
            self.tally.traced(|| attempt.trace());
            match retry::after(pick, number, failed.why, attempt.body()) {
                Decision::Stable => {
                    tracing::debug!(route = name, reason = failed.reason, "sent again to stable");
                    self.tally.retry(&route.stable.metrics);
                    (arm, number) = (&route.stable, retry::Attempt::Second);
                    (revision, now) = (route.revision(Pick::Stable), Instant::now());
                }
                Decision::GiveUp => return Err(failed),
            }
        }
    }

    fn answered<A>(
        mut self,
        state: &State,
        answered: Answered<A>,
        in_flight: InFlight,
    ) -> (A, Flight) {
        let now = Instant::now();
        if answered.status >= 500 {
            in_flight.failed(now);
        } else {
            in_flight.answered(now);
        }
        let app = match &self.target {
            Target::App(app) => Some(app),
            Target::Split { own, .. } => own.as_ref().filter(|_| self.tally.is_held()),
            Target::Passing(_) | Target::Denied(_) => None,
        };
        if let Some(app) = app {
            let mut known = app.metrics.borrow_mut();
            let port =
                known.get_or_insert_with(|| state.metrics().port(app.endpoint.address().port()));
            self.tally.of_port(port);
        }
        self.tally.answered(now);
        self.tally.said(Said::Status(answered.status));
        let idle = match &self.target {
            Target::Split { route, .. } => route.ready.route.bounds.idle,
            Target::Passing(_) | Target::App(_) | Target::Denied(_) => None,
        };
        let patience = Patience::of(self.deadline, idle, now);
        let flight =
            Flight::new(answered.status, self.tally, in_flight, self.stream).with(patience);
        (answered.answer, flight)
    }

    fn give_up(mut self, state: &State, failed: Failed) -> Refusal {
        if let Target::App(app) = &self.target
            && let Some(port) = &*app.metrics.borrow()
        {
            self.tally.of_port(port);
        }
        self.tally
            .refused(failed.flag, failed.status, &failed.reason);
        self.tally.end(failed.class);
        let is_callers = failed.class == Class::ClientClosed;
        let delivery = match (&self.target, failed.why) {
            (Target::App(_), Failure::Unsent) if !is_callers => Delivery::Unsent,
            _ => Delivery::Unknown,
        };
        let (reason, reset) = match &self.target {
            Target::App(app) if !is_callers => {
                let port = app.endpoint.address().port();
                if state.may_log() {
                    tracing::warn!(
                        port,
                        reason = failed.reason,
                        "the application gave no answer"
                    );
                }
                let reset = match delivery {
                    Delivery::Unsent => Some(REFUSED_STREAM),
                    Delivery::Unknown => failed.reset,
                };
                (
                    format!("the application gave no answer: {}", failed.reason),
                    reset,
                )
            }
            Target::Split { route, .. } if !is_callers => {
                if state.may_log() {
                    let route = &route.ready.route.name;
                    tracing::warn!(route, reason = failed.reason, "a request failed");
                }
                (failed.reason, failed.reset)
            }
            Target::Split { .. } | Target::Passing(_) | Target::App(_) | Target::Denied(_) => {
                (failed.reason, failed.reset)
            }
        };
        Refusal {
            status: failed.status,
            reason,
            reset,
            delivery,
        }
    }
}

async fn try_once<A: Attempt>(
    attempt: &mut A,
    (endpoint, hop): (&Rc<Endpoint>, Hop),
    in_flight: InFlight,
    deadline: Option<Deadline>,
) -> Result<(Answered<A::Answer>, InFlight), Failed> {
    let sent = match deadline {
        None => attempt.send(endpoint, hop).await,
        // In a box: a request whose time has no end does not pay for one that has.
        Some(deadline) => Box::pin(deadline.bounds(attempt.send(endpoint, hop))).await,
    };
    match sent {
        Ok(answered) => Ok((answered, in_flight)),
        Err(error) => {
            match error {
                SendError::Caller(_) | SendError::Withdrawn => {}
                SendError::Unsent(_) | SendError::Unknown(_) | SendError::TimedOut(_) => {
                    in_flight.failed(Instant::now());
                }
            }
            Err(Failed::from(error))
        }
    }
}

impl Failed {
    fn overflow(route: &str, revision: &str, most: NonZeroU32) -> Failed {
        Failed {
            why: Failure::Unsent,
            class: Class::Unsent,
            status: 503,
            reason: format!(
                "{route} revision {revision} has {most} requests of this proxy's in progress, as many as there may be"
            ),
            reset: None,
            flag: Flag::Overflow,
        }
    }

    fn no_endpoint(route: &str, revision: &str) -> Failed {
        Failed {
            why: Failure::Unsent,
            class: Class::Unsent,
            status: 503,
            reason: format!("no healthy endpoint of {route} revision {revision}"),
            reset: None,
            flag: Flag::NoEndpoint,
        }
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Failed {
        let (reason, flag) = (error.to_string(), Flag::from(&error));
        let (why, class, status, reset) = match error {
            SendError::Unsent(crate::endpoint::Cause::Refused) => {
                (Failure::Unsent, Class::Unsent, 503, Some(REFUSED_STREAM))
            }
            SendError::Unsent(_) => (Failure::Unsent, Class::Unsent, 503, None),
            SendError::Unknown(Lost::Reset { code, .. }) => {
                (Failure::Unknown, Class::Failure, 502, Some(code))
            }
            SendError::Unknown(_) => (Failure::Unknown, Class::Failure, 502, None),
            SendError::Caller(CallerFault::Left) => {
                (Failure::Unknown, Class::ClientClosed, 400, None)
            }
            SendError::Caller(CallerFault::Malformed(malformed)) => (
                Failure::Unknown,
                Class::ClientClosed,
                malformed.status(),
                None,
            ),
            SendError::TimedOut(_) => (Failure::Unknown, Class::Failure, 504, None),
            // Says nothing about the revision; and what became of the request nobody knows.
            SendError::Withdrawn => (Failure::Unknown, Class::ClientClosed, 503, None),
        };
        Failed {
            why,
            class,
            status,
            reason,
            reset,
            flag,
        }
    }
}
