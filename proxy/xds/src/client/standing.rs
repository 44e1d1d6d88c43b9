//! How the client stands with the control plane, for people who ask: what has been received, acknowledged and rejected, and the versions of what is held.
//! Nothing is decided by it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::DeltaClient;
use crate::kind::Kind;

/// Responses about one kind of resources, on all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    pub received: u64,
    pub acknowledged: u64,
    pub rejected: u64,
}

/// A response that was not taken, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The URL of its type, which may be of no kind that there is.
    pub type_url: String,
    pub reason: String,
    pub at: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// With how many of its responses wait for their acknowledgement.
    pub kinds: [(Kind, Exchanged, u64); 4],
    pub last_rejection: Option<Rejection>,
    /// By name: the newest that were received.
    pub routes: BTreeMap<String, String>,
    /// Of the endpoints of clusters, by name.
    pub endpoints: BTreeMap<String, String>,
    /// Of what to do with what comes in.
    pub inbound: Option<String>,
}

impl DeltaClient {
    pub fn standing(&self) -> Standing {
        let awaiting = |kind| {
            let stream = self.stream.as_ref();
            let waiting = stream.map_or(0, |stream| {
                let all = stream.awaiting.iter();
                all.filter(|awaiting| awaiting.kind() == kind).count()
            });
            waiting as u64
        };
        let routes = self.routes.iter();
        let endpoints = self.clusters.iter();
        Standing {
            kinds: Kind::ALL.map(|kind| (kind, self.exchanged[kind], awaiting(kind))),
            last_rejection: self.last_rejection.clone(),
            routes: routes
                .map(|(name, held)| (name.clone(), held.version.clone()))
                .collect(),
            endpoints: endpoints
                .filter_map(|(name, held)| Some((name.clone(), held.endpoints_version.clone()?)))
                .collect(),
            inbound: self.inbound.as_ref().map(|held| held.version.clone()),
        }
    }

    /// A response was rejected, for this reason.
    pub(super) fn rejected(&mut self, type_url: &str, reason: &str, at: Instant) {
        if let Ok(kind) = Kind::from_type_url(type_url) {
            self.exchanged[kind].rejected += 1;
        }
        self.last_rejection = Some(Rejection {
            type_url: type_url.to_owned(),
            reason: reason.to_owned(),
            at,
        });
    }
}
