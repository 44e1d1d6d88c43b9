//! What is counted for the ports of the application.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::DescriptorEncoder;
use traffic_core::contract::{label, metric};
use traffic_core::peer::Peer;

use super::classes::ByClass;
use super::histogram::Histogram;
use super::series::{Labels, by_class, times};

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

impl Workload {
    fn pairs(&self, port: u16) -> Labels<'static> {
        vec![
            (label::NAMESPACE, self.namespace.clone()),
            (label::WORKLOAD, self.name.clone()),
            (label::PORT, port.to_string()),
        ]
    }
}

#[derive(Debug, Default)]
pub(super) struct Ports {
    workload: Workload,
    ports: Mutex<BTreeMap<u16, Arc<PortMetrics>>>,
}

impl Ports {
    pub(super) fn of(workload: Workload) -> Ports {
        Ports {
            workload,
            ports: Mutex::default(),
        }
    }

    pub(super) fn port(&self, port: u16) -> Arc<PortMetrics> {
        self.ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(port)
            .or_default()
            .clone()
    }

    pub(super) fn encode(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
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
        )
    }
}
