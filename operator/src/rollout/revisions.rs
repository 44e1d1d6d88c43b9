//! Which pod is of which revision.
//!
//! Pods of a copy carry their revision as a label. Pods of the user's own Deployment are of the revision of their ReplicaSet's
//! template. That of the Deployment's present template counts as what the machine calls it: the two templates are compared as
//! the API server gives them now, so a field that a newer API server adds to both never makes a pod a stranger.
//!
//! Who a pod is does not hang on its revision: [`Identities`] knows it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kube::ResourceExt;
use traffic_core::config::Expected;

use super::identities::Identities;
use super::views::{PodSeen, Views};
use super::{deployment, replica_sets};
use crate::key::Key;
use crate::mesh::Pods;

/// A name that no split has: it answers only where nobody else does.
const UNKNOWN: &str = "(not known yet)";

/// What the rollouts say about revisions.
pub(super) trait Named {
    /// What the machine of a rollout calls the Deployment's present template.
    fn target(&self, rollout: &Key) -> Option<&str>;
    /// Whether the copies of a revision (its namespace and name) get nothing any more.
    fn retired(&self, revision: &Key) -> bool;
}

/// The revisions of pods. ReplicaSets are read once.
pub(super) struct Revisions<'a, N> {
    views: &'a Views,
    named: &'a N,
    identities: &'a Identities,
    sets: RefCell<HashMap<Key, Option<String>>>,
}

impl<'a, N: Named> Revisions<'a, N> {
    pub(super) fn new(views: &'a Views, named: &'a N, identities: &'a Identities) -> Self {
        Revisions {
            views,
            named,
            identities,
            sets: RefCell::default(),
        }
    }

    fn of_pod(&self, pod: &PodSeen) -> Option<String> {
        if let Some(label) = &pod.revision {
            // A name that no split has: its endpoints are in no cluster.
            let retired = self.named.retired(&pod.key.beside(&**label));
            return Some(if retired {
                format!("{label} (retired)")
            } else {
                label.to_string()
            });
        }
        let set = pod.key.beside(&**pod.replica_set.as_ref()?);
        let mut sets = self.sets.borrow_mut();
        let known = sets.entry(set).or_insert_with_key(|set| self.of_set(set));
        known.clone()
    }

    /// `None`: it is nobody's that is released.
    fn of_set(&self, key: &Key) -> Option<String> {
        let Some(set) = self.views.replica_sets.get(key) else {
            // A pod may be seen before its ReplicaSet: until then it may be anything.
            return Some(UNKNOWN.to_owned());
        };
        let mut owners = set.owner_references().iter();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        let deployment = key.beside(&owner.name);
        let original = self.views.original(&deployment)?;
        if original.metadata.uid.as_ref() != Some(&owner.uid) {
            return None;
        }
        let target = self.named.target(&self.views.rollout_of(&deployment)?)?;
        let present = deployment::template(&original).map(|template| template.revision);
        let own = replica_sets::read(&set).template.revision;
        Some(if Some(&own) == present.as_ref() {
            target.to_owned()
        } else {
            own
        })
    }
}

impl<N: Named> Pods for Revisions<'_, N> {
    fn revision(&self, key: &Key) -> Option<String> {
        let pod = self.views.pods.get(key)?;
        self.of_pod(&pod)
    }

    fn is_of_copy(&self, key: &Key) -> bool {
        let pod = self.views.pods.get(key);
        pod.is_some_and(|pod| pod.revision.is_some())
    }

    fn identity(&self, key: &Key, address: SocketAddr) -> Option<Expected> {
        self.identities.at(&*self.views.pods.get(key)?, address)
    }

    fn workload(&self, key: &Key) -> Option<Arc<str>> {
        self.views.pods.get(key)?.workload.clone()
    }
}
