//! A request as Istio's sidecars would label it.

use std::time::Instant;

use traffic_core::outcome::Dialect;

use super::entry::Record;
use super::peers::Peer;
use crate::metrics::istio::{Istio, Labels, Measures, Party, Reporter, Service};
use crate::net::origin::Side;

/// Counts it, unless it went where nobody knows a Service or an application: Istio counts those under what the caller says.
pub(super) fn count(istio: &Istio, record: &Record, peer: Peer) {
    if let Some(labels) = labels(istio, record, peer) {
        let measures = Measures {
            duration: record.duration,
            received: record.received,
            sent: record.sent,
        };
        istio.count(labels, &measures, Instant::now());
    }
}

fn labels(istio: &Istio, record: &Record, peer: Peer) -> Option<Labels> {
    let parties = &record.parties;
    let route = parties.route.as_ref().map(|ready| &*ready.route);
    let service = route.map(|route| Service {
        name: route.service.as_str().into(),
        namespace: route.namespace.as_str().into(),
    });
    let (reporter, source, destination) = match (parties.side, route) {
        (Side::Outbound, None) => return None,
        (Side::Outbound, Some(route)) => {
            let destination = called(&peer, &route.namespace);
            // An identity is shown to whoever shows one.
            let own = peer.own.filter(|_| peer.id.is_some());
            (Reporter::Source, istio.own(own), destination)
        }
        (Side::Inbound, _) if parties.own => {
            let caller = Party {
                principal: parties.caller_id.clone(),
                ..Party::default()
            };
            let own = peer.own.filter(|_| parties.caller_id.is_some());
            (Reporter::Destination, caller, istio.own(own))
        }
        // For a caller without a sidecar this one is the caller's.
        (Side::Inbound, Some(route)) => {
            let destination = called(&peer, &route.namespace);
            (Reporter::Source, Party::default(), destination)
        }
        (Side::Inbound, None) => return None,
    };
    Some(Labels {
        reporter,
        source,
        destination,
        service,
        grpc: match record.dialect {
            Dialect::Grpc => Some(record.grpc_status),
            Dialect::Http => None,
        },
        code: record.status,
        flags: record.flags.text(),
    })
}

/// A Service's pods are in its namespace.
fn called(peer: &Peer, namespace: &str) -> Party {
    let workload = peer.workload.clone();
    Party {
        namespace: workload.as_ref().map(|_| namespace.into()),
        workload,
        principal: peer.id.clone(),
    }
}
