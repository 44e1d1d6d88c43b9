//! What a watched object's change is about, and whom it concerns: by the links between objects, so that it costs what it
//! concerns and not what there is.

use std::sync::Arc;

use aviary_crds::{CANARY_OF_LABEL, ROLLOUT_LABEL};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::views::{Allowing, By, Guarded, NamespaceSeen, PodSeen, Seen, Views, What};
use super::{deployment, replica_sets};
use crate::key::Key;
use crate::mesh;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Something about this rollout.
    Rollout(Key),
    /// Which rollouts name this Deployment.
    Target(Key),
    /// Something that the rollout of this Deployment depends on.
    Deployment(Key),
    /// Of which revision the pods of this Deployment's ReplicaSets are.
    Revisions(Key),
    /// Of which revision the pods of this ReplicaSet are.
    ReplicaSet(Key),
    /// Whose this pod is, or whether its sidecar runs.
    Pod(Key),
    Service(Key),
    /// Endpoints of this Service.
    Endpoints(Key),
    /// A volume claim.
    Claim(Key),
    /// Which pods of a namespace lack a sidecar: by its label, wherever the label of the namespace does not matter, or in a labelled one.
    Lacking {
        namespace: String,
        labelled: bool,
    },
    /// Whether a namespace's pods get sidecars.
    Namespace(String),
    /// Whether this namespace refuses plaintext.
    Demand(String),
    /// Who may call the pods of this CallerPolicy's namespace.
    Policy(Key),
    /// Something that every rollout may depend on: a whole list came anew, or the freeze.
    Everything,
}

/// The object before, and after; never neither.
pub type Pair<'a, K> = (Option<&'a K>, Option<&'a K>);

/// What a change of a kind of object is about.
pub type About<K> = for<'a> fn(Pair<'a, K>) -> Vec<Change>;

/// What an event means to a kind of object.
pub fn of<K>(seen: &Seen<K>, about: About<K>) -> Vec<Change> {
    match seen {
        Seen::Nothing => Vec::new(),
        Seen::One { before, after } => about((before.as_deref(), after.as_deref())),
        Seen::All => vec![Change::Everything],
    }
}

pub fn of_rollout((before, after): Pair<'_, Guarded>) -> Vec<Change> {
    let rollout = |each: &Guarded| each.0.clone().ok();
    let (before, after) = (
        before.map(|each| (key(each), rollout(each))),
        after.map(|each| (key(each), rollout(each))),
    );
    let target = |each: &Option<(Key, Option<Arc<aviary_crds::CanaryRollout>>)>| {
        let (key, rollout) = each.as_ref()?;
        Some(key.beside(&rollout.as_ref()?.spec.target_ref.name))
    };
    let (old, new) = (target(&before), target(&after));
    let mut changes: Vec<Change> = before
        .iter()
        .chain(&after)
        .map(|(key, _)| Change::Rollout(key.clone()))
        .collect();
    changes.dedup();
    if old != new {
        changes.extend(old.into_iter().chain(new).map(Change::Target));
    }
    changes
}

