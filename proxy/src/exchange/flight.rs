//! A request whose answer is on its way, with what has to happen at its end: the outcome is counted (gRPC says in its trailers how it went),
//! and the endpoint's load goes down. One that is dropped was left by its caller.

use std::time::Instant;

use traffic_core::outcome::{Class, Dialect, End, Said, Trace, classify};

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
            _stream: stream,
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
        self.tally.end(self.class());
    }

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
