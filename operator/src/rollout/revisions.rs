//! Which pod is of which revision.
//!
//! Pods of a copy carry their revision as a label. Pods of the user's own Deployment are of the revision that it asks for
//! when their ReplicaSet has its present template, and of the stable one otherwise. The two templates are compared as the
//! API server gives them now, so a field that a newer API server adds to both never makes a pod a stranger.

use std::collections::{BTreeMap, BTreeSet};

use aviary_crds::{REVISION_LABEL, ROLLOUT_LABEL};
use kube::ResourceExt;
use rollout_core::state::State;

use super::stores::{REVISION, Stores};
use crate::revision;

/// From (namespace, pod) to revision.
pub type PodRevisions = BTreeMap<(String, String), String>;

/// `state` gives the state of the rollout (namespace, name); `retired` holds the copies (namespace, revision) whose pods get
/// nothing any more.
pub fn of_pods(
    stores: &Stores,
    state: impl Fn(&str, &str) -> Option<State>,
    retired: &BTreeSet<(String, String)>,
) -> PodRevisions {
    // (namespace, ReplicaSet) -> revision, for the ReplicaSets of adopted Deployments.
    let mut originals = BTreeMap::new();
    for original in stores.originals.state() {
        let (Some(namespace), Some(rollout)) =
            (original.namespace(), original.labels().get(ROLLOUT_LABEL))
        else {
            continue;
        };
        if let (Some(state), Some(template)) = (
            state(&namespace, rollout),
            original.data.pointer("/spec/template"),
        ) {
            originals.insert(
                (namespace, original.name_any()),
                (revision::revision(template), state),
            );
        }
    }
    let mut replica_sets = BTreeMap::new();
    for replica_set in stores.replica_sets.state() {
        let Some(namespace) = replica_set.namespace() else {
            continue;
        };
        let Some(owner) = replica_set
            .owner_references()
            .iter()
            .find(|owner| owner.kind == "Deployment")
        else {
            continue;
        };
        if let Some((present, state)) = originals.get(&(namespace.clone(), owner.name.clone())) {
            let own = replica_set
                .data
                .get(REVISION)
                .and_then(|revision| revision.as_str());
            let of = if own == Some(present) {
                &state.target
            } else {
                &state.stable
            };
            replica_sets.insert((namespace, replica_set.name_any()), of.revision.clone());
        }
    }
    let mut revisions = BTreeMap::new();
    for pod in stores.pods.state() {
        let Some(namespace) = pod.namespace() else {
            continue;
        };
        let revision = match pod.labels().get(REVISION_LABEL) {
            // A name that no split has: its endpoints are in no cluster.
            Some(label) if retired.contains(&(namespace.clone(), label.clone())) => {
                Some(format!("{label} (retired)"))
            }
            Some(label) => Some(label.clone()),
            None => pod
                .owner_references()
                .iter()
                .find(|owner| owner.kind == "ReplicaSet")
                .and_then(|owner| {
                    replica_sets
                        .get(&(namespace.clone(), owner.name.clone()))
                        .cloned()
                }),
        };
        if let Some(revision) = revision {
            revisions.insert((namespace, pod.name_any()), revision);
        }
    }
    revisions
}

/// The pods of canary copies (namespace, pod).
pub fn of_copies(stores: &Stores) -> BTreeSet<(String, String)> {
    let pods = stores.pods.state();
    let copies = pods
        .iter()
        .filter(|pod| pod.labels().contains_key(REVISION_LABEL));
    copies
        .filter_map(|pod| Some((pod.namespace()?, pod.name_any())))
        .collect()
}
