//! The controllers of Kubernetes, as far as a release meets them: Deployments, ReplicaSets and their pods, EndpointSlices, and
//! the garbage collector. They follow the source of kube-controller-manager: a paused Deployment is scaled and cleaned up, and
//! makes no ReplicaSet; with none active the newest is scaled.

mod pods;
mod replica_sets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aviary_crds::CANARY_OF_LABEL;
use serde_json::{Value, json};

use super::api::{Api, Half, Type, key};
use crate::revision;

pub(super) use pods::{Pods, image, is_ready, set_ready};

const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HASH: &str = "pod-template-hash";

pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Whether `object` is controlled by `owner`.
pub(super) fn controls(owner: &Value, object: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|owners| {
        owners
            .iter()
            .any(|each| each["controller"] == true && each["uid"] == owner["metadata"]["uid"])
    })
}

fn same_template(a: &Value, b: &Value) -> bool {
    revision::revision(a) == revision::revision(b)
}

/// Looks at every Deployment once; says whether anything was changed.
pub(super) fn deployments(api: &mut Api) -> bool {
    let before = api.changes.len();
    let all: Vec<Arc<Value>> = api.list(Type::Deployment).cloned().collect();
    for deployment in all {
        if deployment["metadata"].get("deletionTimestamp").is_none() {
            Sync::new(api, &deployment).run();
        }
    }
    api.changes.len() > before
}

/// One look at one Deployment.
struct Sync<'a> {
    api: &'a mut Api,
    deployment: &'a Value,
    wanted: i64,
    /// That of the present template.
    new: Option<Value>,
    /// The oldest first.
    old: Vec<Value>,
}

