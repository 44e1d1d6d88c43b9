//! The ConfigMaps and Secrets that the pods name. Aviary releases templates: what changes under a name that stays the same reaches
//! stable and canary alike, and what is gone keeps pods of either from being made anew.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, PodSpec, Secret};
use kube::{Api, Client, ResourceExt};

use super::finding::Group;
use super::read::Read;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
}

/// One that a template names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    kind: Kind,
    name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// What is known of one that pods need: of a ConfigMap, whether it is immutable. Secrets are not read, only seen.
pub(super) type Known = (Name, Read<Option<bool>>);

/// Asks for those that the Deployment's newest template needs, and those of its ReplicaSets that have pods.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    deployment: &Read<Deployment>,
    sets: &Read<Vec<ReplicaSet>>,
) -> Vec<Known> {
    let Some(deployment) = deployment.there() else {
        return Vec::new();
    };
    let none = Vec::new();
    let sets = sets.there().unwrap_or(&none);
    let (maps, secrets): (Api<ConfigMap>, Api<Secret>) = (
        Api::namespaced(client.clone(), namespace),
        Api::namespaced(client.clone(), namespace),
    );
    let mut known = Vec::new();
    for name in needed(deployment, sets) {
        let found = match name.kind {
            Kind::ConfigMap => {
                let found = maps.get_opt(&name.name).await;
                let found = found.map(|it| it.map(|it| Some(it.immutable == Some(true))));
                Read::of("read ConfigMaps", found)
            }
            Kind::Secret => {
                let found = secrets.get_metadata_opt(&name.name).await;
                Read::of("see Secrets", found.map(|it| it.map(|_| None)))
            }
        };
        known.push((name, found));
    }
    known
}

fn needed(deployment: &Deployment, sets: &[ReplicaSet]) -> Vec<Name> {
    let mut all = BTreeMap::new();
    let newest = deployment.spec.as_ref();
    let newest = newest.and_then(|it| it.template.spec.as_ref());
    let ours = sets.iter().filter(|set| {
        let mut owners = set.owner_references().iter();
        owners.any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
    });
    let serving = ours.filter_map(|set| {
        let spec = set.spec.as_ref().filter(|it| it.replicas != Some(0))?;
        spec.template.as_ref()?.spec.as_ref()
    });
    for pod in newest.into_iter().chain(serving) {
        named(pod, &mut all);
    }
    let needed = all.into_iter().filter(|(_, optional)| !optional);
    needed.map(|(name, _)| name).collect()
}

/// Whom a pod names, and whether it can do without everywhere.
fn named(pod: &PodSpec, all: &mut BTreeMap<Name, bool>) {
    let mut add = |kind, name: &str, optional: Option<bool>| {
        let name = name.to_owned();
        let is_optional = all.entry(Name { kind, name }).or_insert(true);
        *is_optional &= optional.unwrap_or(false);
    };
    let containers = pod.containers.iter();
    for container in containers.chain(pod.init_containers.iter().flatten()) {
        for from in container.env_from.iter().flatten() {
            if let Some(map) = &from.config_map_ref {
                add(Kind::ConfigMap, &map.name, map.optional);
            }
            if let Some(secret) = &from.secret_ref {
                add(Kind::Secret, &secret.name, secret.optional);
            }
        }
        let values = container.env.iter().flatten();
        for from in values.filter_map(|it| it.value_from.as_ref()) {
            if let Some(map) = &from.config_map_key_ref {
                add(Kind::ConfigMap, &map.name, map.optional);
            }
            if let Some(secret) = &from.secret_key_ref {
                add(Kind::Secret, &secret.name, secret.optional);
            }
        }
    }
    for volume in pod.volumes.iter().flatten() {
        if let Some(map) = &volume.config_map {
            add(Kind::ConfigMap, &map.name, map.optional);
        }
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            add(Kind::Secret, name, secret.optional);
        }
        let projected = volume.projected.as_ref();
        for source in projected
            .and_then(|it| it.sources.as_ref())
            .into_iter()
            .flatten()
        {
            if let Some(map) = &source.config_map {
                add(Kind::ConfigMap, &map.name, map.optional);
            }
            if let Some(secret) = &source.secret {
                add(Kind::Secret, &secret.name, secret.optional);
            }
        }
    }
}

