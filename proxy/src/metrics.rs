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
//!
//! `class` is `success`, `failure` (5xx, gRPC 2, 4, 12, 13, 14, 15, reset, cut short), `client_closed` or `unsent` (no endpoint, connection
//! or stream refused): see `traffic_core::outcome`. The success rate of a revision over a window is
//! `first_attempts{class="success"}` / `first_attempts{class=~"success|failure|unsent"}`.
//!
//! Seen from the called side. Labels `namespace`, `workload` (the pod's Deployment, or another owner) and `port` (the application's; `0` for
//! ports that never accepted a connection):
//!
//! | `aviary_inbound_requests_total` | counter | `peer`, `class` | requests, at their end |
//! | `aviary_inbound_duration_seconds` | histogram | | from the arrival of a request's head to the head of its answer |
//!
//! `peer` is `mesh` (a sidecar picked the revision), `probe` (the authority is the pod's own address: probes, scrapes) or `outside`
//! (anybody else: no weight holds them, and no check sees them); see `peer`. Opaque connections are not counted.
//!
//! The proxy itself:
//!
//! | `aviary_proxy_info` | info | `version` | |
//! | `aviary_config_connected` | gauge | | 1 while a stream to the control plane is open |
//! | `aviary_outcomes_connected` | gauge | | 1 while the control plane takes what becomes of first attempts, second by second: without it this pod's requests do not reach the guard |
//! | `aviary_outcome_reports_total` | counter | `result` | reports of one revision's second: `sent`, or `dropped` because the control plane had not read the last ones |
//! | `aviary_config_installs_total` | counter | | snapshots that every worker has installed: the acknowledged ones |
//! | `aviary_config_routes` | gauge | | destinations with a route |
//! | `aviary_passthrough_connections_total` | counter | `reason` | outbound connections without a route: `no_route` (the control plane said so) or `no_answer` (it did not answer in time) |
//! | `aviary_refused_total` | counter | `reason` | what reached a limit: `connections` (too many callers' connections), `head` (a request's head too large), `head_time` (it did not come in time), `frames` (HTTP/2 frames that cost and say nothing) |
//! | `aviary_streams_active` | gauge | | requests and opaque connections in progress |

mod histogram;
mod reports;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use traffic_core::config::Route;
use traffic_core::contract::{label, metric};
use traffic_core::outcome::Class;
use traffic_core::peer::Peer;

use histogram::Histogram;
use reports::Reports;

/// How long the series of a revision that no route names any more stay.
const UNUSED: Duration = Duration::from_secs(3600);

/// One counter per class.
#[derive(Debug, Default)]
pub struct ByClass([AtomicU64; 4]);

impl ByClass {
    pub fn add(&self, class: Class) {
        self.0[class.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self, class: Class) -> u64 {
        self.0[class.index()].load(Ordering::Relaxed)
    }
}

/// What is counted for one revision of one Service port.
#[derive(Debug, Default)]
pub struct ArmMetrics {
    pub requests: ByClass,
    pub first_attempts: ByClass,
    pub connections: ByClass,
    duration: Histogram,
}

impl ArmMetrics {
    pub fn answered_after(&self, time: Duration) {
        self.duration.record(time);
    }
}

/// What is counted for one port of the application.
#[derive(Debug, Default)]
pub struct PortMetrics {
    requests: [ByClass; 3],
    duration: Histogram,
}

impl PortMetrics {
    pub fn requests(&self, peer: Peer) -> &ByClass {
        &self.requests[peer.index()]
    }

    pub fn answered_after(&self, time: Duration) {
        self.duration.record(time);
    }
}

/// What this pod is one of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub namespace: String,
    pub name: String,
}

/// Why a connection was passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassThrough {
    NoRoute,
    NoAnswer,
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Callers' connections at once.
    Connections,
    /// Bytes or fields of a request's head.
    Head,
    /// Time for a request's head, or for the beginning of an HTTP/2 connection.
    HeadTime,
    /// Frames of HTTP/2 that cost and say nothing: resets, continuations, empty ones.
    Frames,
}

impl Limit {
    const ALL: [Limit; 4] = [
        Limit::Connections,
        Limit::Head,
        Limit::HeadTime,
        Limit::Frames,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::Head => "head",
            Limit::HeadTime => "head_time",
            Limit::Frames => "frames",
        }
    }
}

