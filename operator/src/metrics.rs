//! What the operator says about itself to Prometheus: the rollouts, its own work, the proxies' streams, and its requests to
//! the API server.
//!
//! Every label but the names of rollouts comes from a closed set. What has a value at every moment is read when it is asked
//! for ([`gauges`]); a rollout's own values are what its last look has shown.

mod gauges;
mod requests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::ads::Ads;
use crate::certificates::Expiries;
use crate::key::Key;
use crate::rollout::hooks::CallError;
use crate::rollout::write::WriteError;

pub use requests::{CountRequests, Counted};

/// The result of a call that brought a yes.
const AGREED: &str = "ok";

/// What one rollout's last look has shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    pub phase: &'static str,
    /// Of 100: what the machine wants, and what proxies are sent.
    pub wanted: i64,
    pub sent: i64,
    /// What all proxies use; `None`: still what they used before.
    pub acknowledged: Option<i64>,
    pub proxies: u32,
    pub laggards: u32,
    /// Its Deployment is paused by us.
    pub gated: bool,
    /// The reason of its condition Stalled, while that is true.
    pub stalled: Option<String>,
}

/// Clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    rollouts: Arc<Mutex<BTreeMap<Key, Shown>>>,
    windows: Family<Verdict, Counter>,
    looks: Histogram,
    queue: Gauge,
    writes: Histogram,
    waiting: Gauge,
    errors: Family<Category, Counter>,
    notes: Family<Reason, Counter>,
    requests: Family<requests::Request, Counter>,
    calls: Family<CallResult, Counter>,
    notifications: Family<CallResult, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Category {
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
    tone: &'static str,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let looks = [
            0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0,
        ];
        let writes = [
            0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 12.0,
        ];
        // Alerts ask for increases, and what appears with 1 has none.
        let windows = Family::<Verdict, Counter>::default();
        for verdict in ["Pass", "Fail", "NoEvidence"] {
            drop(windows.get_or_create(&Verdict { verdict }));
        }
        let errors = Family::<Category, Counter>::default();
        for category in WriteError::CATEGORIES {
            drop(errors.get_or_create(&Category { category }));
        }
        let notes = Family::<Reason, Counter>::default();
        drop(notes.get_or_create(&Reason {
            reason: "Ungated",
            tone: "Warning",
        }));
        let calls = Family::<CallResult, Counter>::default();
        for result in CallError::CATEGORIES.into_iter().chain([AGREED]) {
            drop(calls.get_or_create(&CallResult { result }));
        }
        let notifications = Family::<CallResult, Counter>::default();
        for result in ["sent", "failed", "dropped"] {
            drop(notifications.get_or_create(&CallResult { result }));
        }
        Metrics {
            rollouts: Arc::default(),
            windows,
            looks: Histogram::new(looks),
            queue: Gauge::default(),
            writes: Histogram::new(writes),
            waiting: Gauge::default(),
            errors,
            notes,
            requests: requests::family(),
            calls,
            notifications,
        }
    }
}

impl Metrics {
    /// Registers all of them; those of the streams and certificates are read from where they are.
    pub fn register(
        &self,
        registry: &mut Registry,
        ads: &Ads,
        expiries: impl Fn() -> Expiries + Send + Sync + 'static,
    ) {
        let ours = registry.sub_registry_with_prefix("aviary_operator");
        let Metrics {
            rollouts,
            windows,
            looks,
            queue,
            writes,
            waiting,
            errors,
            notes,
            requests,
            calls,
            notifications,
        } = self.clone();
        ours.register(
            "windows",
            "Windows of metrics that were judged, by verdict",
            windows,
        );
        ours.register(
            "reconcile_seconds",
            "Time that one look at a rollout and what follows from it took",
            looks,
        );
        ours.register("queue", "Rollouts that are due to be looked at", queue);
        ours.register(
            "write_seconds",
            "Time from a decision until its request was answered by the API server",
            writes,
        );
        ours.register(
            "writes",
            "Requests to the API server that are under way or wait for their turn",
            waiting,
        );
        ours.register(
            "errors",
            "Requests to the API server that did not do what they were to do, by category",
            errors,
        );
        ours.register(
            "notes",
            "What was said about rollouts in Events and the log, by reason",
            notes,
        );
        ours.register(
            "api_requests",
            "Requests to the API server, by method and status code; 0 is no answer",
            requests,
        );
        ours.register(
            "hook_calls",
            "Calls of hooks, by result; ok is a status from 200 to 299",
            calls,
        );
        ours.register(
            "notifications",
            "Notifications, by what became of them",
            notifications,
        );
        ours.register_collector(Box::new(gauges::Gauges::new(
            rollouts,
            ads.clone(),
            expiries,
        )));
    }

    /// `None`: there is no such rollout any more.
    pub fn show(&self, rollout: &Key, shown: Option<Shown>) {
        let mut rollouts = self.rollouts.lock().unwrap_or_else(PoisonError::into_inner);
        match shown {
            Some(mut shown) => {
                let before = rollouts.get(rollout).and_then(|before| before.acknowledged);
                shown.acknowledged = shown.acknowledged.or(before);
                rollouts.insert(rollout.clone(), shown);
            }
            None => drop(rollouts.remove(rollout)),
        }
    }

