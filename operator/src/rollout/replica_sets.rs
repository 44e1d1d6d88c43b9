//! What a Deployment's ReplicaSets say: which revision serves, and how many pods of which there are.

use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::observation::Serving;
use rollout_core::state::{Template, Unsettled};
use serde_json::{Value, json};

use super::deployment;
use crate::revision;

/// One ReplicaSet, as far as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    pub name: String,
    pub uid: String,
    pub resource_version: Option<String>,
    pub template: Template,
    /// Seconds since the epoch: Kubernetes takes the newest when none is active.
    pub created: i64,
    pub wanted: u32,
    /// Pods that it has.
    pub pods: u32,
    pub ready: u32,
}

impl ReplicaSet {
    pub fn active(&self) -> bool {
        self.wanted > 0
    }

    pub fn empty(&self) -> bool {
        self.wanted == 0 && self.pods == 0
    }
}

/// Keeps what is read below, and nothing else: ReplicaSets are watched in the whole cluster.
pub(super) fn strip(object: &mut DynamicObject) {
    object.managed_fields_mut().clear();
    object.annotations_mut().clear();
    let template = object.data.pointer("/spec/template");
    let (revision, content) = template.map_or_else(Default::default, |template| {
        (revision::revision(template), revision::content(template))
    });
    let of = |pointer: &str| deployment::number(object, pointer);
    object.data = json!({
        "revision": revision,
        "content": content,
        "wanted": deployment::replicas(object),
        "pods": of("/status/replicas"),
        "ready": of("/status/readyReplicas"),
    });
}

/// The other way of [`strip`].
pub(super) fn read(object: &DynamicObject) -> ReplicaSet {
    let text = |name: &str| {
        let text = object.data.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let number = |name: &str| deployment::number(object, &format!("/{name}"));
    ReplicaSet {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        resource_version: object.resource_version(),
        template: Template {
            revision: text("revision"),
            content: text("content"),
        },
        created: object
            .creation_timestamp()
            .map_or(0, |time| time.0.as_second()),
        wanted: number("wanted"),
        pods: number("pods"),
        ready: number("ready"),
    }
}

/// Which revision serves, if that can be told.
pub(super) fn serving(
    deployment: &DynamicObject,
    sets: &[ReplicaSet],
    template: &Template,
) -> Serving {
    let paused = deployment::paused(deployment);
    if !paused && deployment::rolled_out(deployment) {
        return Serving::One(template.clone());
    }
    let mut active: Vec<&Template> = sets
        .iter()
        .filter(|set| set.active() || set.pods > 0)
        .map(|set| &set.template)
        .collect();
    active.dedup();
    match (paused, active.as_slice()) {
        // The one that it has is the one that it asks for: not all of its pods are up yet, but they are all of one kind.
        (false, [one]) if *one == template => Serving::One(template.clone()),
        (false, _) => Serving::Unclear(Unsettled::Rolling),
        (true, [one]) => Serving::One((*one).clone()),
        (true, []) => Serving::Unclear(Unsettled::NothingServes),
        (true, _) => Serving::Unclear(Unsettled::HalfRolled),
    }
}

/// The Ready pods of a revision.
pub(super) fn ready_of(sets: &[ReplicaSet], revision: &str) -> u32 {
    sum(sets, revision, |set| set.ready)
}

/// The pods of a revision, Ready or not.
pub(super) fn pods_of(sets: &[ReplicaSet], revision: &str) -> u32 {
    sum(sets, revision, |set| set.pods.max(set.wanted))
}

/// All pods are of this revision, as many as are asked for, and Ready.
pub(super) fn complete(sets: &[ReplicaSet], revision: &str, replicas: u32) -> bool {
    let others = sets.iter().filter(|set| set.template.revision != revision);
    others.clone().all(ReplicaSet::empty) && ready_of(sets, revision) >= replicas
}

fn sum(sets: &[ReplicaSet], revision: &str, of: impl Fn(&ReplicaSet) -> u32) -> u32 {
    sets.iter()
        .filter(|set| set.template.revision == revision)
        .map(of)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::testing::template;

    fn set(name: &str, wanted: u32, pods: u32, ready: u32) -> ReplicaSet {
        ReplicaSet {
            name: name.to_owned(),
            uid: name.to_owned(),
            resource_version: None,
            template: template(name),
            created: 0,
            wanted,
            pods,
            ready,
        }
    }

    fn deployment(paused: bool, updated: u32) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "generation": 1},
            "spec": {"replicas": 2, "paused": paused},
            "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": updated, "availableReplicas": 2},
        }))
        .unwrap()
    }

    #[test]
    fn what_serves_is_told_by_the_active_replica_sets() {
        let (v1, v2) = (template("v1"), template("v2"));
        let one = |t: &Template| Serving::One(t.clone());
        for (paused, updated, sets, asks, expected) in [
            (false, 2, vec![set("v1", 2, 2, 2)], &v1, one(&v1)),
            (false, 0, vec![set("v1", 2, 1, 0)], &v1, one(&v1)),
            (
                false,
                0,
                vec![set("v1", 2, 2, 2)],
                &v2,
                Serving::Unclear(Unsettled::Rolling),
            ),
            (
                true,
                0,
                vec![set("v1", 2, 2, 2), set("v2", 0, 0, 0)],
                &v2,
                one(&v1),
            ),
            (
                true,
                1,
                vec![set("v1", 1, 1, 1), set("v2", 1, 1, 1)],
                &v2,
                Serving::Unclear(Unsettled::HalfRolled),
            ),
            (
                true,
                0,
                vec![set("v1", 0, 0, 0)],
                &v2,
                Serving::Unclear(Unsettled::NothingServes),
            ),
            (
                true,
                0,
                vec![set("v1", 0, 1, 1), set("v2", 1, 1, 1)],
                &v2,
                Serving::Unclear(Unsettled::HalfRolled),
            ),
        ] {
            assert_eq!(
                serving(&deployment(paused, updated), &sets, asks),
                expected,
                "{sets:?}"
            );
        }
    }

    #[test]
    fn it_is_complete_when_nothing_else_is_left_and_all_are_ready() {
        assert!(complete(&[set("v1", 0, 0, 0), set("v2", 2, 2, 2)], "v2", 2));
        assert!(!complete(
            &[set("v1", 0, 1, 1), set("v2", 2, 2, 2)],
            "v2",
            2
        ));
        assert!(!complete(&[set("v2", 2, 2, 1)], "v2", 2));
    }

    #[test]
    fn what_is_stripped_is_what_is_read() {
        let mut object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "a-1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:10Z"},
            "spec": {"replicas": 3, "template": {"metadata": {"labels": {"pod-template-hash": "x"}}}},
            "status": {"replicas": 2, "readyReplicas": 1},
        }))
        .unwrap();
        let hash = revision::revision(&json!({"metadata": {"labels": {}}}));
        strip(&mut object);
        let set = read(&object);
        assert_eq!((set.wanted, set.pods, set.ready), (3, 2, 1));
        assert_eq!(set.template.revision, hash);
        assert!(set.created > 1_700_000_000);
    }
}