/// The labels of an arm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ArmLabels {
    namespace: String,
    service: String,
    port: u16,
    revision: String,
}

/// An arm's metrics, and when a route named it last, as far as scrapes saw it.
#[derive(Debug)]
struct Kept {
    arm: Arc<ArmMetrics>,
    used: Instant,
}

#[derive(Debug, Default)]
pub struct Metrics {
    workload: Workload,
    arms: Mutex<BTreeMap<ArmLabels, Kept>>,
    ports: Mutex<BTreeMap<u16, Arc<PortMetrics>>>,
    pub connected: AtomicI64,
    pub installs: AtomicU64,
    pub routes: AtomicI64,
    pub reports: Reports,
    no_route: AtomicU64,
    no_answer: AtomicU64,
    pub streams: AtomicI64,
    refused: [AtomicU64; 4],
}

impl Metrics {
    /// With the labels of this workload on what comes in.
    pub fn of(workload: Workload) -> Metrics {
        Metrics {
            workload,
            ..Metrics::default()
        }
    }

    /// The handle of a revision of `route`; its series exist from now on.
    pub fn arm(&self, route: &Route, revision: &str) -> Arc<ArmMetrics> {
        let labels = ArmLabels {
            namespace: route.namespace.clone(),
            service: route.service.clone(),
            port: route.port,
            revision: revision.to_owned(),
        };
        let mut arms = self.arms.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = arms.entry(labels).or_insert_with(|| Kept {
            arm: Arc::default(),
            used: Instant::now(),
        });
        kept.arm.clone()
    }

    /// Forgets revisions that no route has named for an hour: a pod outlives many of them.
    fn forget_unused(&self, now: Instant) {
        let mut arms = self.arms.lock().unwrap_or_else(PoisonError::into_inner);
        arms.retain(|_, kept| {
            if Arc::strong_count(&kept.arm) > 1 {
                kept.used = now;
            }
            now.saturating_duration_since(kept.used) < UNUSED
        });
    }

    /// The handle of an application's port; its series exist from now on.
    pub fn port(&self, port: u16) -> Arc<PortMetrics> {
        self.ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(port)
            .or_default()
            .clone()
    }

