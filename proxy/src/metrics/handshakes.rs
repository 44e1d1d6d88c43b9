//! What is counted of mutual TLS: each connection between two sidecars begins with one handshake.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;
use traffic_core::contract::{label, metric};

use super::series::{Labels, counted};

#[derive(Debug, Default)]
pub struct Handshakes {
    outbound: Results,
    inbound: Results,
}

#[derive(Debug, Default)]
struct Results {
    success: AtomicU64,
    failure: AtomicU64,
}

impl Handshakes {
    /// This pod has called.
    pub fn outbound<T, E>(&self, result: &Result<T, E>) {
        self.outbound.add(result);
    }

    /// This pod was called.
    pub fn inbound<T, E>(&self, result: &Result<T, E>) {
        self.inbound.add(result);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = [
            self.outbound.series("outbound"),
            self.inbound.series("inbound"),
        ];
        counted(
            encoder,
            metric::HANDSHAKES,
            "Handshakes of mutual TLS with other sidecars",
            all.as_flattened(),
            |counter| counter.load(Ordering::Relaxed),
        )
    }
}

impl Results {
    fn add<T, E>(&self, result: &Result<T, E>) {
        let counter = match result {
            Ok(_) => &self.success,
            Err(_) => &self.failure,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn series(&self, side: &str) -> [(Labels<'static>, &AtomicU64); 2] {
        [("success", &self.success), ("failure", &self.failure)].map(|(result, counter)| {
            let labels = vec![
                (label::SIDE, side.to_owned()),
                (label::RESULT, result.to_owned()),
            ];
            (labels, counter)
        })
    }
}
