//! A request whose answer is on its way, with what has to happen at its end: the outcome is counted (gRPC says in its trailers how it went),
//! and the endpoint's load goes down. One that is dropped was left by its caller.

use std::task::{Context, Poll};
use std::time::Instant;

use traffic_core::outcome::{Class, Dialect, End, Said, Trace, classify};

use super::patience::Patience;
use super::tally::Tally;
use crate::drain::Stream;
use crate::endpoint::InFlight;

#[derive(Debug)]
pub struct Flight {
    status: u16,
    dialect: Dialect,
    grpc_status: Option<u16>,
    tally: Tally,
    in_flight: InFlight,
    /// `None`: it may take as long as it likes.
    patience: Option<Box<Patience>>,
    /// Held to the end: a drain waits for it.
    _stream: Stream,
}

impl Flight {
    pub fn new(status: u16, tally: Tally, in_flight: InFlight, stream: Stream) -> Flight {
        Flight {
            status,
            dialect: Dialect::Http,
            grpc_status: None,
            tally,
            in_flight,
            patience: None,
            _stream: stream,
        }
    }

    pub(super) fn with(self, patience: Option<Box<Patience>>) -> Flight {
        Flight { patience, ..self }
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Ready when it has taken too long. `moved` says how many bytes have gone either way.
    pub fn poll_over(&mut self, cx: &mut Context<'_>, moved: impl FnOnce() -> u64) -> Poll<()> {
        match &mut self.patience {
            None => Poll::Pending,
            Some(patience) => patience.poll(cx, moved()),
        }
    }

    /// Its caller has left: perhaps since it has waited for as long as it said, and then that was the answer's fault.
    pub fn left(self) {
        let waited = |patience: &Patience| patience.is_over_for_caller(Instant::now());
        if self.patience.as_deref().is_some_and(waited) {
            self.broken();
        }
    }

    /// What the head of the answer says about its language.
    pub fn head(&mut self, content_type: Option<&[u8]>, grpc_status: Option<&[u8]>) {
        self.dialect = dialect(content_type);
        self.trailer(grpc_status);
    }

    /// The status that gRPC put into headers (an answer without a body) or trailers.
    pub fn trailer(&mut self, grpc_status: Option<&[u8]>) {
        let status = grpc_status.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        self.grpc_status = status.or(self.grpc_status);
    }

    /// Whether the whole answer, once it is here, is a failure.
    pub fn fails(&self) -> bool {
        self.class() == Class::Failure
    }

    fn class(&self) -> Class {
        classify(End::Complete {
            status: self.status,
            dialect: self.dialect,
            grpc_status: self.grpc_status,
        })
    }

    /// It fails: which request it was.
    pub fn traced(&mut self, trace: impl FnOnce() -> Option<Trace>) {
        self.tally.traced(trace);
    }

    /// The whole answer has arrived. It is counted before its last bytes go on: whoever has read them finds it counted.
    pub fn complete(&mut self) {
        if let Some(status) = self.grpc_status {
            self.tally.said(Said::Grpc(status));
        }
        let class = self.class();
        match class {
            // By its head it was answered.
            Class::Failure if self.status < 500 => self.in_flight.failed(Instant::now()),
            Class::Failure | Class::ClientClosed | Class::Unsent => {}
            Class::Success => self.in_flight.well(),
        }
        self.tally.end(class);
    }

    /// It broke off, or took too long.
    pub fn broken(mut self) {
        self.tally.said(Said::Nothing);
        self.tally.end(classify(End::Broken));
        self.in_flight.failed(Instant::now());
    }

    /// The two ends have agreed to speak something else from here on.
    pub fn switched(&mut self) {
        self.tally.end(Class::Success);
    }
}

/// What a content type says about the language of an answer, or of a request.
pub fn dialect(content_type: Option<&[u8]>) -> Dialect {
    match content_type {
        Some(kind) if kind.starts_with(b"application/grpc") => Dialect::Grpc,
        Some(_) | None => Dialect::Http,
    }
}
