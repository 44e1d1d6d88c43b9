//! Which pod is of which revision.
//!
//! Pods of a copy carry their revision as a label. Pods of the user's own Deployment are of the revision of their ReplicaSet's
//! template. That of the Deployment's present template counts as what the machine calls it: the two templates are compared as
//! the API server gives them now, so a field that a newer API server adds to both never makes a pod a stranger.

use std::collections::{BTreeMap, BTreeSet};

use aviary_crds::{REVISION_LABEL, ROLLOUT_LABEL};
use kube::ResourceExt;

use super::views::Views;
use super::{deployment, replica_sets};
use crate::key::Key;

/// A name that no split has: it answers only where nobody else does.
const UNKNOWN: &str = "(not known yet)";

/// By pod.
pub(super) type PodRevisions = BTreeMap<Key, String>;

/// `target` gives the revision that the machine of a rollout calls the Deployment's present template; `retired` holds the
/// copies (namespace, revision) whose pods get nothing any more.
pub(super) fn of_pods(
    views: &Views,
    target: impl Fn(&Key) -> Option<String>,
    retired: &BTreeSet<(String, String)>,
) -> PodRevisions {
    // By ReplicaSet of an adopted Deployment.
    let mut sets: BTreeMap<Key, String> = BTreeMap::new();
    for original in views.originals.state() {
        let key = Key::of(&*original);
        let rollout = original.labels().get(ROLLOUT_LABEL);
        let Some(target) = rollout.and_then(|rollout| target(&key.beside(rollout))) else {
            continue;
        };
        let present = deployment::template(&original).map(|template| template.revision);
        for set in views.replica_sets_of(&original) {
            let own = replica_sets::read(&set).template.revision;
            let revision = if Some(&own) == present.as_ref() {
                target.clone()
            } else {
                own
            };
            sets.insert(Key::of(&*set), revision);
        }
    }
    let mut revisions = BTreeMap::new();
    for pod in views.pods.state() {
        let key = Key::of(&*pod);
        let revision = match pod.labels().get(REVISION_LABEL) {
            // A name that no split has: its endpoints are in no cluster.
            Some(label) if retired.contains(&(key.namespace.clone(), label.clone())) => {
                Some(format!("{label} (retired)"))
            }
            Some(label) => Some(label.clone()),
            None => pod
                .owner_references()
                .iter()
                .find(|owner| owner.kind == "ReplicaSet" && owner.controller == Some(true))
                .and_then(|owner| {
                    let set = key.beside(owner.name.clone());
                    let own = sets.get(&set).cloned();
                    // A pod may be seen before its ReplicaSet: until then it may be anything.
                    own.or_else(|| (!views.has_replica_set(&set)).then(|| UNKNOWN.to_owned()))
                }),
        };
        if let Some(revision) = revision {
            revisions.insert(key, revision);
        }
    }
    revisions
}

/// The pods of canary copies.
pub(super) fn of_copies(views: &Views) -> BTreeSet<Key> {
    let copies = views
        .pods
        .state_filter(|pod| pod.labels().contains_key(REVISION_LABEL));
    copies.iter().map(|pod| Key::of(&**pod)).collect()
}