impl<'a> Sync<'a> {
    fn new(api: &'a mut Api, deployment: &'a Value) -> Sync<'a> {
        let mut all: Vec<Value> = api
            .list(Type::ReplicaSet)
            .filter(|set| {
                controls(deployment, set) && set["metadata"].get("deletionTimestamp").is_none()
            })
            .map(|set| (**set).clone())
            .collect();
        all.sort_by_key(age);
        let template = &deployment["spec"]["template"];
        let place = all
            .iter()
            .position(|set| same_template(&set["spec"]["template"], template));
        let new = place.map(|place| all.remove(place));
        Sync {
            wanted: number(&deployment["spec"]["replicas"]),
            api,
            deployment,
            new,
            old: all,
        }
    }

    fn run(mut self) {
        let paused = self.deployment["spec"]["paused"] == true;
        let is_scaled = self
            .all()
            .any(|set| active(set) && noted(set, DESIRED).is_some_and(|was| was != self.wanted));
        if paused || is_scaled {
            self.scale();
            if paused {
                self.clean_up();
            }
        } else {
            self.roll();
            if self.complete() {
                self.clean_up();
            }
        }
        self.status();
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        self.old.iter().chain(&self.new)
    }

    fn surge(&self) -> i64 {
        let value = &self.deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"];
        value.as_i64().unwrap_or(1)
    }

    fn unavailable(&self) -> i64 {
        let value = &self.deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"];
        value.as_i64().unwrap_or(0).min(self.wanted)
    }

    fn total(&self) -> i64 {
        self.all().map(replicas).sum()
    }

    /// `sync`: a Deployment that was scaled, or is paused.
    fn scale(&mut self) {
        let active_ones: Vec<String> = self.all().filter(|set| active(set)).map(name).collect();
        let newest = || {
            let new = self.new.as_ref();
            new.or_else(|| self.old.iter().max_by(|a, b| age(a).cmp(&age(b))))
                .map(name)
        };
        let one = match active_ones.as_slice() {
            [] => newest(),
            [one] => Some(one.clone()),
            [_, ..] => None,
        };
        if let Some(one) = one {
            self.set(&one, self.wanted);
        } else if self.saturated() {
            let old: Vec<String> = self
                .old
                .iter()
                .filter(|set| active(set))
                .map(name)
                .collect();
            old.iter().for_each(|each| self.set(each, 0));
        } else if !active_ones.is_empty() {
            self.scale_in_proportion(&active_ones);
        }
    }

    fn saturated(&self) -> bool {
        self.new.as_ref().is_some_and(|new| {
            replicas(new) == self.wanted
                && noted(new, DESIRED) == Some(self.wanted)
                && number(&new["status"]["availableReplicas"]) == self.wanted
        })
    }

    /// The most pods that there may be.
    fn most(&self) -> i64 {
        self.wanted + self.surge()
    }

    fn scale_in_proportion(&mut self, names: &[String]) {
        let allowed = if self.wanted > 0 { self.most() } else { 0 };
        let mut left = allowed - self.total();
        let mut sets: Vec<&Value> = self
            .all()
            .filter(|set| names.contains(&name(set)))
            .collect();
        // The biggest first, and of equal ones the newest when there is more to come, else the oldest.
        sets.sort_by_key(|set| age(set));
        if left > 0 {
            sets.reverse();
        }
        sets.sort_by_key(|set| std::cmp::Reverse(replicas(set)));
        let up = left > 0;
        let mut sizes = Vec::new();
        for set in sets {
            let share = self.share(set);
            let step = match left {
                0 => 0,
                _ if up => share.min(left),
                _ => share.max(left),
            };
            left -= step;
            sizes.push((name(set), replicas(set) + step));
        }
        if let Some((_, size)) = sizes.first_mut() {
            *size = (*size + left).max(0);
        }
        for (each, size) in sizes {
            self.note(&each, size);
        }
    }

    /// How many pods more a ReplicaSet is to have, by what the Deployment was when it was scaled last.
    fn share(&self, set: &Value) -> i64 {
        let size = replicas(set);
        if self.wanted == 0 {
            return -size;
        }
        let before = noted(set, MOST).filter(|most| *most != 0);
        match before.unwrap_or_else(|| number(&self.deployment["status"]["replicas"])) {
            0 => 0,
            before => (2 * size * self.most() + before) / (2 * before) - size,
        }
    }

    fn roll(&mut self) {
        if self.new.is_none() {
            self.make();
        }
        let Some(new) = self.new.clone() else { return };
        let size = replicas(&new);
        let room = self.most() - self.total();
        if size > self.wanted {
            self.set(&name(&new), self.wanted);
        } else if size < self.wanted && room > 0 {
            self.set(&name(&new), size + room.min(self.wanted - size));
        }
        self.scale_old_down(&name(&new));
    }

    fn scale_old_down(&mut self, new: &str) {
        let old: i64 = self.old.iter().map(replicas).sum();
        if old == 0 {
            return;
        }
        let least = self.wanted - self.unavailable();
        let new = self
            .all()
            .find(|set| name(set) == new)
            .cloned()
            .unwrap_or_default();
        let not_up = replicas(&new) - number(&new["status"]["availableReplicas"]);
        let mut most = self.total() - least - not_up;
        if most <= 0 {
            return;
        }
        let sick: Vec<(String, i64, i64)> = self
            .old
            .iter()
            .map(|set| {
                (
                    name(set),
                    replicas(set),
                    number(&set["status"]["availableReplicas"]),
                )
            })
            .collect();
        for (each, size, available) in &sick {
            let cut = (size - available).clamp(0, most.max(0));
            if cut > 0 {
                self.set(each, size - cut);
                most -= cut;
            }
        }
        let available: i64 = self
            .all()
            .map(|set| number(&set["status"]["availableReplicas"]))
            .sum();
        let mut surplus = available - least;
        let rest: Vec<(String, i64)> = self
            .old
            .iter()
            .map(|set| (name(set), replicas(set)))
            .collect();
        for (each, size) in rest {
            let cut = size.min(surplus.max(0));
            if cut > 0 {
                self.set(&each, size - cut);
                surplus -= cut;
            }
        }
    }

    fn make(&mut self) {
        let template = &self.deployment["spec"]["template"];
        let hash = revision::revision(template);
        let mut template = template.clone();
        template["metadata"]["labels"][HASH] = json!(hash);
        let mut selector = self.deployment["spec"]["selector"].clone();
        selector["matchLabels"][HASH] = json!(hash);
        let number = self.old.iter().map(revision_number).max().unwrap_or(0) + 1;
        let size = (self.most() - self.total()).clamp(0, self.wanted);
        let owner = &self.deployment["metadata"];
        let set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{hash}", owner["name"].as_str().unwrap_or_default()),
                "namespace": owner["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": {DESIRED: self.wanted.to_string(), MOST: self.most().to_string(), REVISION: number.to_string()},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": owner["name"], "uid": owner["uid"], "controller": true}],
            },
            "spec": {"replicas": size, "selector": selector, "template": template},
        });
        self.new = self
            .api
            .create(Type::ReplicaSet, set)
            .ok()
            .map(|set| (*set).clone());
    }

    /// Scales one, if it has another size.
    fn set(&mut self, which: &str, size: i64) {
        if self
            .all()
            .any(|set| name(set) == which && replicas(set) != size)
        {
            self.note(which, size);
        }
    }

    /// Scales one, and notes what the Deployment asked for then.
    fn note(&mut self, which: &str, size: i64) {
        let (wanted, most) = (self.wanted.to_string(), self.most().to_string());
        let mut sets = self.old.iter_mut().chain(&mut self.new);
        let Some(set) = sets.find(|set| name(set) == which) else {
            return;
        };
        let patch = json!({"metadata": {"annotations": {DESIRED: wanted, MOST: most}}, "spec": {"replicas": size}});
        if let Ok(after) = self
            .api
            .patch(Type::ReplicaSet, &key(set), &patch, Half::Main)
        {
            *set = (*after).clone();
        }
    }

    fn complete(&self) -> bool {
        self.saturated()
            && self
                .old
                .iter()
                .all(|set| !active(set) && number(&set["status"]["replicas"]) == 0)
    }

    fn clean_up(&mut self) {
        let Some(limit) = self.deployment["spec"]["revisionHistoryLimit"].as_u64() else {
            return;
        };
        let surplus = self
            .old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut old: Vec<&Value> = self.old.iter().collect();
        old.sort_by_key(|set| revision_number(set));
        for set in old.into_iter().take(surplus) {
            if !active(set) && number(&set["status"]["replicas"]) == 0 && observed(set) {
                let _ = self.api.delete(Type::ReplicaSet, &key(set), None, None);
            }
        }
    }

    fn status(&mut self) {
        let sum =
            |field: &str| -> i64 { self.all().map(|set| number(&set["status"][field])).sum() };
        let updated = self
            .new
            .as_ref()
            .map_or(0, |new| number(&new["status"]["replicas"]));
        let failing = self
            .all()
            .find(|set| set["status"]["failing"] == true && active(set));
        // Those that it does not know stay.
        let before = self.deployment["status"]["conditions"].as_array();
        let mut conditions = before.cloned().unwrap_or_default();
        conditions.retain(|each| each["type"] != "ReplicaFailure");
        if failing.is_some() {
            conditions.push(json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}));
        }
        let status = json!({"status": {
            "observedGeneration": self.deployment["metadata"]["generation"],
            "replicas": sum("replicas"),
            "updatedReplicas": updated,
            "readyReplicas": sum("readyReplicas"),
            "availableReplicas": sum("availableReplicas"),
            "conditions": conditions,
        }});
        let _ = self.api.patch(
            Type::Deployment,
            &key(self.deployment),
            &status,
            Half::Status,
        );
    }
}

