//! A request whose answer is on its way, with what has to happen at its end: the outcome is counted (gRPC says in its trailers how it went),
//! and the endpoint's load goes down. One that is dropped was left by its caller.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use traffic_core::outcome::{Class, Dialect, End, Said, Trace, classify};

use super::patience::Patience;
use super::tally::Tally;
use crate::drain::Stream;
use crate::endpoint::InFlight;
use crate::state::withdrawal::LongStream;
use crate::telemetry::Flag;

/// What an answer is, as far as its end is concerned that this proxy may have to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Something that ends by itself, however long it takes: what is cut off of it is lost.
    Whole,
    /// gRPC: a status in the trailers says that it is over, and may be called again.
    Grpc,
    /// Server-sent events: whoever listens opens them again (HTML, 9.2).
    Events,
}

/// RFC 6585, 4.
const TOO_MANY_REQUESTS: u16 = 429;
/// Of gRPC.
const RESOURCE_EXHAUSTED: u16 = 8;

#[derive(Debug)]
pub struct Flight {
    status: u16,
    dialect: Dialect,
    manner: Manner,
    grpc_status: Option<u16>,
    tally: Box<Tally>,
    in_flight: InFlight,
    /// The endpoint's sidecar has answered: its application has too many requests.
    is_turned_away: bool,
    /// `None`: it may take as long as it likes.
    patience: Option<Box<Patience>>,
    /// `None`: it is no canary's.
    long: Option<LongStream>,
    /// Held to the end: a drain waits for it.
    _stream: Stream,
}

impl Flight {
    pub(super) fn new(
        status: u16,
        tally: Box<Tally>,
        in_flight: InFlight,
        (patience, long): (Option<Box<Patience>>, Option<LongStream>),
        stream: Stream,
    ) -> Flight {
        Flight {
            status,
            dialect: Dialect::Http,
            manner: Manner::Whole,
            grpc_status: None,
            tally,
            in_flight,
            is_turned_away: false,
            patience,
            long,
            _stream: stream,
        }
    }

    pub fn manner(&self) -> Manner {
        self.manner
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

    /// Ready when it is a long stream that has to end, since its revision gets nothing any more.
    pub fn poll_withdrawn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match (&mut self.long, self.manner) {
            (None, _) | (Some(_), Manner::Whole) => Poll::Pending,
            (Some(long), Manner::Grpc | Manner::Events) => Pin::new(long).poll(cx),
        }
    }

    /// What says when a tunnel has to end that this has become; `None`: never.
    pub fn take_long(&mut self) -> Option<LongStream> {
        self.long.take()
    }

    /// It was ended because its revision gets nothing any more, which says nothing about the revision: as if its caller had left.
    pub fn withdrawn(mut self) {
        self.tally.broke(Flag::Withdrawn);
        self.tally.end(Class::ClientClosed);
    }

    /// Its caller has left: perhaps since it has waited for as long as it said, and then that was the answer's fault.
    pub fn left(self) {
        let waited = |patience: &Patience| patience.is_over_for_caller(Instant::now());
        if self.patience.as_deref().is_some_and(waited) {
            self.broken(Flag::TimedOut);
        }
    }

    /// What the head of the answer says about its language.
    pub fn head(&mut self, content_type: Option<&[u8]>, grpc_status: Option<&[u8]>) {
        self.dialect = dialect(content_type);
        self.manner = manner(content_type);
        self.trailer(grpc_status);
    }

    /// The status that gRPC put into headers (an answer without a body) or trailers.
    pub fn trailer(&mut self, grpc_status: Option<&[u8]>) {
        self.grpc_status = grpc_status.and_then(code).or(self.grpc_status);
    }

    /// Whether it is an answer of which it matters who gave it: see [`Flight::turned_away`].
    pub fn says_too_many(&self) -> bool {
        self.status == TOO_MANY_REQUESTS || self.grpc_status == Some(RESOURCE_EXHAUSTED)
    }

    /// The endpoint's sidecar has answered that there are too many requests: the application never saw this one.
    pub fn turned_away(&mut self) {
        self.is_turned_away = true;
        self.in_flight.turned_away(Instant::now());
    }

    /// Whether the whole answer, once it is here, is a failure.
    pub fn fails(&self) -> bool {
        self.class() == Class::Failure
    }