fn key(guarded: &Guarded) -> Key {
    let metadata = guarded.metadata();
    Key::new(
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

pub fn of_original((before, after): Pair<'_, DynamicObject>) -> Vec<Change> {
    let mut changes = labelled((before, after), ROLLOUT_LABEL);
    let revision = |each: &DynamicObject| {
        let template = deployment::template(each).map(|template| template.revision);
        (
            each.uid(),
            each.labels().get(ROLLOUT_LABEL).cloned(),
            template,
        )
    };
    let same_spec = before.zip(after).is_some_and(|(before, after)| {
        before.metadata.generation == after.metadata.generation
            && before.metadata.labels == after.metadata.labels
            && before.metadata.uid == after.metadata.uid
    });
    if !same_spec && before.map(revision) != after.map(revision) {
        changes.extend(
            after
                .or(before)
                .map(|each| Change::Revisions(Key::of(each))),
        );
    }
    changes
}

/// That it exists is all that is known of it.
pub fn of_unadopted((before, after): Pair<'_, Key>) -> Vec<Change> {
    let appears = after.filter(|_| before.is_none());
    appears.cloned().map(Change::Target).into_iter().collect()
}

pub fn of_copy(pair: Pair<'_, DynamicObject>) -> Vec<Change> {
    labelled(pair, CANARY_OF_LABEL)
}

pub fn of_kept(pair: Pair<'_, DynamicObject>) -> Vec<Change> {
    labelled(pair, ROLLOUT_LABEL)
}

/// Also the rollout of the label that it had.
fn labelled((before, after): Pair<'_, DynamicObject>, label: &str) -> Vec<Change> {
    let rollout = |each: &DynamicObject| Some(Key::of(each).beside(each.labels().get(label)?));
    let mut rollouts: Vec<Key> = before
        .into_iter()
        .chain(after)
        .filter_map(rollout)
        .collect();
    rollouts.dedup();
    rollouts.into_iter().map(Change::Rollout).collect()
}

pub fn of_replica_set((before, after): Pair<'_, DynamicObject>) -> Vec<Change> {
    let owner = |each: &DynamicObject| {
        let mut owners = each.owner_references().iter();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        Some((Key::of(each).beside(&owner.name), owner.uid.clone()))
    };
    let mut owners: Vec<_> = before.into_iter().chain(after).filter_map(owner).collect();
    owners.dedup();
    let mut changes: Vec<Change> = owners
        .into_iter()
        .map(|(owner, _)| Change::Deployment(owner))
        .collect();
    let revision = |each: &DynamicObject| (owner(each), replica_sets::read(each).template.revision);
    if before.map(revision) != after.map(revision) {
        changes.extend(
            after
                .or(before)
                .map(|each| Change::ReplicaSet(Key::of(each))),
        );
    }
    changes
}

/// Most changes of pods are about their status: endpoints say what of that matters.
pub fn of_pod((before, after): Pair<'_, PodSeen>) -> Vec<Change> {
    let matters = |pod: &PodSeen| PodSeen {
        leaves: false,
        lacks: None,
        ..pod.clone()
    };
    let mut changes = lacking((before, after));
    if before.map(matters) != after.map(matters) {
        let pod = after.or(before);
        changes.extend(pod.map(|pod| Change::Pod(pod.key.clone())));
    }
    changes
}

fn lacking((before, after): Pair<'_, PodSeen>) -> Vec<Change> {
    let lacks = |pod: Option<&PodSeen>| pod.and_then(|pod| pod.lacks.clone());
    let (old, new) = (lacks(before), lacks(after));
    if old == new {
        return Vec::new();
    }
    let labelled = [&old, &new]
        .into_iter()
        .flatten()
        .all(|lacks| lacks.what == What::Sidecar);
    let pod = after.or(before);
    pod.map(|pod| Change::Lacking {
        namespace: pod.key.namespace.clone(),
        labelled,
    })
    .into_iter()
    .collect()
}

/// That it is labelled is all that matters of it: what it says for its pods is asked for when one is made.
pub fn of_namespace((before, after): Pair<'_, NamespaceSeen>) -> Vec<Change> {
    let name = |seen: &NamespaceSeen| Change::Namespace(seen.key.name.clone());
    match (before, after) {
        (None, Some(seen)) | (Some(seen), None) => vec![name(seen)],
        (Some(_), Some(_)) | (None, None) => Vec::new(),
    }
}

pub fn of_service((before, after): Pair<'_, Service>) -> Vec<Change> {
    after
        .or(before)
        .map(|service| Change::Service(Key::of(service)))
        .into_iter()
        .collect()
}

/// Also the Service that it belonged to.
pub fn of_slice((before, after): Pair<'_, EndpointSlice>) -> Vec<Change> {
    let mut services: Vec<Key> = before
        .into_iter()
        .chain(after)
        .filter_map(mesh::service_of)
        .collect();
    services.dedup();
    services.into_iter().map(Change::Endpoints).collect()
}

pub fn of_claim((before, after): Pair<'_, PersistentVolumeClaim>) -> Vec<Change> {
    after
        .or(before)
        .map(|claim| Change::Claim(Key::of(claim)))
        .into_iter()
        .collect()
}

pub fn of_policy((before, after): Pair<'_, Allowing>) -> Vec<Change> {
    let policy = after.or(before);
    policy
        .map(|policy| Change::Policy(policy.key.clone()))
        .into_iter()
        .collect()
}

pub fn of_freeze(_: Pair<'_, ConfigMap>) -> Vec<Change> {
    vec![Change::Everything]
}

/// The rollouts that have to be looked at after it; [`Change::Everything`] is all of them.
pub(super) fn woken(views: &Views, change: &Change) -> Vec<Key> {
    match change {
        Change::Rollout(key) => vec![key.clone()],
        Change::Target(deployment) => named(views, By::Deployment, deployment),
        Change::Service(service) => named(views, By::Service, service),
        Change::Deployment(deployment) => views.rollout_of(deployment).into_iter().collect(),
        Change::Claim(claim) => {
            let mounting = views.originals.by(By::Claim, claim).into_iter();
            mounting
                .filter_map(|original| Some(claim.beside(original.labels().get(ROLLOUT_LABEL)?)))
                .collect()
        }
        Change::Revisions(_)
        | Change::ReplicaSet(_)
        | Change::Pod(_)
        | Change::Endpoints(_)
        | Change::Demand(_)
        | Change::Policy(_) => Vec::new(),
        Change::Lacking {
            namespace,
            labelled,
        } if *labelled && !views.labelled(namespace) => Vec::new(),
        Change::Lacking { namespace, .. } | Change::Namespace(namespace) => {
            named(views, By::Namespace, &Key::new(namespace.as_str(), ""))
        }
        Change::Everything => everyone(views),
    }
}

fn named(views: &Views, by: By, key: &Key) -> Vec<Key> {
    let named = views.rollouts.by(by, key);
    named.iter().map(|each| self::key(each)).collect()
}

/// Everything that may be a rollout, or what one has left.
fn everyone(views: &Views) -> Vec<Key> {
    let of = |object: &DynamicObject, label: &str| {
        Some(Key::of(object).beside(object.labels().get(label)?))
    };
    let originals = views.originals.state();
    let copies = views.copies.state();
    views
        .rollouts
        .keys()
        .into_iter()
        .chain(originals.iter().filter_map(|each| of(each, ROLLOUT_LABEL)))
        .chain(copies.iter().filter_map(|each| of(each, CANARY_OF_LABEL)))
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube_runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::rollout::testing::rollout;

    fn pod(labels: serde_json::Value, sidecar: bool) -> PodSeen {
        let init = if sidecar {
            json!([{"name": "aviary-proxy"}])
        } else {
            json!([])
        };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "namespace": "shop", "name": "client-1", "labels": labels,
                "annotations": {"aviary.dev/injection": crate::names::INJECTION.to_string()},
            },
            "spec": {"containers": [{"name": "app"}], "initContainers": init},
        }))
        .unwrap();
        pod.into()
    }

    #[test]
    fn a_pod_without_a_sidecar_wakes_its_namespace_if_it_should_have_one() {
        let (views, mut writers) = Views::new();
        let guarded = Guarded(Ok(Arc::new(rollout(json!({})))));
        writers.rollouts.apply(Event::Apply(guarded));
        let woken = |pair: Pair<'_, PodSeen>| -> Vec<Key> {
            let changes = of_pod(pair).into_iter();
            changes.flat_map(|change| woken(&views, &change)).collect()
        };
        let (bare, asks) = (
            pod(json!({}), false),
            pod(json!({"aviary.dev/inject": "true"}), false),
        );
        let payment = [Key::new("shop", "payment")];
        assert!(woken((None, Some(&bare))).is_empty());
        assert_eq!(woken((None, Some(&asks))), payment);
        let namespace = NamespaceSeen {
            key: Key::new("", "shop"),
            wishes: Vec::new(),
        };
        writers.namespaces.apply(Event::Apply(namespace.clone()));
        assert_eq!(woken((None, Some(&bare))), payment);
        assert_eq!(woken((Some(&bare), None)), payment);
        assert!(woken((Some(&bare), Some(&bare))).is_empty());
        assert!(woken((None, Some(&pod(json!({}), true)))).is_empty());
        assert_eq!(
            of_namespace((None, Some(&namespace))),
            [Change::Namespace("shop".to_owned())]
        );
        assert!(of_namespace((Some(&namespace), Some(&namespace))).is_empty());
    }
}
