//! What is known of whoever is at the other end: of endpoints, what the control plane says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use traffic_core::config::Cluster;

use super::entry::Record;

/// An endpoint, and this pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Peer {
    /// What the endpoint's pod is one of, where it lets that be known.
    pub workload: Option<Arc<str>>,
    /// The SPIFFE ID that was found there; `None`: it was called in the clear.
    pub id: Option<Arc<str>>,
    /// This pod's.
    pub own: Option<Arc<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    endpoints: RwLock<HashMap<SocketAddr, Peer>>,
    own: RwLock<Option<Arc<str>>>,
}

impl Peers {
    pub(super) fn set<'c>(&self, clusters: impl Iterator<Item = &'c Arc<Cluster>>) {
        let endpoints = clusters.flat_map(|cluster| &cluster.endpoints);
        let known = endpoints.map(|endpoint| {
            let identity = endpoint.identity.as_ref();
            let spoken = identity.filter(|it| it.accepts || it.demands);
            let peer = Peer {
                workload: endpoint.workload.clone(),
                id: spoken.map(|it| it.id.clone()),
                own: None,
            };
            (endpoint.address, peer)
        });
        let known = known.collect();
        *self
            .endpoints
            .write()
            .unwrap_or_else(PoisonError::into_inner) = known;
    }

    pub(super) fn identify(&self, id: &Arc<str>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
    }

    /// Whom a request went to.
    pub(super) fn of(&self, record: &Record) -> Peer {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let known = self
            .endpoints
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let endpoint = record
            .parties
            .endpoint
            .and_then(|address| known.get(&address));
        Peer {
            own: own.clone(),
            ..endpoint.cloned().unwrap_or_default()
        }
    }
}