    pub fn passed_through(&self, reason: PassThrough) {
        let counter = match reason {
            PassThrough::NoRoute => &self.no_route,
            PassThrough::NoAnswer => &self.no_answer,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn refused(&self, limit: Limit) {
        self.refused[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The text of `/metrics`.
    pub fn render(self: &Arc<Metrics>) -> Result<String, fmt::Error> {
        self.forget_unused(Instant::now());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Keys and values of one series.
type Labels<'a> = Vec<(&'a str, String)>;

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let arms: Vec<(Labels<'_>, Arc<ArmMetrics>)> = {
            let arms = self.arms.lock().unwrap_or_else(PoisonError::into_inner);
            arms.iter()
                .map(|(labels, kept)| (labels.pairs(), kept.arm.clone()))
                .collect()
        };
        let ports: Vec<(Labels<'_>, Arc<PortMetrics>)> = {
            let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
            ports
                .iter()
                .map(|(port, metrics)| (self.workload.pairs(*port), metrics.clone()))
                .collect()
        };
        let by_peer: Vec<(Labels<'_>, (Peer, Arc<PortMetrics>))> = ports
            .iter()
            .flat_map(|(labels, port)| {
                Peer::ALL.map(|peer| {
                    let mut labels = labels.clone();
                    labels.push((label::PEER, peer.as_str().to_owned()));
                    (labels, (peer, port.clone()))
                })
            })
            .collect();
        let e = &mut encoder;
        by_class(
            e,
            metric::OUTBOUND_REQUESTS,
            "Requests by the revision that answered last",
            &arms,
            |a| &a.requests,
        )?;
        by_class(
            e,
            metric::OUTBOUND_FIRST_ATTEMPTS,
            "First attempts by picked revision",
            &arms,
            |a| &a.first_attempts,
        )?;
        by_class(
            e,
            metric::OUTBOUND_CONNECTIONS,
            "Opaque connections opened",
            &arms,
            |a| &a.connections,
        )?;
        times(
            e,
            metric::OUTBOUND_DURATION,
            "Time to the answer's head, first attempts",
            &arms,
            |a| &a.duration,
        )?;
        by_class(
            e,
            metric::INBOUND_REQUESTS,
            "Requests to the application",
            &by_peer,
            |(peer, port)| port.requests(*peer),
        )?;
        times(
            e,
            metric::INBOUND_DURATION,
            "Time to the answer's head",
            &ports,
            |p| &p.duration,
        )?;
        self.encode_proxy(e)
    }
}

impl Metrics {
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
            .encode_counter::<NoLabelSet, _, f64>(&self.installs.load(Ordering::Relaxed), None)?;
        self.reports.encode(encoder)?;
        let mut metric = encoder.encode_descriptor(
            metric::PASSTHROUGH_CONNECTIONS,
            "Outbound connections without a route",
            None,
            MetricType::Counter,
        )?;
        for (reason, counter) in [("no_route", &self.no_route), ("no_answer", &self.no_answer)] {
            metric
                .encode_family(&[(label::REASON, reason)])?
                .encode_counter::<NoLabelSet, _, f64>(&counter.load(Ordering::Relaxed), None)?;
        }
        let mut metric = encoder.encode_descriptor(
            metric::REFUSED,
            "What was refused because a limit was reached",
            None,
            MetricType::Counter,
        )?;
        for limit in Limit::ALL {
            let counter = self.refused[limit as usize].load(Ordering::Relaxed);
            metric
                .encode_family(&[(label::REASON, limit.as_str())])?
                .encode_counter::<NoLabelSet, _, f64>(&counter, None)?;
        }
        Ok(())
    }
}

impl Workload {
    fn pairs(&self, port: u16) -> Labels<'static> {
        vec![
            (label::NAMESPACE, self.namespace.clone()),
            (label::WORKLOAD, self.name.clone()),
            (label::PORT, port.to_string()),
        ]
    }
}

impl ArmLabels {
    fn pairs(&self) -> Labels<'static> {
        vec![
            (label::DST_NAMESPACE, self.namespace.clone()),
            (label::DST_SERVICE, self.service.clone()),
            (label::DST_PORT, self.port.to_string()),
            (label::REVISION, self.revision.clone()),
        ]
    }
}

fn by_class<T>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(Labels<'_>, T)],
    counters: impl Fn(&T) -> &ByClass,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, one) in series {
        for class in Class::ALL {
            let mut labels = labels.clone();
            labels.push((label::CLASS, class.as_str().to_owned()));
            metric
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, f64>(&counters(one).get(class), None)?;
        }
    }
    Ok(())
}

fn times<T>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(Labels<'_>, Arc<T>)],
    histogram: impl Fn(&T) -> &Histogram,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, one) in series {
        let reading = histogram(one).read();
        metric
            .encode_family(labels)?
            .encode_histogram::<NoLabelSet>(
                reading.seconds,
                reading.count,
                &reading.buckets,
                None,
            )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic_core::config::{Arm, Protocol, Split};

    fn route() -> Route {
        let stable = Arm {
            cluster: "shop/web/80/v1".into(),
            revision: "v1".into(),
        };
        Route {
            name: "shop/web/80".into(),
            namespace: "shop".into(),
            service: "web".into(),
            port: 80,
            protocol: Protocol::Detect,
            rollout: "shop/web".into(),
            split: Split {
                stable,
                canary: None,
            },
            revoked: vec![],
        }
    }

    #[test]
    fn a_revision_is_forgotten_an_hour_after_its_last_use_and_not_while_it_is_used() {
        let metrics = Metrics::default();
        let used = metrics.arm(&route(), "v1");
        drop(metrics.arm(&route(), "v2"));
        let now = Instant::now();
        let known = || metrics.arms.lock().unwrap().len();
        metrics.forget_unused(now + UNUSED / 2);
        assert_eq!(known(), 2);
        metrics.forget_unused(now + UNUSED * 2);
        assert_eq!(known(), 1);
        drop(used);
        metrics.forget_unused(now + UNUSED * 5 / 2);
        assert_eq!(known(), 1);
        metrics.forget_unused(now + UNUSED * 4);
        assert_eq!(known(), 0);
    }
}
