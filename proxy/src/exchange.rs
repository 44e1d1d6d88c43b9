//! One request, whichever way it goes and whatever it is spoken in: pick a revision, pick an endpoint, send, send again where nothing was
//! processed, classify, count at the end of the answer.
//!
//! The two sides differ by a value, [`Policy`]; the two versions of HTTP by what they do for an [`Attempt`].
//!
//! If an application cannot be reached, nothing of the request was processed, and a calling proxy may send it elsewhere. It is told so:
//! REFUSED_STREAM in HTTP/2, a 503 with a marker header (which no proxy passes on) in HTTP/1.1.
//! One of a caller that may not have it, or that is one too many, is answered here and sent nowhere.
//!
//! A caller without a sidecar has its revision picked where it comes in, while a release is under way ([`crate::state::application`]). What is meant for this
//! very pod (probes, scrapes) is never split: a dead application would look alive through another pod.

mod again;
mod begin;
mod begun;
mod failed;
pub mod flight;
mod outside;
mod patience;
pub mod peer;
mod refused;
pub mod tally;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;
use traffic_core::authorize::Request;
use traffic_core::config::Route;
use traffic_core::outcome::{Class, Dialect, End, Said, Trace, classify};
use traffic_core::retry::{self, Failure};
use traffic_core::split::Pick;

use crate::caller::Caller;
use crate::drain::Stream;
use crate::endpoint::{Endpoint, InFlight, SendError};
use crate::metrics::Limit;
use crate::net::origin::Side;
use crate::state::destination::{Destination, LocalRoute};
use crate::state::withdrawal::LongStream;
use crate::state::{App, State};
use crate::table::ReadyRoute;
use crate::telemetry::Flag;
use again::Again;
use failed::Failed;
use flight::Flight;
pub use outside::Hold;
use patience::{Deadline, Patience, Timer};
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
    /// What it is by its content.
    pub dialect: Dialect,
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
    timer: Timer,
    /// It is kept waiting so long, on purpose.
    delay: Option<Duration>,
}

enum Target {
    Split {
        route: Rc<LocalRoute>,
        pick: Pick,
        /// Whether the Service's owner says that requests of its kind may reach an application twice.
        is_repeatable: bool,
        /// This pod's application, if it is of the picked revision and called by somebody without a sidecar.
        own: Option<Rc<App>>,
    },
    Passing(Rc<App>),
    App(Rc<App>),
    /// Nowhere.
    Refused(Box<Refusal>),
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

    /// The status of gRPC in the head of an answer.
    fn grpc_status(answer: &Self::Answer) -> Option<u16>;

    /// An answer goes nowhere, since the request is sent again.
    fn discard(&mut self, answer: Self::Answer);

    /// There will be no other attempt: what is kept for one can go.
    fn settle(&mut self);
}

/// The head of an answer.
#[derive(Debug)]
pub struct Answered<A> {
    pub status: u16,
    pub answer: A,
}

/// The proxy's own answer, since there is no other.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub status: u16,
    pub reason: String,
    /// The code of the stream's reset that says it better than an answer, where there are streams.
    pub reset: Option<u32>,
    pub delivery: Delivery,
    /// There will be room after this time.
    pub retry_after: Option<Duration>,
}

/// What a calling sidecar may conclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The application behind this proxy never saw the request.
    Unsent,
    Unknown,
}

/// RFC 9113, 7.
pub const REFUSED_STREAM: u32 = 7;

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
}

impl Exchange {
    /// Whether it carries this proxy's mark. Whatever does at some time may be sent to more than one endpoint.
    pub fn marking(&self) -> Marking {
        match &self.target {
            Target::Split { own: None, .. } => Marking::Always,
            Target::Split { own: Some(_), .. } => Marking::LaterOn,
            Target::Passing(_) | Target::App(_) | Target::Refused(_) => Marking::Never,
        }
    }

    /// Sends it until there is an answer or no way left.
    pub async fn run<A: Attempt>(
        mut self,
        state: &State,
        attempt: &mut A,
    ) -> Result<(A::Answer, Flight), Refusal> {
        if let Some(delay) = self.delay {
            // In a box: a request without one does not pay for it.
            Box::pin(self.wait(delay)).await;
        }
        let sent = match &self.target {
            Target::Split {
                route,
                pick,
                is_repeatable,
                own,
            } => {
                let (route, pick, is_listed) = (route.clone(), *pick, *is_repeatable);
                let own = own.as_ref().map(|app| app.endpoint.clone());
                let of = route.retries.as_deref();
                let again = of.map(|of| Again { of, is_listed });
                self.split(state, attempt, (&route, pick, again), own).await
            }
            Target::Passing(app) | Target::App(app) => {
                let endpoint = app.endpoint.clone();
                let in_flight = InFlight::start(&endpoint, self.arrived);
                let bound = (None, &mut self.timer);
                try_once(attempt, (&endpoint, Hop::AsItIs), in_flight, bound).await
            }
            Target::Refused(refusal) => {
                let refusal = (**refusal).clone();
                self.tally
                    .refused(Flag::None, refusal.status, &refusal.reason);
                self.tally.end(Class::Failure);
                return Err(refusal);
            }
        };
        match sent {
            Ok((answered, in_flight)) => {
                attempt.settle();
                let (answer, flight) = self.answered(state, answered, in_flight);
                Ok((answer, flight.canarys(attempt.long().take())))
            }
            Err(failed) => Err(self.give_up(state, failed)),
        }
    }

