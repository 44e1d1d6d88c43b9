//! What the API server told us: watched objects, kept small. A look reads from here and asks nothing of the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use aviary_crds::{CANARY_OF_LABEL, CanaryRollout, ROLLOUT_LABEL};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube_runtime::reflector::{ObjectRef, Store};

use super::write::Kind;
use crate::key::Key;

/// A CanaryRollout, or what is known of one that this version cannot read: one of a newer version hides no other.
pub type Guarded = DeserializeGuard<CanaryRollout>;

/// The stores. Clones are the same stores.
#[derive(Clone)]
pub struct Views {
    pub rollouts: Store<Guarded>,
    /// Adopted Deployments, as raw JSON: their templates must not lose a field.
    pub originals: Store<DynamicObject>,
    /// Canary copies.
    pub copies: Store<DynamicObject>,
    /// Stripped to what [`super::replica_sets`] reads.
    pub replica_sets: Store<DynamicObject>,
    /// Templates that were kept as ControllerRevisions.
    pub kept: Store<DynamicObject>,
    pub pods: Store<Pod>,
    pub services: Store<Service>,
    pub slices: Store<EndpointSlice>,
    pub claims: Store<PersistentVolumeClaim>,
    pub freezes: Store<ConfigMap>,
}

impl Views {
    pub fn rollout(&self, key: &Key) -> Option<Arc<Guarded>> {
        self.rollouts
            .get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// The readable CanaryRollouts of a namespace.
    pub fn rollouts_of(&self, namespace: &str) -> Vec<Arc<Guarded>> {
        self.rollouts.state_filter(|each| {
            each.0
                .as_ref()
                .is_ok_and(|rollout| rollout.namespace().as_deref() == Some(namespace))
        })
    }

    /// The adopted Deployment of this name, whoever has adopted it.
    pub fn original(&self, key: &Key) -> Option<Arc<DynamicObject>> {
        let reference =
            ObjectRef::new_with(&key.name, Kind::Deployment.resource()).within(&key.namespace);
        self.originals.get(&reference)
    }

    /// The Deployments that carry the label of this rollout.
    pub fn originals_of(&self, rollout: &Key) -> Vec<Arc<DynamicObject>> {
        labelled(&self.originals, rollout, ROLLOUT_LABEL)
    }

    /// All copies that a rollout has made, by name.
    pub fn copies_of(&self, rollout: &Key) -> Vec<Arc<DynamicObject>> {
        labelled(&self.copies, rollout, CANARY_OF_LABEL)
    }

    /// The templates that were kept for a rollout, by name.
    pub fn kept_of(&self, rollout: &Key) -> Vec<Arc<DynamicObject>> {
        labelled(&self.kept, rollout, ROLLOUT_LABEL)
    }

    /// The ReplicaSets that a Deployment controls, by name.
    pub fn replica_sets_of(&self, deployment: &DynamicObject) -> Vec<Arc<DynamicObject>> {
        let (namespace, uid) = (deployment.namespace(), deployment.uid());
        let mut owned = self.replica_sets.state_filter(|each| {
            each.namespace() == namespace
                && each
                    .owner_references()
                    .iter()
                    .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == uid.as_ref())
        });
        owned.sort_by_key(|each| each.name_any());
        owned
    }

    pub fn has_replica_set(&self, key: &Key) -> bool {
        let reference =
            ObjectRef::new_with(&key.name, Kind::ReplicaSet.resource()).within(&key.namespace);
        self.replica_sets.get(&reference).is_some()
    }

    pub fn service(&self, key: &Key) -> Option<Arc<Service>> {
        self.services
            .get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// Access modes of the volume claims of a namespace, by name.
    pub fn claims_of(&self, namespace: &str) -> BTreeMap<String, Vec<String>> {
        self.claims
            .state_filter(|each| each.namespace().as_deref() == Some(namespace))
            .iter()
            .map(|claim| {
                let modes = claim.spec.as_ref().and_then(|s| s.access_modes.clone());
                (claim.name_any(), modes.unwrap_or_default())
            })
            .collect()
    }

    pub fn frozen(&self) -> bool {
        !self.freezes.is_empty()
    }
}

fn labelled(store: &Store<DynamicObject>, rollout: &Key, label: &str) -> Vec<Arc<DynamicObject>> {
    let mut found = store.state_filter(|each| {
        each.namespace().as_deref() == Some(rollout.namespace.as_str())
            && each.labels().get(label) == Some(&rollout.name)
    });
    found.sort_by_key(|each| each.name_any());
    found
}
