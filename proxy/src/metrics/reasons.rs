//! What was not done as usual, counted by why.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;
use traffic_core::contract::metric;

use super::series::by_reason;

/// Why a connection was passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassThrough {
    NoRoute,
    NoAnswer,
}

impl PassThrough {
    const ALL: [PassThrough; 2] = [PassThrough::NoRoute, PassThrough::NoAnswer];

    fn as_str(self) -> &'static str {
        match self {
            PassThrough::NoRoute => "no_route",
            PassThrough::NoAnswer => "no_answer",
        }
    }
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Callers' connections at once.
    Connections,
    /// Requests in progress on one HTTP/2 connection.
    Streams,
    /// Bytes or fields of a request's head.
    Head,
    /// Time for a request's head, in HTTP/1.1.
    HeadTime,
    /// Frames of HTTP/2 that cost and say nothing: resets, continuations, empty ones.
    Frames,
    /// Requests in progress to one revision.
    Overflow,
    /// Requests a second to the application.
    Rate,
}

impl Limit {
    const ALL: [Limit; 7] = [
        Limit::Connections,
        Limit::Streams,
        Limit::Head,
        Limit::HeadTime,
        Limit::Frames,
        Limit::Overflow,
        Limit::Rate,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::Streams => "streams",
            Limit::Head => "head",
            Limit::HeadTime => "head_time",
            Limit::Frames => "frames",
            Limit::Overflow => "overflow",
            Limit::Rate => "rate",
        }
    }
}

/// What is put into a request on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Delay,
    Abort,
}

impl Fault {
    const ALL: [Fault; 2] = [Fault::Delay, Fault::Abort];

    fn as_str(self) -> &'static str {
        match self {
            Fault::Delay => "delay",
            Fault::Abort => "abort",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults([AtomicU64; Fault::ALL.len()]);

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        self.0[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        by_reason(
            encoder,
            metric::OUTBOUND_FAULTS,
            "Requests that something was put into on purpose",
            Fault::ALL.map(|fault| {
                (
                    fault.as_str(),
                    self.0[fault as usize].load(Ordering::Relaxed),
                )
            }),
        )
    }
}

/// Outbound connections without a route.
#[derive(Debug, Default)]
pub(super) struct PassedThrough([AtomicU64; PassThrough::ALL.len()]);

impl PassedThrough {
    pub(super) fn add(&self, reason: PassThrough) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        by_reason(
            encoder,
            metric::PASSTHROUGH_CONNECTIONS,
            "Outbound connections without a route",
            PassThrough::ALL.map(|reason| {
                (
                    reason.as_str(),
                    self.0[reason as usize].load(Ordering::Relaxed),
                )
            }),
        )
    }
}

/// What reached a limit.
#[derive(Debug, Default)]
pub(super) struct Refused([AtomicU64; Limit::ALL.len()]);

impl Refused {
    pub(super) fn add(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        by_reason(
            encoder,
            metric::REFUSED,
            "What was refused because a limit was reached",
            Limit::ALL.map(|limit| {
                (
                    limit.as_str(),
                    self.0[limit as usize].load(Ordering::Relaxed),
                )
            }),
        )
    }
}