    /// For as long as it is kept waiting, or to the end of its time.
    async fn wait(&self, delay: Duration) {
        let until = self.arrived + delay;
        let end = self.deadline.map_or(until, |deadline| deadline.at());
        sleep_until(until.min(end).into()).await;
    }

    async fn split<A: Attempt>(
        &mut self,
        state: &State,
        attempt: &mut A,
        (route, pick, again): (&LocalRoute, Pick, Option<Again<'_>>),
        mut own: Option<Rc<Endpoint>>,
    ) -> Result<(Answered<A::Answer>, InFlight), Failed> {
        let (mut arm, mut tried) = (route.arm(pick), None);
        let mut now = match self.delay {
            None => self.arrived,
            // No endpoint has made it wait.
            Some(_) => Instant::now(),
        };
        let (mut retries, mut revision) = (0, route.revision(pick));
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
            let ended = match (place, next) {
                (Ok(place), Some((endpoint, hop))) => {
                    tried = Some(endpoint.address());
                    self.tally.goes_to(endpoint.address(), revision);
                    let in_flight = InFlight::at(&endpoint, now, place);
                    let deadline = match &again {
                        None => self.deadline,
                        Some(again) => again.deadline(self.deadline, now),
                    };
                    let to = (&endpoint, hop);
                    *attempt.long() = arm.long_stream();
                    let bound = (deadline, &mut self.timer);
                    match try_once(attempt, to, in_flight, bound).await {
                        Ok((answered, in_flight)) => {
                            if answered.status >= 500 {
                                self.tally.traced(|| attempt.trace());
                            }
                            let failure = again.as_ref().and_then(|again| {
                                let code = A::grpc_status(&answered.answer);
                                again.failure(answered.status, code)
                            });
                            let goes = |failure| {
                                let what = (failure, attempt.body());
                                again::goes(again.as_ref(), &arm.metrics, retries, what)
                            };
                            if !failure.is_some_and(goes) {
                                return Ok((answered, in_flight));
                            }
                            Ok(self.discarded(attempt, answered, &in_flight))
                        }
                        Err(failed) => Err(failed),
                    }
                }
                (Ok(_), None) => Err(Failed::no_endpoint(name, revision)),
                (Err(most), _) => {
                    state.metrics().refused(Limit::Overflow);
                    Err(Failed::overflow(name, revision, most))
                }
            };
            let class = match ended {
                Ok(class) => class,
                Err(failed) => {
                    self.tally.traced(|| attempt.trace());
                    let what = (failed.why, attempt.body());
                    if !again::goes(again.as_ref(), &arm.metrics, retries, what) {
                        return Err(failed);
                    }
                    tracing::debug!(route = name, reason = failed.reason, "sent again to stable");
                    failed.class
                }
            };
            self.tally.retry(&route.stable.metrics, class);
            (arm, retries) = (&route.stable, retries + 1);
            (revision, now) = (route.revision(Pick::Stable), Instant::now());
        }
    }

    /// An answer that is not passed on says of its endpoint and its revision what it would have said. Gives its class.
    fn discarded<A: Attempt>(
        &mut self,
        attempt: &mut A,
        Answered { status, answer }: Answered<A::Answer>,
        in_flight: &InFlight,
    ) -> Class {
        let now = Instant::now();
        let grpc_status = A::grpc_status(&answer);
        let class = classify(End::Complete {
            status,
            dialect: grpc_status.map_or(Dialect::Http, |_| Dialect::Grpc),
            grpc_status,
        });
        if class == Class::Failure {
            in_flight.failed(now);
        } else {
            in_flight.answered(now);
        }
        self.tally.answered(now);
        self.tally.said(match grpc_status {
            Some(code) => Said::Grpc(code),
            None => Said::Status(status),
        });
        if grpc_status.is_some() {
            self.tally.traced(|| attempt.trace());
        }
        attempt.discard(answer);
        class
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
            Target::Passing(_) | Target::Refused(_) => None,
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
            Target::Passing(_) | Target::App(_) | Target::Refused(_) => None,
        };
        let patience = Patience::of((self.deadline, self.timer), idle, now);
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
            Target::Split { .. } | Target::Passing(_) | Target::App(_) | Target::Refused(_) => {
                (failed.reason, failed.reset)
            }
        };
        Refusal {
            reset,
            delivery,
            ..Refusal::of(failed.status, reason)
        }
    }
}

async fn try_once<A: Attempt>(
    attempt: &mut A,
    (endpoint, hop): (&Rc<Endpoint>, Hop),
    in_flight: InFlight,
    (deadline, timer): (Option<Deadline>, &mut Timer),
) -> Result<(Answered<A::Answer>, InFlight), Failed> {
    let mut sending = pin!(attempt.send(endpoint, hop));
    let sent = poll_fn(|cx| match (sending.as_mut().poll(cx), deadline) {
        (Poll::Ready(sent), _) => Poll::Ready(sent),
        (Poll::Pending, Some(deadline)) => timer.poll(cx, deadline).map(Err),
        (Poll::Pending, None) => Poll::Pending,
    });
    let sent = match (sent.await, deadline) {
        (Err(error), Some(deadline)) => deadline.judge(Err(error)),
        (sent, _) => sent,
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
