//! Templates that are kept as ControllerRevisions: Kubernetes may throw the ReplicaSet of the stable revision away while
//! its Deployment is paused on another template, and then nobody else knows it.

use aviary_crds::{RESTORED_ANNOTATION, ROLLOUT_LABEL};
use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::state::{Phase, State};
use serde_json::{Map, Value, json};

use super::{Effect, Fetched};
use crate::key::Key;
use crate::reason::Reason;
use crate::rollout::events::Note;
use crate::rollout::look::Look;
use crate::rollout::replica_sets::ReplicaSet;
use crate::rollout::write::{Kind, Verb, Write};

/// The most templates that are kept for one rollout.
const KEPT: usize = 10;

pub(super) fn name(deployment: &str, revision: &str) -> String {
    format!("{deployment}-{revision}")
}

/// The stable template is kept, and old ones go.
pub(super) fn templates(
    state: &State,
    look: &Look,
    original: &DynamicObject,
    fetched: Option<&Fetched>,
) -> Vec<Effect> {
    if matches!(state.phase, Phase::Unsettled { .. }) || look.deleted {
        return Vec::new();
    }
    let stable = &state.stable.revision;
    let mut effects = Vec::new();
    let set = look
        .sets
        .iter()
        .find(|set| &set.template.revision == stable);
    if let Some(set) = set {
        effects.extend(keep(look, original, set, fetched));
    }
    let mut old: Vec<_> = look
        .kept
        .iter()
        .filter(|kept| kept.name_any() != name(&original.name_any(), stable))
        .collect();
    old.sort_by_key(|kept| kept.creation_timestamp().map(|time| time.0));
    let surplus = old.len().saturating_sub(KEPT);
    effects.extend(
        old.into_iter()
            .take(surplus)
            .filter_map(|kept| forget(kept)),
    );
    effects
}

/// Keeps the template of a ReplicaSet, in two requests: it is read, then written. `None` when it is kept.
pub(super) fn keep(
    look: &Look,
    original: &DynamicObject,
    set: &ReplicaSet,
    fetched: Option<&Fetched>,
) -> Option<Effect> {
    let kept = name(&original.name_any(), &set.template.revision);
    if look.kept.iter().any(|each| each.name_any() == kept) {
        return None;
    }
    let failing = format!("the template of ReplicaSet {} cannot be kept", set.name);
    let Some((_, object)) = fetched.filter(|(name, _)| *name == set.name) else {
        return Some(Effect {
            reason: Reason::TemplateNotKept,
            failing,
            write: Write {
                kind: Kind::ReplicaSet,
                key: look.key.beside(set.name.clone()),
                verb: Verb::Get,
            },
            done: None,
        });
    };
    let of = |pointer: &str| object.pointer(pointer).cloned().unwrap_or(Value::Null);
    let mut spec = Map::new();
    for field in ["minReadySeconds", "selector", "template"] {
        let value = of(&format!("/spec/{field}"));
        if !value.is_null() {
            spec.insert(field.to_owned(), value);
        }
    }
    let revision = of("/metadata/annotations/deployment.kubernetes.io~1revision");
    let number: i64 = revision.as_str().and_then(|n| n.parse().ok()).unwrap_or(0);
    Some(Effect {
        reason: Reason::TemplateNotKept,
        failing,
        write: Write {
            kind: Kind::ControllerRevision,
            key: look.key.beside(kept.clone()),
            verb: Verb::Create(json!({
                "apiVersion": "apps/v1",
                "kind": "ControllerRevision",
                "metadata": {
                    "name": kept,
                    "namespace": look.key.namespace,
                    "labels": {ROLLOUT_LABEL: look.key.name},
                    "ownerReferences": [owner(original)],
                },
                "revision": number,
                "data": {"name": set.name, "labels": of("/metadata/labels"), "spec": spec},
            })),
        },
        done: None,
    })
}

/// Brings a ReplicaSet back. `Err`: nobody knows its template any more.
pub(super) fn restore(
    look: &Look,
    original: &DynamicObject,
    revision: &str,
    replicas: u32,
) -> Option<Effect> {
    let kept = name(&original.name_any(), revision);
    let kept = look.kept.iter().find(|each| each.name_any() == kept)?;
    let data = kept.data.get("data")?;
    let set = data.get("name")?.as_str()?;
    let mut spec = data.get("spec")?.as_object()?.clone();
    spec.insert("replicas".to_owned(), json!(replicas));
    Some(Effect {
        reason: Reason::StableNotRestored,
        failing: format!("ReplicaSet {set} of the stable revision {revision} cannot be made again"),
        write: Write {
            kind: Kind::ReplicaSet,
            key: look.key.beside(set),
            verb: Verb::Create(json!({
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": set,
                    "namespace": look.key.namespace,
                    "labels": data.get("labels"),
                    "annotations": {RESTORED_ANNOTATION: revision},
                    "ownerReferences": [owner(original)],
                },
                "spec": spec,
            })),
        },
        done: Some(Note::warning(
            Reason::StableRestored,
            format!(
                "ReplicaSet {set} of the stable revision {revision} was gone, and a paused Deployment does not make it again; it was made from the template that was kept"
            ),
        )),
    })
}

fn forget(kept: &DynamicObject) -> Option<Effect> {
    Some(Effect {
        reason: Reason::TemplateNotForgotten,
        failing: format!("ControllerRevision {} cannot be deleted", kept.name_any()),
        write: Write {
            kind: Kind::ControllerRevision,
            key: Key::of(kept),
            verb: Verb::Delete {
                uid: kept.uid()?,
                resource_version: None,
            },
        },
        done: None,
    })
}

fn owner(original: &DynamicObject) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": original.name_any(),
        "uid": original.uid(),
        "controller": true,
    })
}
