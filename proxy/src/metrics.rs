//! Everything that `/metrics` says, in OpenMetrics text. Counters are plain atomics behind handles that are resolved when
//! configuration arrives, never per request; a revision's series exist at zero from the moment a route names it, so
//! that `increase()` sees its first sample.
//!
//! Client-observed, one series per arm. Labels `dst_namespace`, `dst_service`, `dst_port`, `revision`:
//!
//! | name | type | extra labels | what |
//! |---|---|---|---|
//! | `aviary_outbound_requests_total` | counter | `class` | requests, by the revision that answered last; each once, at its end |
//! | `aviary_outbound_first_attempts_total` | counter | `class` | first attempts, by the revision that was picked: the evidence for analysis. Retries are in neither arm |
//! | `aviary_outbound_duration_seconds` | histogram | | from the arrival of a request's head to the head of its answer; first attempts that got one, by the picked revision |
//! | `aviary_outbound_connections_total` | counter | `class` | opaque TCP connections when opened: `success` or `unsent` (the picked revision could not be reached) |
//! | `aviary_outbound_withheld_total` | counter | | requests and connections of the canary's share that this proxy's fuse gave to stable, because far more of the canary's failed |
//! | `aviary_outbound_streams_ended_total` | counter | | long streams (gRPC, WebSocket, server-sent events, opaque TCP) that this proxy ended because the revision's weight had gone to 0 ([`withdrawal`](traffic_core::withdrawal)) |
//! | `aviary_outbound_retries_total` | counter | `reason` | attempts of the revision that failed and whose request was sent again, to stable; only for Services that ask for retries |
//! | `aviary_outbound_retries_over_budget_total` | counter | `reason` | the same, not sent again because the budget was spent |
//!
//! `reason` of an attempt that failed is `unsent`, `reset` (no head of an answer came, or not in time), `status` or `grpc`.
//!
//! `class` is `success`, `failure` (5xx, gRPC 2, 4, 12, 13, 14, 15, reset, cut short), `client_closed` or `unsent` (no endpoint, connection
//! or stream refused): see `traffic_core::outcome`. The success rate of a revision over a window is
//! `first_attempts{class="success"}` / `first_attempts{class=~"success|failure|unsent"}`.
//!
//! With `source="outside"`, and else without that label: requests of callers without a sidecar that came to this pod, whose revision it has picked by the
//! weight of a release under way. They are evidence like all others.
//!
//! Seen from the called side. Labels `namespace`, `workload` (the pod's Deployment, or another owner) and `port` (the application's; `0` for
//! ports that never accepted a connection):
//!
//! | `aviary_inbound_requests_total` | counter | `peer`, `class` | requests, at their end |
//! | `aviary_inbound_duration_seconds` | histogram | | from the arrival of a request's head to the head of its answer |
//!
//! `peer` is `mesh` (a sidecar picked the revision: the caller's, or this one for a caller that has none), `probe` (the authority is the pod's own address, or
//! the path a declared probe's: probes, scrapes) or `outside` (anybody else: nobody picked a revision for them, since no release is under way, or this pod
//! has not heard of it); see `peer`. Opaque connections are not counted.
//!
//! The proxy itself:
//!
//! | `aviary_proxy_info` | info | `version` | |
//! | `aviary_config_connected` | gauge | | 1 while a stream to the control plane is open |
//! | `aviary_outcomes_connected` | gauge | | 1 while the control plane takes what becomes of first attempts, second by second: without it this pod's requests do not reach the guard |
//! | `aviary_outcome_reports_total` | counter | `result` | reports of one revision's second: `sent`, or `dropped` because the control plane had not read the last ones |
//! | `aviary_identity_expiry_timestamp_seconds` | gauge | | when the pod's certificate expires, by the pod's clock; absent while it has none |
//! | `aviary_identity_renewal_due_timestamp_seconds` | gauge | | from when on the pod asks for another certificate; in the past while it gets none |
//! | `aviary_identity_renewals_total` | counter | `result` | requests for a certificate: `issued`, `failed` (tried again; the last certificate serves until it expires), or `unserved` (the control plane gives none: plaintext) |
//! | `aviary_config_installs_total` | counter | | snapshots that every worker has installed: the acknowledged ones |
//! | `aviary_config_routes` | gauge | | destinations with a route |
//! | `aviary_passthrough_connections_total` | counter | `reason` | outbound connections without a route: `no_route` (the control plane said so) or `no_answer` (it did not answer in time) |
//! | `aviary_refused_total` | counter | `reason` | what reached a limit: `connections` (too many callers' connections), `streams` (too many requests in progress on one HTTP/2 connection), `head` (a request's head too large), `head_time` (it did not come in time), `frames` (HTTP/2 frames that cost and say nothing), `overflow` (too many requests in progress to one revision), `rate` (too many requests a second to the application) |
//! | `aviary_outbound_faults_total` | counter | `reason` | requests that were kept waiting (`delay`) or answered with an error (`abort`) since the owner of the Service asks for it; they are in no other series of outbound requests |
//! | `aviary_inbound_refused_total` | counter | `reason`, `caller`, `called` | requests and opaque connections that were not let in: `plaintext` or `own_tls` where callers must show an identity, `not_granted` (no policy lets this caller call), `untold` (nobody has said yet who may call). `caller` and `called` are SPIFFE IDs, empty for none; of many callers the first are told apart, the rest are `others` |
//! | `aviary_tls_handshakes_total` | counter | `side`, `result` | handshakes of mutual TLS with other sidecars, `outbound` (to an endpoint that must prove its identity; one that fails is as if nobody listened) or `inbound`, by `success` or `failure` |
//! | `aviary_streams_active` | gauge | | requests and opaque connections in progress |
//! | `aviary_access_log_lines_total` | counter | `result` | lines of the access log: `written`, or `dropped` because whoever reads them did not keep up |
//!
//! And, where a pod wants it, the same requests under Istio's names ([`istio`]).

