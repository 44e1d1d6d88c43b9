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
    /// The same, or 0.
    due: AtomicI64,
    issued: AtomicU64,
    failed: AtomicU64,
    unserved: AtomicU64,
}

impl Identity {
    /// Every worker has a certificate that expires then, and is to be replaced from `due` on (seconds since 1970).
    pub fn issued(&self, expiry: i64, due: i64) {
        self.expiry.store(expiry, Ordering::Relaxed);
        self.due.store(due, Ordering::Relaxed);
        self.issued.fetch_add(1, Ordering::Relaxed);
    }

    /// When the certificate expires, in seconds since 1970; `None`: there is none.
    pub fn expires_at(&self) -> Option<i64> {
        let expiry = self.expiry.load(Ordering::Relaxed);
        (expiry != 0).then_some(expiry)
    }

    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn unserved(&self) {
        self.unserved.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, time) in [
            (
                metric::IDENTITY_EXPIRY,
                "When the pod's certificate expires",
                &self.expiry,
            ),
            (
                metric::IDENTITY_RENEWAL_DUE,
                "From when on the pod asks for another certificate",
                &self.due,
            ),
        ] {
            let time = time.load(Ordering::Relaxed);
            // A pod without a certificate has none that expires.
            if time != 0 {
                encoder
                    .encode_descriptor(name, help, None, MetricType::Gauge)?
                    .encode_gauge(&time)?;
            }
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
