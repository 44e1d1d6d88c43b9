//! What this proxy takes at most, as its flags say.

use std::time::Duration;

use aviary_http1::scan::MOST_FIELDS;
use traffic_core::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Callers' connections that a worker serves at once.
    pub connections: usize,
    /// Streams that a caller may have open on one connection of HTTP/2.
    pub streams: u32,
    /// Of a request's head.
    pub head: aviary_http1::Limits,
    /// How long a head may take from its first byte, or the beginning of an HTTP/2 connection. Idle connections may live as long as the two
    /// applications like.
    pub head_time: Duration,
}

impl Limits {
    /// Of an answer's head: as large as a request's. How many fields it has is between the endpoint and its callers.
    pub fn answer(&self) -> aviary_http1::Limits {
        aviary_http1::Limits {
            fields: MOST_FIELDS,
            ..self.head
        }
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
        }
    }
}

/// How large a head of HTTP/2 may be. A field counts 32 bytes more there than it has (RFC 9113, 6.5.2).
pub fn header_list(head: aviary_http1::Limits) -> u32 {
    u32::try_from(head.bytes + 32 * head.fields).unwrap_or(u32::MAX)
}
