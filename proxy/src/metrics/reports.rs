//! What is counted of the stream on which outcomes are told.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use traffic_core::contract::{label, metric};

#[derive(Debug, Default)]
pub struct Reports {
    pub connected: AtomicI64,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Reports {
    pub fn sent(&self, reports: usize) {
        add(&self.sent, reports);
    }

    pub fn dropped(&self, reports: usize) {
        add(&self.dropped, reports);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        encoder
            .encode_descriptor(
                metric::OUTCOMES_CONNECTED,
                "Whether the control plane takes what becomes of first attempts",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&self.connected.load(Ordering::Relaxed))?;
        let mut metric = encoder.encode_descriptor(
            metric::OUTCOME_REPORTS,
            "Reports of one revision's second",
            None,
            MetricType::Counter,
        )?;
        for (result, counter) in [("sent", &self.sent), ("dropped", &self.dropped)] {
            metric
                .encode_family(&[(label::RESULT, result)])?
                .encode_counter::<NoLabelSet, _, f64>(&counter.load(Ordering::Relaxed), None)?;
        }
        Ok(())
    }
}

fn add(counter: &AtomicU64, reports: usize) {
    let reports = u64::try_from(reports).unwrap_or(u64::MAX);
    counter.fetch_add(reports, Ordering::Relaxed);
}
