//! An API server: objects as JSON, one counter of versions, and the rules that writers rely on. Preconditions, generations,
//! the status as a part of its own, finalizers, and dependents that go with their owner.

use std::collections::BTreeMap;
use std::sync::Arc;

use aviary_crds::condition::RELEASED;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::key::Key;
use crate::rollout::write::{Kind, Verb, Write, WriteError, Written};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    CanaryRollout,
    Deployment,
    ReplicaSet,
    ControllerRevision,
    Pod,
    Service,
    EndpointSlice,
    ConfigMap,
}

impl From<Kind> for Type {
    fn from(kind: Kind) -> Type {
        match kind {
            Kind::CanaryRollout => Type::CanaryRollout,
            Kind::Deployment => Type::Deployment,
            Kind::ReplicaSet => Type::ReplicaSet,
            Kind::ControllerRevision => Type::ControllerRevision,
        }
    }
}

/// Which half of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Main,
    Status,
}

/// What a write has done.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) kind: Type,
    pub(super) before: Option<Arc<Value>>,
    /// `None`: it is gone.
    pub(super) after: Option<Arc<Value>>,
}

#[derive(Debug, Default)]
pub(super) struct Api {
    objects: BTreeMap<(Type, Key), Arc<Value>>,
    versions: u64,
    /// The time of day.
    pub(super) now: i64,
    /// Not yet told to anybody.
    pub(super) changes: Vec<Change>,
}

impl Api {
    pub(super) fn get(&self, kind: Type, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(&(kind, key.clone())).cloned()
    }

    pub(super) fn list(&self, kind: Type) -> impl Iterator<Item = &Arc<Value>> {
        let of_kind = self
            .objects
            .iter()
            .filter(move |((each, _), _)| *each == kind);
        of_kind.map(|(_, object)| object)
    }

    /// Does what the operator asks.
    pub(super) fn perform(&mut self, write: &Write) -> Written {
        let kind = Type::from(write.kind);
        let some = |object: Arc<Value>| Some((*object).clone());
        match &write.verb {
            Verb::Get => self.get(kind, &write.key).map(some).ok_or(WriteError::Gone),
            Verb::Create(object) => self.create(kind, object.clone()).map(some),
            Verb::Patch(body) => self.patch(kind, &write.key, body, Half::Main).map(some),
            Verb::PatchStatus(body) => self.patch(kind, &write.key, body, Half::Status).map(some),
            Verb::ApplyStatus(body) => self.apply_status(kind, &write.key, body).map(some),
            Verb::ReplaceStatus(object) => self.replace_status(kind, &write.key, object).map(some),
            Verb::Delete {
                uid,
                resource_version,
            } => {
                self.delete(kind, &write.key, Some(uid), resource_version.as_deref())?;
                Ok(None)
            }
            Verb::Tell { .. } => Ok(None),
        }
    }

    pub(super) fn create(
        &mut self,
        kind: Type,
        mut object: Value,
    ) -> Result<Arc<Value>, WriteError> {
        let key = key(&object);
        if self.get(kind, &key).is_some() {
            return Err(WriteError::Exists);
        }
        let uid = format!("uid-{}", self.versions + 1);
        let created =
            Timestamp::from_second(self.now.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH);
        json_patch::merge(
            &mut object,
            &json!({"metadata": {"uid": uid, "generation": 1, "creationTimestamp": created.to_string()}}),
        );
        if kind == Type::Deployment && object["spec"].get("replicas").is_none() {
            object["spec"]["replicas"] = json!(1);
        }
        self.put(kind, key, None, object)
    }

    pub(super) fn patch(
        &mut self,
        kind: Type,
        key: &Key,
        body: &Value,
        half: Half,
    ) -> Result<Arc<Value>, WriteError> {
        let before = self.get(kind, key).ok_or(WriteError::Gone)?;
        expect(&before, "uid", body["metadata"]["uid"].as_str())?;
        expect(
            &before,
            "resourceVersion",
            body["metadata"]["resourceVersion"].as_str(),
        )?;
        let mut merged = (*before).clone();
        json_patch::merge(&mut merged, body);
        self.update(kind, key, before, merged, half)
    }

    /// One condition is the operator's: it becomes what is applied, or goes.
    fn apply_status(
        &mut self,
        kind: Type,
        key: &Key,
        body: &Value,
    ) -> Result<Arc<Value>, WriteError> {
        let before = self.get(kind, key).ok_or(WriteError::Gone)?;
        expect(&before, "uid", body["metadata"]["uid"].as_str())?;
        let all = |object: &Value| object["status"]["conditions"].as_array().cloned();
        let mut conditions = all(&before).unwrap_or_default();
        conditions.retain(|each| each["type"] != RELEASED);
        conditions.extend(all(body).unwrap_or_default());
        let mut after = (*before).clone();
        after["status"]["conditions"] = json!(conditions);
        self.update(kind, key, before, after, Half::Status)
    }

    /// A whole object, on top of what there is: a person's way.
    pub(super) fn store(
        &mut self,
        kind: Type,
        key: &Key,
        object: Value,
    ) -> Result<Arc<Value>, WriteError> {
        let before = self.get(kind, key).ok_or(WriteError::Gone)?;
        self.update(kind, key, before, object, Half::Main)
    }

    pub(super) fn replace_status(
        &mut self,
        kind: Type,
        key: &Key,
        object: &Value,
    ) -> Result<Arc<Value>, WriteError> {
        let before = self.get(kind, key).ok_or(WriteError::Gone)?;
        expect(&before, "uid", object["metadata"]["uid"].as_str())?;
        expect(
            &before,
            "resourceVersion",
            object["metadata"]["resourceVersion"].as_str(),
        )?;
        self.update(kind, key, before, object.clone(), Half::Status)
    }

