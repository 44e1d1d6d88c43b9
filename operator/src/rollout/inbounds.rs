//! What each sidecar is to do with what comes in.

use std::collections::{BTreeSet, HashSet};

use traffic_core::inbound::{Callers, Inbound, Mtls};

use super::changes::Change;
use super::views::{PodSeen, Sidecar, Views};
use crate::key::Key;
use crate::mesh::WorldChange;

/// Which pods have been told, and which are to be told anew.
#[derive(Debug, Default)]
pub(super) struct Inbounds {
    told: HashSet<Key>,
    stale: Stale,
}

#[derive(Debug, Default)]
enum Stale {
    #[default]
    All,
    Some(BTreeSet<Key>),
}

impl Inbounds {
    /// Notes whom a change is about.
    pub(super) fn touch(&mut self, change: &Change) {
        match change {
            Change::Everything => self.stale = Stale::All,
            Change::Pod(pod) => {
                if let Stale::Some(stale) = &mut self.stale {
                    stale.insert(pod.clone());
                }
            }
            Change::Rollout(_)
            | Change::Target(_)
            | Change::Deployment(_)
            | Change::Revisions(_)
            | Change::ReplicaSet(_)
            | Change::Service(_)
            | Change::Endpoints(_)
            | Change::Claim(_)
            | Change::Lacking { .. }
            | Change::Namespace(_) => {}
        }
    }

    /// Adds to `change` what the pods that were noted are to do.
    pub(super) fn publish(&mut self, views: &Views, change: &mut WorldChange) {
        let stale = std::mem::replace(&mut self.stale, Stale::Some(BTreeSet::new()));
        let stale: BTreeSet<Key> = match stale {
            Stale::All => {
                let known = self.told.iter().cloned();
                known.chain(views.pods.keys()).collect()
            }
            Stale::Some(stale) => stale,
        };
        for key in stale {
            let pod = views.pods.get(&key);
            let meshed = pod.filter(|pod| pod.sidecar != Sidecar::None);
            match meshed {
                Some(pod) => {
                    change.inbound.insert(key.clone(), Some(of(&pod)));
                    self.told.insert(key);
                }
                None if self.told.remove(&key) => {
                    change.inbound.insert(key, None);
                }
                None => {}
            }
        }
    }
}

fn of(pod: &PodSeen) -> Inbound {
    Inbound {
        mtls: Mtls::Permissive,
        probes: pod.probes.to_vec(),
        callers: Callers::Anybody,
    }
}
