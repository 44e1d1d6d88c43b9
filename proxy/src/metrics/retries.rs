//! What was sent again of one revision's requests, and what was not although it might have been. There are such series for routes whose Service asks for retries,
//! and for no others.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use traffic_core::contract::{label, metric};
use traffic_core::retry::Failure;

use super::series::Labels;

/// Why an attempt failed, as labels tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Unsent,
    Reset,
    Status,
    Grpc,
}

impl Reason {
    const ALL: [Reason; 4] = [Reason::Unsent, Reason::Reset, Reason::Status, Reason::Grpc];

    fn of(failure: Failure) -> Option<Reason> {
        match failure {
            Failure::Unsent | Failure::Full => Some(Reason::Unsent),
            Failure::Reset => Some(Reason::Reset),
            Failure::Status(_) => Some(Reason::Status),
            Failure::Grpc(_) => Some(Reason::Grpc),
            Failure::Over => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Reason::Unsent => "unsent",
            Reason::Reset => "reset",
            Reason::Status => "status",
            Reason::Grpc => "grpc",
        }
    }
}

#[derive(Debug, Default)]
struct ByReason([AtomicU64; Reason::ALL.len()]);

impl ByReason {
    fn add(&self, failure: Failure) {
        if let Some(reason) = Reason::of(failure) {
            self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct Retries {
    sent: ByReason,
    over_budget: ByReason,
}

impl Retries {
    /// An attempt has failed so, and its request was sent again.
    pub fn sent(&self, failure: Failure) {
        self.sent.add(failure);
    }

    /// It would have been, and the budget was spent.
    pub fn over_budget(&self, failure: Failure) {
        self.over_budget.add(failure);
    }
}

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    series: &[(Labels<'_>, Arc<super::ArmMetrics>)],
) -> fmt::Result {
    type Counts = fn(&Retries) -> &ByReason;
    let metrics: [(&str, &str, Counts); 2] = [
        (
            metric::OUTBOUND_RETRIES,
            "Attempts of a revision that failed and whose request was sent again",
            |retries| &retries.sent,
        ),
        (
            metric::OUTBOUND_RETRIES_OVER_BUDGET,
            "Attempts of a revision that failed and whose request was not sent again, since the budget was spent",
            |retries| &retries.over_budget,
        ),
    ];
    for (name, help, counts) in metrics {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, arm) in series {
            let Some(retries) = arm.retries.get() else {
                continue;
            };
            for reason in Reason::ALL {
                let mut labels = labels.clone();
                labels.push((label::REASON, reason.as_str().to_owned()));
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, f64>(&counts(retries).get(reason), None)?;
            }
        }
    }
    Ok(())
}