    /// Only the half that is written counts.
    fn update(
        &mut self,
        kind: Type,
        key: &Key,
        before: Arc<Value>,
        asked: Value,
        half: Half,
    ) -> Result<Arc<Value>, WriteError> {
        let mut after = (*before).clone();
        match half {
            Half::Status => after["status"] = asked["status"].clone(),
            Half::Main => {
                for part in ["spec", "data"] {
                    if let Some(value) = asked.get(part) {
                        after[part] = value.clone();
                    }
                }
                for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
                    after["metadata"][field] = asked["metadata"][field].clone();
                }
                if kind == Type::Pod {
                    after["metadata"]["deletionTimestamp"] =
                        asked["metadata"]["deletionTimestamp"].clone();
                }
            }
        }
        prune(&mut after);
        if after == *before {
            return Ok(before);
        }
        if after["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
            after["metadata"]["generation"] = json!(generation + 1);
        }
        if !after["metadata"]["deletionTimestamp"].is_null()
            && kind != Type::Pod
            && finalizers(&after) == 0
        {
            self.remove(kind, key);
            return Ok(Arc::new(after));
        }
        self.put(kind, key.clone(), Some(before), after)
    }

    pub(super) fn delete(
        &mut self,
        kind: Type,
        key: &Key,
        uid: Option<&str>,
        version: Option<&str>,
    ) -> Result<(), WriteError> {
        let before = self.get(kind, key).ok_or(WriteError::Gone)?;
        expect(&before, "uid", uid)?;
        expect(&before, "resourceVersion", version)?;
        if finalizers(&before) == 0 {
            self.remove(kind, key);
        } else if before["metadata"].get("deletionTimestamp").is_none() {
            let mut after = (*before).clone();
            after["metadata"]["deletionTimestamp"] = json!(self.time());
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
            after["metadata"]["generation"] = json!(generation + 1);
            self.put(kind, key.clone(), Some(before), after)?;
        }
        Ok(())
    }

    /// Dependents whose owners are all gone go too.
    pub(super) fn collect(&mut self) -> usize {
        let uids: std::collections::BTreeSet<&str> = self
            .objects
            .values()
            .filter_map(|object| object["metadata"]["uid"].as_str())
            .collect();
        let orphans: Vec<(Type, Key)> = self
            .objects
            .iter()
            .filter(|(_, object)| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| {
                    !owners.is_empty()
                        && owners.iter().all(|owner| {
                            !owner["uid"].as_str().is_some_and(|uid| uids.contains(uid))
                        })
                })
            })
            .map(|((kind, key), _)| (*kind, key.clone()))
            .collect();
        for (kind, key) in &orphans {
            if *kind == Type::Pod {
                let _ = self.terminate(key);
            } else {
                let _ = self.delete(*kind, key, None, None);
            }
        }
        orphans.len()
    }

    /// A pod is asked to end; it is gone when its containers are.
    pub(super) fn terminate(&mut self, key: &Key) -> Result<(), WriteError> {
        let body = json!({"metadata": {"deletionTimestamp": self.time()}});
        let pod = self.get(Type::Pod, key).ok_or(WriteError::Gone)?;
        if pod["metadata"].get("deletionTimestamp").is_none() {
            self.patch(Type::Pod, key, &body, Half::Main)?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, kind: Type, key: &Key) {
        if let Some(before) = self.objects.remove(&(kind, key.clone())) {
            self.versions += 1;
            // What a watch says of it carries the version of its end.
            let mut last = (*before).clone();
            last["metadata"]["resourceVersion"] = json!(self.versions.to_string());
            self.changes.push(Change {
                kind,
                before: Some(Arc::new(last)),
                after: None,
            });
        }
    }

    /// The whole object as it is to be, for those that nobody else writes.
    pub(super) fn replace(&mut self, kind: Type, key: &Key, mut object: Value) {
        let Some(before) = self.get(kind, key) else {
            let _ = self.create(kind, object);
            return;
        };
        for field in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
            object["metadata"][field] = before["metadata"][field].clone();
        }
        prune(&mut object);
        if object != *before {
            let _ = self.put(kind, key.clone(), Some(before), object);
        }
    }

    fn put(
        &mut self,
        kind: Type,
        key: Key,
        before: Option<Arc<Value>>,
        mut object: Value,
    ) -> Result<Arc<Value>, WriteError> {
        self.versions += 1;
        object["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        let object = Arc::new(object);
        self.objects.insert((kind, key), Arc::clone(&object));
        self.changes.push(Change {
            kind,
            before,
            after: Some(Arc::clone(&object)),
        });
        Ok(object)
    }

    fn time(&self) -> String {
        Timestamp::from_second(self.now.div_euclid(1000))
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_string()
    }
}

pub(super) fn key(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    Key::new(text("namespace"), text("name"))
}

fn expect(object: &Value, field: &str, wanted: Option<&str>) -> Result<(), WriteError> {
    match wanted {
        Some(wanted) if object["metadata"][field].as_str() != Some(wanted) => {
            Err(WriteError::Conflict)
        }
        Some(_) | None => Ok(()),
    }
}

fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"]
        .as_array()
        .map_or(0, Vec::len)
}

/// Absent is absent, whoever wrote `null`.
fn prune(value: &mut Value) {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, member| !member.is_null());
        for (_, member) in members.iter_mut() {
            prune(member);
        }
    }
}