pub(super) fn is_copy(object: &Value) -> bool {
    object["metadata"]["labels"].get(CANARY_OF_LABEL).is_some()
}

fn name(set: &Value) -> String {
    set["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn age(set: &Value) -> (String, String) {
    let created = set["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap_or_default();
    (created.to_owned(), name(set))
}

fn replicas(set: &Value) -> i64 {
    number(&set["spec"]["replicas"])
}

/// A number among the annotations.
fn noted(set: &Value, annotation: &str) -> Option<i64> {
    set["metadata"]["annotations"][annotation]
        .as_str()?
        .parse()
        .ok()
}

fn active(set: &Value) -> bool {
    replicas(set) > 0
}

fn observed(set: &Value) -> bool {
    number(&set["status"]["observedGeneration"]) >= number(&set["metadata"]["generation"])
}

fn revision_number(set: &Value) -> i64 {
    set["metadata"]["annotations"][REVISION]
        .as_str()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// Looks at every ReplicaSet, the pods, and who is behind the Services. `quota`: the most pods that there may be.
pub(super) fn others(api: &mut Api, pods: &mut Pods, quota: Option<usize>) -> bool {
    let before = api.changes.len();
    api.collect();
    replica_sets::sync(api, pods, quota);
    pods::slices(api);
    api.changes.len() > before
}