    fn class(&self) -> Class {
        if self.is_turned_away {
            return classify(End::Unsent);
        }
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

    /// So many bytes of the request's body have gone on, and of its answer's.
    pub fn moved(&mut self, moved: impl FnOnce() -> (u64, u64)) {
        self.tally.moved(moved);
    }

    /// It broke off, or took too long.
    pub fn broken(mut self, why: Flag) {
        self.tally.broke(why);
        self.tally.said(Said::Nothing);
        self.tally.end(classify(End::Broken));
        self.in_flight.failed(Instant::now());
    }

    /// The two ends have agreed to speak something else from here on.
    pub fn switched(&mut self) {
        self.tally.end(Class::Success);
    }
}

/// A status of gRPC, if it is one.
pub fn code(status: &[u8]) -> Option<u16> {
    std::str::from_utf8(status).ok()?.parse().ok()
}

/// What a content type says about the language of an answer, or of a request.
pub fn dialect(content_type: Option<&[u8]>) -> Dialect {
    match content_type {
        Some(kind) if kind.starts_with(b"application/grpc") => Dialect::Grpc,
        Some(_) | None => Dialect::Http,
    }
}

/// What a content type says about how an answer may end. gRPC-Web has its status in its body: to us it is a body like others.
pub fn manner(content_type: Option<&[u8]>) -> Manner {
    let of = |kind: &[u8]| {
        let rest = content_type?.strip_prefix(kind)?;
        matches!(rest.first(), None | Some(b'+' | b';' | b' ')).then_some(())
    };
    if of(GRPC).is_some() {
        Manner::Grpc
    } else if of(EVENTS).is_some() {
        Manner::Events
    } else {
        Manner::Whole
    }
}

const GRPC: &[u8] = b"application/grpc";
/// Of HTTP/1.1, too, where gRPC is not spoken.
pub const EVENTS: &[u8] = b"text/event-stream";

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    use traffic_core::bounds::{Timeout, Whose};

    use super::super::patience::{Deadline, Timer};
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::endpoint::way::Way;
    use crate::limits::Limits;
    use crate::metrics::{ArmMetrics, Metrics};
    use crate::net::connect::Path;

    fn endpoint() -> Rc<Endpoint> {
        let limits = Limits::default();
        let way = Way::plain(([127, 0, 0, 1], 80).into(), Path::Direct, limits.connect);
        Rc::new(Endpoint::new(way, &Rc::default(), &limits))
    }

    /// An answer with this status that is on its way from `endpoint`, to a request for `arm`.
    fn flight(
        endpoint: &Rc<Endpoint>,
        arm: &Arc<ArmMetrics>,
        status: u16,
        patience: Option<Box<Patience>>,
    ) -> Flight {
        let now = Instant::now();
        let tally = Box::new(Tally::outbound(arm.clone(), None, now));
        let stream = Stream::open(&Arc::new(Metrics::default()));
        let in_flight = InFlight::start(endpoint, now);
        Flight::new(status, tally, in_flight, (patience, None), stream)
    }

    #[test]
    fn a_whole_answer_forgives_its_endpoint_what_failed_before_and_no_other_does() {
        let (endpoint, arm) = (endpoint(), Arc::default());
        let now = Instant::now();
        InFlight::start(&endpoint, now).failed(now);
        let grpc: Option<&[u8]> = Some(b"application/grpc");
        for (status, grpc_status, forgives) in [
            (503, None, false),
            (200, Some(&b"14"[..]), false),
            (200, Some(&b"0"[..]), true),
        ] {
            let mut flight = flight(&endpoint, &arm, status, None);
            flight.head(grpc, grpc_status);
            flight.complete();
            let is_suspect = endpoint.load().is_suspect();
            assert_eq!(is_suspect, !forgives, "{status} {grpc_status:?}");
        }
    }

    #[test]
    fn a_caller_that_leaves_has_had_its_answer_unless_its_own_time_was_over() {
        let hour = Duration::from_secs(3600);
        for (whose, after, expected) in [
            (Whose::Caller, Duration::ZERO, [0, 1, 0, 0]),
            (Whose::Caller, hour, [0, 0, 1, 0]),
            (Whose::Service, Duration::ZERO, [0, 0, 1, 0]),
        ] {
            let (endpoint, arm) = (endpoint(), Arc::default());
            let now = Instant::now();
            let deadline = Deadline::of(Some(Timeout { after, whose }), now);
            let patience = Patience::of((deadline, Timer::default()), None, now);
            flight(&endpoint, &arm, 200, patience).left();
            let counted = Class::ALL.map(|class| arm.requests.get(class));
            assert_eq!(counted, expected, "{whose:?} {after:?}");
            assert_eq!(endpoint.load().is_suspect(), expected[1] == 1);
        }
    }

    #[test]
    fn streams_are_known_by_their_type_and_nothing_else_is_ended() {
        for (kind, expected) in [
            ("application/grpc", Manner::Grpc),
            ("application/grpc+proto", Manner::Grpc),
            ("application/grpc;charset=utf-8", Manner::Grpc),
            ("application/grpc-web", Manner::Whole),
            ("application/grpc-web-text+proto", Manner::Whole),
            ("text/event-stream", Manner::Events),
            ("text/event-stream; charset=utf-8", Manner::Events),
            ("text/event-streams", Manner::Whole),
            ("application/json", Manner::Whole),
        ] {
            assert_eq!(manner(Some(kind.as_bytes())), expected, "{kind}");
        }
        assert_eq!(manner(None), Manner::Whole);
    }
}
