//! What is counted of the access log.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use traffic_core::contract::{label, metric};

#[derive(Debug, Default)]
pub struct LogLines {
    written: AtomicU64,
    dropped: AtomicU64,
}

impl LogLines {
    pub fn written(&self, lines: u64) {
        self.written.fetch_add(lines, Ordering::Relaxed);
    }

    pub fn dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// Since the proxy started.
    pub fn all_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            metric::ACCESS_LOG_LINES,
            "Lines of the access log, by what became of them",
            None,
            MetricType::Counter,
        )?;
        for (result, counter) in [("written", &self.written), ("dropped", &self.dropped)] {
            metric
                .encode_family(&[(label::RESULT, result)])?
                .encode_counter::<NoLabelSet, _, f64>(&counter.load(Ordering::Relaxed), None)?;
        }
        Ok(())
    }
}
