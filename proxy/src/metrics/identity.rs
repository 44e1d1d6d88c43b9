//! What is counted of the pod's certificate.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use traffic_core::contract::{label, metric};

#[derive(Debug, Default)]
pub struct Identity {
    /// Seconds since 1970; 0: there is no certificate.
    expiry: AtomicI64,
    issued: AtomicU64,
    failed: AtomicU64,
    unserved: AtomicU64,
}

impl Identity {
    /// Every worker has a certificate that expires then (seconds since 1970).
    pub fn issued(&self, expiry: i64) {
        self.expiry.store(expiry, Ordering::Relaxed);
        self.issued.fetch_add(1, Ordering::Relaxed);
    }

    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn unserved(&self) {
        self.unserved.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let expiry = self.expiry.load(Ordering::Relaxed);
        // A pod without a certificate has none that expires.
        if expiry != 0 {
            encoder
                .encode_descriptor(
                    metric::IDENTITY_EXPIRY,
                    "When the pod's certificate expires",
                    None,
                    MetricType::Gauge,
                )?
                .encode_gauge(&expiry)?;
        }
        let mut metric = encoder.encode_descriptor(
            metric::IDENTITY_RENEWALS,
            "Requests for a certificate",
            None,
            MetricType::Counter,
        )?;
        for (result, counter) in [
            ("issued", &self.issued),
            ("failed", &self.failed),
            ("unserved", &self.unserved),
        ] {
            metric
                .encode_family(&[(label::RESULT, result)])?
                .encode_counter::<NoLabelSet, _, f64>(&counter.load(Ordering::Relaxed), None)?;
        }
        Ok(())
    }
}
