//! The TTL that a resource is sent with, to a proxy that knows what one is.

use std::time::{Duration, Instant};

use envoy_types::pb::google::protobuf;
use traffic_core::lease;

use crate::resources::Resource;

/// Whether the proxy knows what a TTL is: it says so in its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Leases {
    /// It would take a heartbeat for a resource without a body.
    #[default]
    Unknown,
    Honoured,
}

impl Leases {
    /// The TTL to send with a resource.
    pub(super) fn ttl(self, resource: &Resource) -> Option<Duration> {
        match self {
            Leases::Unknown => None,
            Leases::Honoured => resource.ttl,
        }
    }

    /// When to renew what is sent now.
    pub(super) fn renew_at(self, resource: &Resource, now: Instant) -> Option<Instant> {
        self.ttl(resource).map(|ttl| now + lease::heartbeat(ttl))
    }
}

/// As the wire has it.
pub(super) fn duration(span: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}
