//! One address that serves a revision, as one worker sees it: its load, and its connections.
//!
//! It belongs to a worker's thread and survives every change of weights and routes; it goes when no cluster names the address any more, and
//! then its idle connections close, while those in use finish first.

mod connect;
mod http1;
mod http2;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use traffic_core::balance::{Load, Sample};

use crate::body::RequestBody;
pub use connect::{ConnectError, connect};

/// The version of HTTP that a request came with and goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    load: Cell<Load>,
    http1: http1::Pool,
    http2: http2::Pool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Provably not processed.
    #[error(transparent)]
    Unsent(#[from] Cause),
    /// It went out, and what became of it is not known.
    #[error("{0}")]
    Unknown(hyper::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Connect(#[from] Rc<ConnectError>),
    #[error("the connection closed before the request was sent: {0}")]
    Closed(hyper::Error),
    #[error("the endpoint refused the stream: {0}")]
    Refused(hyper::Error),
    #[error("the endpoint's proxy could not reach its application")]
    Marked,
}

impl Endpoint {
    pub fn new(address: SocketAddr) -> Endpoint {
        Endpoint {
            address,
            load: Cell::default(),
            http1: http1::Pool::default(),
            http2: http2::Pool::default(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn load(&self) -> Load {
        self.load.get()
    }

    /// Sends a request on a pooled or new connection and waits for the head of the answer.
    pub async fn send(
        self: &Rc<Endpoint>,
        request: Request<RequestBody>,
        version: Version,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        match version {
            Version::Http1 => http1::send(self, request).await,
            Version::Http2 => http2::send(self, request).await,
        }
    }

    /// Closes connections that were idle too long. Says whether any are left.
    pub fn sweep(&self, now: Instant) -> Connections {
        if self.http1.sweep(now) + self.http2.sweep() > 0 {
            Connections::Some
        } else {
            Connections::None
        }
    }

    fn change(&self, change: impl FnOnce(&mut Load)) {
        let mut load = self.load.get();
        change(&mut load);
        self.load.set(load);
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
}

impl InFlight {
    pub fn start(endpoint: &Rc<Endpoint>) -> InFlight {
        endpoint.change(Load::start);
        InFlight {
            endpoint: endpoint.clone(),
            since: Instant::now(),
        }
    }

    /// The head of an answer came.
    pub fn answered(&self) {
        let now = Instant::now();
        self.endpoint
            .change(|load| load.observe(Sample::Answered(now - self.since), now));
    }

    /// No answer, a server error, or a broken one.
    pub fn failed(&self) {
        let now = Instant::now();
        self.endpoint
            .change(|load| load.observe(Sample::Failed(now - self.since), now));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.change(Load::finish);
    }
}

/// A connection in use by one request.
#[derive(Debug)]
pub enum Lease {
    Http1(http1::Lease),
    /// Held until the stream ends.
    Http2(http2::Lease),
}

impl Lease {
    /// The answer is complete: the connection may serve another request. A lease that is dropped instead closes an
    /// HTTP/1 connection, and leaves an HTTP/2 one alone.
    pub fn release(self) {
        match self {
            Lease::Http1(lease) => lease.release(),
            Lease::Http2(_stream) => {}
        }
    }
}
