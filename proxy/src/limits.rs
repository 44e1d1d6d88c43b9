//! What this proxy takes, and waits for, at most, as its flags say.

use std::time::Duration;

use aviary_http1::scan::MOST_FIELDS;
use traffic_core::contract::header::{ADDED_BYTES, ADDED_FIELDS};
use traffic_core::limits;
use traffic_core::rate::Rates;
use traffic_core::withdrawal::Grace;

use crate::net::origin::Side;
use crate::net::socket::UNACKNOWLEDGED;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Callers' connections that a worker serves at once.
    pub connections: usize,
    /// Streams that a caller may have open on one connection of HTTP/2.
    pub streams: u32,
    /// Of a request's head.
    pub head: aviary_http1::Limits,
    /// How long a head of HTTP/1.1 may take from its first byte. Idle connections may live as long as the two applications like.
    pub head_time: Duration,
    /// How long a connection to an endpoint, or to where nobody has a route, may take to be there.
    pub connect: Duration,
    /// How long the first request of a caller without a sidecar waits for the control plane's word what to split.
    pub hold: Duration,
    /// How long what was sent to a peer may be on its way without being taken, where that says that the peer is gone. No flag.
    pub silence: Duration,
    /// How long the streams of a canary without a weight may go on. No flag: it is a part of how a release ends.
    pub grace: Grace,
    /// Requests a second that the application gets.
    pub rates: Rates,
}

/// An answer takes a few milliseconds; a control plane that is busy must not cost more than a person notices.
const HOLD: Duration = Duration::from_millis(500);

/// Of an answer's head, as an endpoint sends it.
const ANSWER_FIELDS: usize = 128;

const _: () = assert!(MOST_FIELDS == ANSWER_FIELDS + ADDED_FIELDS);

impl Limits {
    /// Of the head of a request that comes in on this side. What comes from the world may come from a sidecar, which has had room for it: it must not
    /// be what that one has added that is too much here.
    pub fn request(&self, side: Side) -> aviary_http1::Limits {
        match side {
            Side::Outbound => self.head,
            Side::Inbound => with_added(self.head),
        }
    }

    /// Of the head of an answer to a request that came in on this side: as large as a request's. How many fields it has is between the endpoint and its
    /// callers. What comes from the world may come from a sidecar, as above.
    pub fn answer(&self, side: Side) -> aviary_http1::Limits {
        let head = aviary_http1::Limits {
            fields: ANSWER_FIELDS,
            ..self.head
        };
        match side {
            Side::Outbound => with_added(head),
            Side::Inbound => head,
        }
    }
}

fn with_added(head: aviary_http1::Limits) -> aviary_http1::Limits {
    aviary_http1::Limits {
        bytes: head.bytes + ADDED_BYTES,
        fields: head.fields + ADDED_FIELDS,
    }
}

impl Default for Limits {
    fn default() -> Limits {
        let size = |limit: limits::Limit| usize::try_from(limit.default).unwrap_or(usize::MAX);
        Limits {
            connections: size(limits::CONNECTIONS),
            streams: u32::try_from(limits::STREAMS.default).unwrap_or(u32::MAX),
            head: aviary_http1::Limits {
                bytes: size(limits::HEADER_BYTES),
                fields: size(limits::HEADERS),
            },
            head_time: Duration::from_secs(limits::HEADER_SECONDS.default),
            connect: Duration::from_millis(limits::CONNECT_MILLISECONDS.default),
            hold: HOLD,
            silence: UNACKNOWLEDGED,
            grace: Grace::default(),
            rates: Rates::default(),
        }
    }
}

/// How large a head of HTTP/2 may be. A field counts 32 bytes more there than it has (RFC 9113, 6.5.2).
pub fn header_list(head: aviary_http1::Limits) -> u32 {
    u32::try_from(head.bytes + 32 * head.fields).unwrap_or(u32::MAX)
}
