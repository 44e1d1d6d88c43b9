//! What is true at the moment of a scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Shown;
use crate::ads::{Ads, Counts};
use crate::certificates::Expiries;
use crate::key::Key;
use crate::outcomes::Counters;

pub(super) struct Gauges {
    rollouts: Arc<Mutex<BTreeMap<Key, Shown>>>,
    ads: Ads,
    expiries: Box<dyn Fn() -> Expiries + Send + Sync>,
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges").finish_non_exhaustive()
    }
}

impl Gauges {
    pub(super) fn new(
        rollouts: Arc<Mutex<BTreeMap<Key, Shown>>>,
        ads: Ads,
        expiries: impl Fn() -> Expiries + Send + Sync + 'static,
    ) -> Gauges {
        Gauges {
            rollouts,
            ads,
            expiries: Box::new(expiries),
        }
    }
}

/// One value of a rollout, and the labels that it has besides the rollout's name.
type Value = (Option<(&'static str, String)>, f64);

/// Name, help, and the values of a rollout.
type Metric = (&'static str, &'static str, fn(&Shown) -> Vec<Value>);

const OF_ROLLOUTS: [Metric; 6] = [
    (
        "rollout_phase",
        "The phase that the rollout is in",
        |shown| vec![(Some(("phase", shown.phase.to_owned())), 1.0)],
    ),
    (
        "rollout_weight_ratio",
        "The canary's share of the requests: wanted, sent to the proxies, and used by all of them",
        |shown| {
            let stages = [
                ("wanted", shown.wanted),
                ("sent", shown.sent),
                ("acknowledged", shown.acknowledged.unwrap_or(0)),
            ];
            let value = |(stage, percent): (&str, i64)| {
                (Some(("stage", stage.to_owned())), percent as f64 / 100.0)
            };
            stages.map(value).into()
        },
    ),
    (
        "rollout_proxies",
        "Proxies that call the rollout's Services",
        |shown| vec![(None, f64::from(shown.proxies))],
    ),
    (
        "rollout_laggards",
        "Proxies that have not acknowledged what they were sent",
        |shown| vec![(None, f64::from(shown.laggards))],
    ),
    (
        "rollout_gated",
        "Whether the rollout's Deployment is paused by the gate",
        |shown| vec![(None, f64::from(u8::from(shown.gated)))],
    ),
    (
        "rollout_stalled",
        "Rollouts that do not get on by themselves, with the reason",
        |shown| {
            let reason = shown.stalled.iter();
            reason
                .map(|reason| (Some(("reason", reason.clone())), 1.0))
                .collect()
        },
    ),
];

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        {
            let rollouts = self.rollouts.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, help, values) in OF_ROLLOUTS {
                let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                for (key, shown) in &*rollouts {
                    for (label, value) in values(shown) {
                        let labels = Labels { key, label };
                        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                    }
                }
            }
        }
        let Counts {
            streams,
            pushes,
            heartbeats,
            rejections,
        } = self.ads.counts();
        let Expiries {
            serving,
            root,
            workloads,
        } = (self.expiries)();
        let mut gauge = |name: &str, help: &str, value: f64| {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(encoder)
        };
        gauge("xds_streams", "Open streams of proxies", streams as f64)?;
        gauge(
            "certificate_expiry_timestamp_seconds",
            "When the certificate of the webhooks and of the xDS server expires",
            serving as f64,
        )?;
        gauge(
            "root_expiry_timestamp_seconds",
            "When the authority expires that signed it, and that every proxy trusts",
            root as f64,
        )?;
        if let Some(workloads) = workloads {
            gauge(
                "workload_issuer_expiry_timestamp_seconds",
                "When the issuer of pods' certificates expires",
                workloads as f64,
            )?;
        }
        let mut counter = |name: &str, help: &str, value: u64| {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(encoder)
        };
        counter(
            "xds_pushes",
            "Messages with something new that were sent to proxies",
            pushes,
        )?;
        counter(
            "xds_heartbeats",
            "Messages that renewed leases of weights",
            heartbeats,
        )?;
        counter(
            "xds_rejections",
            "Configurations that proxies have rejected",
            rejections,
        )?;
        self.encode_outcomes(&mut encoder)
    }
}

impl Gauges {
    /// What became of what proxies report of requests.
    fn encode_outcomes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Counters {
            counted,
            unfollowed,
            untimely,
            capped,
            behind,
            strangers,
        } = self.ads.outcomes().counters();
        let mut family = encoder.encode_descriptor(
            "outcome_reports",
            "Reports of requests by proxies: counted, of a revision that is not released, of a second that is closed or to come, more than one proxy may say, of a proxy that still splits by an older weight, or of one that no CallerPolicy lets call",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in [
            ("counted", counted),
            ("unfollowed", unfollowed),
            ("untimely", untimely),
            ("capped", capped),
            ("behind", behind),
            ("stranger", strangers),
        ] {
            let labels = [("result", result)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Labels<'a> {
    key: &'a Key,
    label: Option<(&'static str, String)>,
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> fmt::Result {
        let own = [
            ("namespace", self.key.namespace.as_str()),
            ("rollout", self.key.name.as_str()),
        ];
        for pair in own {
            prometheus_client::encoding::EncodeLabel::encode(&pair, encoder.encode_label())?;
        }
        if let Some((name, value)) = &self.label {
            let pair = (*name, value.as_str());
            prometheus_client::encoding::EncodeLabel::encode(&pair, encoder.encode_label())?;
        }
        Ok(())
    }
}