pub(super) fn judge(group: &mut Group, known: &[Known]) {
    if known.is_empty() {
        return;
    }
    let names = |is: &dyn Fn(&Read<Option<bool>>) -> bool| -> Vec<String> {
        let found = known.iter().filter(|(_, found)| is(found));
        found.map(|(name, _)| name.to_string()).collect()
    };
    let what = "every ConfigMap and Secret that the pods need is there";
    let gone = names(&|found| matches!(found, Read::Absent));
    let unknown = known.iter().find_map(|(_, found)| match found {
        Read::Unknown(why) => Some(why.clone()),
        Read::There(_) | Read::Absent => None,
    });
    match unknown {
        _ if !gone.is_empty() => group.failed(
            what,
            format!(
                "{} is gone: pods that need it cannot be made anew",
                gone.join(", ")
            ),
            "put it back, and let nothing prune what a serving revision names: docs/gitops.md",
        ),
        Some(why) => group.unknown(what, why),
        None => group.passed(what),
    }
    let what = "the pods' ConfigMaps stay as they are";
    let loose = names(&|found| matches!(found, Read::There(Some(false))));
    if loose.is_empty() {
        group.passed(what);
    } else {
        group.warning(
            what,
            format!(
                "{} can be changed in place: that reaches stable and canary alike, and no release judges it",
                loose.join(", ")
            ),
            "name it by its content (kustomize's configMapGenerator) with immutable: true: docs/gitops.md",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::check::Outcome;

    fn deployment(pod: Value) -> Deployment {
        let deployment = json!({
            "metadata": {"name": "payment", "uid": "uid"},
            "spec": {"selector": {}, "template": {"spec": pod}},
        });
        serde_json::from_value(deployment).unwrap()
    }

    fn set(owner: &str, replicas: i32, map: &str) -> ReplicaSet {
        let set = json!({
            "metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "payment", "uid": owner}]},
            "spec": {"selector": {}, "replicas": replicas, "template": {"spec": {
                "containers": [{"name": "app", "envFrom": [{"configMapRef": {"name": map}}]}],
            }}},
        });
        serde_json::from_value(set).unwrap()
    }

    fn found(known: &[Known]) -> Vec<(Outcome, String)> {
        let mut group = Group::new("release");
        judge(&mut group, known);
        let findings = group.findings.into_iter();
        findings.map(|it| (it.outcome, it.seen)).collect()
    }

    #[test]
    fn every_way_to_name_one_is_known() {
        let pod = json!({
            "initContainers": [{"name": "first", "envFrom": [{"secretRef": {"name": "a"}}]}],
            "containers": [{"name": "app",
                "envFrom": [{"configMapRef": {"name": "b"}}, {"configMapRef": {"name": "maybe", "optional": true}}],
                "env": [
                    {"name": "X", "value": "1"},
                    {"name": "Y", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                    {"name": "Z", "valueFrom": {"secretKeyRef": {"name": "d", "key": "k"}}},
                ],
            }],
            "volumes": [
                {"name": "e", "configMap": {"name": "e"}},
                {"name": "f", "secret": {"secretName": "f"}},
                {"name": "g", "projected": {"sources": [{"configMap": {"name": "g"}}, {"secret": {"name": "h"}}]}},
            ],
        });
        let needed = needed(&deployment(pod), &[]);
        let names: Vec<String> = needed.iter().map(Name::to_string).collect();
        assert_eq!(
            names,
            [
                "ConfigMap b",
                "ConfigMap c",
                "ConfigMap e",
                "ConfigMap g",
                "Secret a",
                "Secret d",
                "Secret f",
                "Secret h",
            ]
        );
    }

    #[test]
    fn what_serves_needs_its_own_whatever_the_newest_template_names() {
        let newest = deployment(json!({"containers": [
            {"name": "app", "envFrom": [{"configMapRef": {"name": "new"}}]},
        ]}));
        let sets = [
            set("uid", 2, "old"),
            set("uid", 0, "older"),
            set("other", 2, "strange"),
        ];
        let names: Vec<String> = needed(&newest, &sets).iter().map(Name::to_string).collect();
        assert_eq!(names, ["ConfigMap new", "ConfigMap old"]);
    }

    #[test]
    fn what_is_gone_fails_and_what_can_change_in_place_is_told() {
        let name = |kind, name: &str| Name {
            kind,
            name: name.to_owned(),
        };
        let map = |found| (name(Kind::ConfigMap, "a"), found);
        let secret = |found| (name(Kind::Secret, "s"), found);
        let passed = (Outcome::Passed, String::new());
        assert_eq!(found(&[]), []);
        assert_eq!(
            found(&[map(Read::There(Some(true))), secret(Read::There(None))]),
            [passed.clone(), passed.clone()]
        );
        let said = found(&[map(Read::There(Some(false))), secret(Read::Absent)]);
        assert_eq!(said[0].0, Outcome::Failed);
        assert!(said[0].1.starts_with("Secret s is gone"), "{said:?}");
        assert_eq!(said[1].0, Outcome::Warning);
        assert!(
            said[1].1.starts_with("ConfigMap a can be changed"),
            "{said:?}"
        );
        let said = found(&[secret(Read::Unknown("may not see Secrets".to_owned()))]);
        assert_eq!(
            said,
            [(Outcome::Unknown, "may not see Secrets".to_owned()), passed]
        );
    }
}
