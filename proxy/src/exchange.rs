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
mod attempts;
mod begin;
mod begun;
mod delayed;
mod failed;
pub mod flight;
mod outside;
mod patience;
pub mod peer;
mod refused;
mod settled;
pub mod tally;

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use traffic_core::authorize::Request;
use traffic_core::outcome::{Class, Dialect, Trace};
use traffic_core::retry;
use traffic_core::split::Pick;

use crate::caller::Caller;
use crate::drain::Stream;
use crate::endpoint::{Endpoint, InFlight, SendError};
use crate::net::origin::Side;
use crate::state::destination::{Destination, LocalRoute};
use crate::state::withdrawal::LongStream;
use crate::state::{App, State};
use crate::table::ReadyRoute;
use crate::telemetry::Flag;
use again::Again;
use attempts::try_once;
pub use begun::Arrived;
use failed::Failed;
use flight::Flight;
pub use outside::Hold;
use patience::{Deadline, Timer};
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

/// One request on its way. In a box, since it goes from hand to hand.
pub struct Exchange {
    target: Target,
    tally: Box<Tally>,
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

    /// Ready when the caller has left, before anything of the request was sent.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()>;

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
    pub flag: Flag,
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
        mut self: Box<Self>,
        state: &State,
        attempt: &mut A,
    ) -> Result<(A::Answer, Flight), Refusal> {
        if let Some(delay) = self.delay {
            // In a box: a request without one does not pay for it.
            let waited = Box::pin(self.wait(delay, attempt)).await;
            if let Err(error) = waited {
                return Err(self.give_up(state, Failed::from(error)));
            }
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
                let sent = try_once(attempt, (&endpoint, Hop::AsItIs), &in_flight, bound).await;
                sent.map(|answered| (answered, in_flight))
            }
            Target::Refused(refusal) => {
                let refusal = (**refusal).clone();
                self.tally
                    .refused(refusal.flag, refusal.status, &refusal.reason);
                self.tally.end(match refusal.delivery {
                    Delivery::Unsent => Class::Unsent,
                    Delivery::Unknown => Class::Failure,
                });
                return Err(refusal);
            }
        };
        match sent {
            Ok((answered, in_flight)) => {
                attempt.settle();
                let long = attempt.long().take();
                let (answer, flight) = self.answered(state, answered, in_flight, long);
                Ok((answer, flight))
            }
            Err(failed) => Err(self.give_up(state, failed)),
        }
    }
}