    pub fn judged(&self, verdict: &'static str) {
        self.windows.get_or_create(&Verdict { verdict }).inc();
    }

    pub fn looked(&self, took: Duration, queue: usize) {
        self.looks.observe(took.as_secs_f64());
        self.queue.set(i64::try_from(queue).unwrap_or(i64::MAX));
    }

    pub fn writing(&self) {
        self.waiting.inc();
    }

    pub fn wrote(&self, took: Duration, error: Option<&'static str>) {
        self.waiting.dec();
        self.writes.observe(took.as_secs_f64());
        if let Some(category) = error {
            self.errors.get_or_create(&Category { category }).inc();
        }
    }

    /// A hook was called; `None`: it agreed.
    pub fn called(&self, error: Option<&'static str>) {
        let result = error.unwrap_or(AGREED);
        self.calls.get_or_create(&CallResult { result }).inc();
    }

    /// What became of a notification: sent, failed or dropped.
    pub fn notified(&self, result: &'static str) {
        self.notifications
            .get_or_create(&CallResult { result })
            .inc();
    }

    #[cfg(test)]
    pub(crate) fn notifications(&self, result: &'static str) -> u64 {
        let counter = self.notifications.get_or_create(&CallResult { result });
        counter.get()
    }

    pub fn said(&self, reason: &'static str, tone: &'static str) {
        self.notes.get_or_create(&Reason { reason, tone }).inc();
    }

    /// A layer that counts what a client sends.
    pub fn requests(&self) -> CountRequests {
        CountRequests::new(self.requests.clone())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::ads::RevocationKey;

    #[test]
    fn a_rollout_is_shown_until_it_is_gone() {
        let mut registry = Registry::default();
        let ads = Ads::new(RevocationKey::new(&[1; 32]));
        let metrics = Metrics::default();
        let expiries = || Expiries {
            serving: 1_900_000_000,
            root: 2_100_000_000,
            workloads: Some(2_000_000_000),
        };
        metrics.register(&mut registry, &ads, expiries);
        let text = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let rollout = Key::new("shop", "web");
        let shown = Shown {
            phase: "Shifting",
            wanted: 50,
            sent: 50,
            acknowledged: Some(10),
            proxies: 3,
            laggards: 1,
            gated: true,
            stalled: Some("Refused".to_owned()),
        };
        metrics.show(&rollout, Some(shown.clone()));
        let lagging = Shown {
            acknowledged: None,
            ..shown
        };
        metrics.show(&rollout, Some(lagging));
        metrics.judged("Pass");
        metrics.writing();
        metrics.wrote(Duration::from_millis(3), Some("conflict"));
        metrics.said("Promoted", "Normal");
        metrics.called(None);
        metrics.called(Some("timeout"));
        let all = text();
        for line in [
            r#"aviary_operator_rollout_phase{namespace="shop",rollout="web",phase="Shifting"} 1.0"#,
            r#"aviary_operator_rollout_weight_ratio{namespace="shop",rollout="web",stage="wanted"} 0.5"#,
            r#"aviary_operator_rollout_weight_ratio{namespace="shop",rollout="web",stage="sent"} 0.5"#,
            r#"aviary_operator_rollout_weight_ratio{namespace="shop",rollout="web",stage="acknowledged"} 0.1"#,
            r#"aviary_operator_rollout_proxies{namespace="shop",rollout="web"} 3.0"#,
            r#"aviary_operator_rollout_laggards{namespace="shop",rollout="web"} 1.0"#,
            r#"aviary_operator_rollout_gated{namespace="shop",rollout="web"} 1.0"#,
            r#"aviary_operator_rollout_stalled{namespace="shop",rollout="web",reason="Refused"} 1.0"#,
            r#"aviary_operator_windows_total{verdict="Pass"} 1"#,
            r#"aviary_operator_errors_total{category="conflict"} 1"#,
            r#"aviary_operator_notes_total{reason="Promoted",tone="Normal"} 1"#,
            r#"aviary_operator_writes 0"#,
            r#"aviary_operator_hook_calls_total{result="ok"} 1"#,
            r#"aviary_operator_notifications_total{result="dropped"} 0"#,
            r#"aviary_operator_hook_calls_total{result="timeout"} 1"#,
            r#"aviary_operator_hook_calls_total{result="not_allowed"} 0"#,
            r#"aviary_operator_write_seconds_count 1"#,
            r#"aviary_operator_xds_streams 0.0"#,
            r#"aviary_operator_outcome_reports_total{result="capped"} 0"#,
            r#"aviary_operator_certificate_expiry_timestamp_seconds 1900000000.0"#,
            r#"aviary_operator_root_expiry_timestamp_seconds 2100000000.0"#,
            r#"aviary_operator_workload_issuer_expiry_timestamp_seconds 2000000000.0"#,
        ] {
            assert!(
                all.lines().any(|each| each == line),
                "{line} is not in\n{all}"
            );
        }
        metrics.show(&rollout, None);
        assert!(!text().contains("shop"));
    }
}
