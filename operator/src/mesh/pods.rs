//! Which revision a pod runs: what its label says (pods of a canary copy carry it), else the revision of the ReplicaSet that owns it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

/// On the pods of a canary copy.
const REVISION_LABEL: &str = "aviary.dev/revision";

/// From (namespace, ReplicaSet) to the revision of its pod template.
pub type ReplicaSetRevisions = BTreeMap<(String, String), String>;

/// `None`: no ReplicaSet that we know owns it.
pub fn revision_of_pod(pod: &Pod, replica_sets: &ReplicaSetRevisions) -> Option<String> {
    if let Some(revision) = pod
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(REVISION_LABEL))
    {
        return Some(revision.clone());
    }
    let namespace = pod.metadata.namespace.clone()?;
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners
        .iter()
        .find(|owner| owner.kind == "ReplicaSet" && owner.controller == Some(true))?;
    replica_sets.get(&(namespace, owner.name.clone())).cloned()
}