mod arms;
mod classes;
mod denials;
mod handshakes;
mod histogram;
mod identity;
pub mod istio;
mod lines;
mod ports;
mod reasons;
mod reports;
mod retries;
mod series;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use traffic_core::config::Route;
use traffic_core::contract::metric;

pub use arms::{ArmMetrics, Place, Source};
pub use classes::ByClass;
pub use denials::Refusal;
pub use identity::Identity;
pub use lines::LogLines;
pub use ports::{PortMetrics, Workload};
pub use reasons::{Fault, Limit, PassThrough};

use arms::Arms;
use denials::Denials;
use handshakes::Handshakes;
use istio::Istio;
use ports::Ports;
use reasons::{Faults, PassedThrough, Refused};
use reports::Reports;

#[derive(Debug, Default)]
pub struct Metrics {
    arms: Arms,
    ports: Ports,
    pub connected: AtomicI64,
    pub installs: AtomicU64,
    pub routes: AtomicI64,
    pub reports: Reports,
    pub identity: Identity,
    pub handshakes: Handshakes,
    pub streams: AtomicI64,
    passed_through: PassedThrough,
    refused: Refused,
    faults: Faults,
    denials: Denials,
    /// Of the access log.
    pub lines: Arc<LogLines>,
    /// The same requests under Istio's names, where they are wanted.
    istio: Option<Arc<Istio>>,
}

impl Metrics {
    /// With the labels of this workload on what comes in.
    pub fn of(workload: Workload) -> Metrics {
        Metrics {
            ports: Ports::of(workload),
            ..Metrics::default()
        }
    }

    /// With Istio's names as well.
    #[must_use]
    pub fn with_istio(self, istio: Option<Arc<Istio>>) -> Metrics {
        Metrics { istio, ..self }
    }

    /// The handle of a revision of `route`; its series exist from now on.
    pub fn arm(&self, route: &Route, revision: &str) -> Arc<ArmMetrics> {
        self.arm_of(route, revision, Source::Application)
    }

    /// The same, for requests of this source.
    pub fn arm_of(&self, route: &Route, revision: &str, source: Source) -> Arc<ArmMetrics> {
        self.arms.arm(route, revision, source)
    }

    /// The handle of an application's port; its series exist from now on.
    pub fn port(&self, port: u16) -> Arc<PortMetrics> {
        self.ports.port(port)
    }

    pub fn passed_through(&self, reason: PassThrough) {
        self.passed_through.add(reason);
    }

    pub fn refused(&self, limit: Limit) {
        self.refused.add(limit);
    }

    pub fn put_in(&self, fault: Fault) {
        self.faults.add(fault);
    }

    /// A caller was not let in: SPIFFE IDs of who called, and of this pod; empty for none.
    pub fn denied(&self, why: Refusal, caller: &str, called: &str) {
        self.denials.add(why, caller, called);
    }

    /// The text of `/metrics`.
    pub fn render(self: &Arc<Metrics>) -> Result<String, fmt::Error> {
        self.arms.forget_unused(Instant::now());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    fn encode_proxy(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        encoder
            .encode_descriptor(metric::PROXY, "The proxy", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        for (name, help, value) in [
            (
                metric::CONFIG_CONNECTED,
                "Whether a stream to the control plane is open",
                &self.connected,
            ),
            (
                metric::CONFIG_ROUTES,
                "Destinations with a route",
                &self.routes,
            ),
            (
                metric::STREAMS_ACTIVE,
                "Requests and opaque connections in progress",
                &self.streams,
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value.load(Ordering::Relaxed))?;
        }
        encoder
            .encode_descriptor(
                metric::CONFIG_INSTALLS,
                "Snapshots installed",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, _, f64>(&self.installs.load(Ordering::Relaxed), None)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.arms.encode(&mut encoder)?;
        self.ports.encode(&mut encoder)?;
        self.encode_proxy(&mut encoder)?;
        self.reports.encode(&mut encoder)?;
        self.identity.encode(&mut encoder)?;
        self.handshakes.encode(&mut encoder)?;
        self.passed_through.encode(&mut encoder)?;
        self.denials.encode(&mut encoder)?;
        self.refused.encode(&mut encoder)?;
        self.faults.encode(&mut encoder)?;
        self.lines.encode(&mut encoder)?;
        match &self.istio {
            Some(istio) => istio.encode(&mut encoder),
            None => Ok(()),
        }
    }
}
