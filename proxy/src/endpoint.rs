//! One address that serves a revision, as one worker sees it: its load, and its connections.
//!
//! It belongs to a worker's thread and survives every change of weights and routes; it goes when no cluster names the address any more, and
//! then its idle connections close, while those in use finish first.

pub mod http1;
pub mod http2;
pub mod way;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use aviary_http1::Malformed;
use traffic_core::balance::{Load, Sample};
use traffic_core::bounds::{Timeout, Whose};

use crate::limits::Limits;
use crate::metrics::Place;
use crate::net::buffers::Buffers;
use crate::net::connect::ConnectError;
use way::Way;

#[derive(Debug)]
pub struct Endpoint {
    way: Rc<Way>,
    load: Cell<Load>,
    pub http1: Rc<http1::Pool>,
    pub http2: Rc<http2::Pool>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Provably not processed.
    #[error(transparent)]
    Unsent(#[from] Cause),
    /// It went out, and what became of it is not known.
    #[error(transparent)]
    Unknown(#[from] Lost),
    /// It is the caller's doing.
    #[error(transparent)]
    Caller(#[from] CallerFault),
    /// Nobody waits for it any longer.
    #[error("no answer within {:?}, which is {}", .0.after, longest(*.0))]
    TimedOut(Timeout),
    /// It is a stream to a revision that gets nothing any more.
    #[error("the revision that had this stream gets nothing any more: open it again")]
    Withdrawn,
}

fn longest(timeout: Timeout) -> &'static str {
    match timeout.whose {
        Whose::Caller => "how long the caller waits",
        Whose::Service => "how long a call to this Service may take",
        Whose::Attempt => "how long one attempt of a call to this Service may take",
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Connect(#[from] Rc<ConnectError>),
    #[error("the connection closed before the request was sent: {0}")]
    Closed(String),
    #[error("the endpoint refused the stream")]
    Refused,
    #[error("the endpoint's proxy could not reach its application")]
    Marked,
}

#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("the endpoint closed the connection before it answered: {0}")]
    Closed(String),
    #[error("the endpoint's answer is no HTTP: {0}")]
    Malformed(Malformed),
    /// HTTP/2; with its code.
    #[error("the endpoint reset the stream before it answered: {reason}")]
    Reset { code: u32, reason: String },
}

#[derive(Debug, thiserror::Error)]
pub enum CallerFault {
    #[error("the caller left before there was an answer")]
    Left,
    #[error("the request's body is no HTTP: {0}")]
    Malformed(Malformed),
}

impl Endpoint {
    pub fn new(way: Way, buffers: &Rc<Buffers>, limits: &Limits) -> Endpoint {
        let way = Rc::new(way);
        Endpoint {
            load: Cell::new(Load::new(Instant::now())),
            http1: Rc::new(http1::Pool::new(way.clone(), limits.silence)),
            http2: Rc::new(http2::Pool::new(way.clone(), buffers.clone(), limits)),
            way,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.way.address()
    }

    pub fn way(&self) -> &Way {
        &self.way
    }

    pub fn load(&self) -> Load {
        self.load.get()
    }

    /// Closes connections that were idle too long. Says whether any are left.
    pub fn sweep(&self, now: Instant) -> Connections {
        if self.http1.sweep(now) + self.http2.sweep() > 0 {
            Connections::Some
        } else {
            Connections::None
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Load) -> T) -> T {
        let mut load = self.load.get();
        let told = change(&mut load);
        self.load.set(load);
        told
    }
}

/// Whether an endpoint holds connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    None,
    Some,
}

/// A request that counts as load of an endpoint until this is dropped.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Rc<Endpoint>,
    since: Instant,
    /// Among the requests in progress to its revision, if those are counted.
    _place: Option<Place>,
}

impl InFlight {
    pub fn start(endpoint: &Rc<Endpoint>, now: Instant) -> InFlight {
        InFlight::at(endpoint, now, None)
    }

    pub fn at(endpoint: &Rc<Endpoint>, now: Instant, place: Option<Place>) -> InFlight {
        endpoint.change(Load::start);
        InFlight {
            endpoint: endpoint.clone(),
            since: now,
            _place: place,
        }
    }

    /// The head of an answer came.
    pub fn answered(&self, now: Instant) {
        let time = now.saturating_duration_since(self.since);
        self.endpoint
            .change(|load| load.observe(Sample::Answered(time), now));
    }

    /// The endpoint's sidecar has answered that there are too many requests.
    pub fn turned_away(&self, now: Instant) {
        self.endpoint
            .change(|load| load.observe(Sample::TurnedAway, now));
    }

    /// All of an answer came, and it is no failure.
    pub fn well(&self) {
        if self.endpoint.load().is_suspect() {
            self.endpoint.change(|load| load.well(Instant::now()));
        }
    }

    /// No answer, a server error, or a broken one.
    pub fn failed(&self, now: Instant) {
        let time = now.saturating_duration_since(self.since);
        let out = self
            .endpoint
            .change(|load| load.observe(Sample::Failed(time), now));
        if let Some(out) = out {
            let address = self.endpoint.address();
            tracing::debug!(%address, ?out, "it fails again and again: others are asked, as long as half of them are left");
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.change(Load::finish);
    }
}
