//! The canary copies: made, scaled, and, once no proxy knows them, deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::state::{Phase, State};
use rollout_core::{Copies, Desired};
use serde_json::json;

use super::{Effect, wanted_copy};
use crate::key::Key;
use crate::reason::Reason;
use crate::rollout::look::Look;
use crate::rollout::write::{Kind, Verb, Write};
use crate::rollout::{copy, deployment};

/// The copies that are to go.
pub(crate) fn unwanted(desired: &Desired, look: &Look) -> Vec<Arc<DynamicObject>> {
    let keep = wanted_copy(desired)
        .map(|revision| copy::name(&look.rollout.spec.target_ref.name, revision));
    look.copies
        .iter()
        .filter(|each| Some(each.name_any()) != keep)
        .cloned()
        .collect()
}

pub(super) fn present(
    desired: &Desired,
    look: &Look,
    original: &DynamicObject,
    state: &State,
) -> Option<Effect> {
    let Copies::One { revision, replicas } = &desired.copy else {
        return None;
    };
    match look.copy_of(revision) {
        None if matches!(state.phase, Phase::Scaling { step: 0, .. }) => {
            create(original, look, revision, *replicas)
        }
        // Lost later on: the machine ends the run.
        None => None,
        Some(copy)
            if deployment::replicas(copy) != *replicas
                && !matches!(state.phase, Phase::Promoting { .. }) =>
        {
            Some(scale(copy, *replicas))
        }
        Some(_) => None,
    }
}

fn create(original: &DynamicObject, look: &Look, revision: &str, replicas: u32) -> Option<Effect> {
    let name = copy::name(&original.name_any(), revision);
    // The template of the Deployment is the canary's only as long as nobody has changed it.
    let present = deployment::template(original)?;
    if present.revision != revision {
        return None;
    }
    let raw = serde_json::to_value(original).ok()?;
    let object = copy::build(&raw, &look.key.name, revision, replicas).ok()?;
    Some(Effect {
        reason: Reason::CopyNotMade,
        failing: format!("the canary copy {name} cannot be made"),
        write: Write {
            kind: Kind::Deployment,
            key: look.key.beside(name),
            verb: Verb::Create(object),
        },
        done: None,
    })
}

fn scale(copy: &DynamicObject, replicas: u32) -> Effect {
    let patch = json!({
        "metadata": {"uid": copy.uid(), "resourceVersion": copy.resource_version()},
        "spec": {"replicas": replicas},
    });
    Effect {
        reason: Reason::CopyNotScaled,
        failing: format!(
            "the canary copy {} cannot be scaled to {replicas}",
            copy.name_any()
        ),
        write: Write {
            kind: Kind::Deployment,
            key: Key::of(copy),
            verb: Verb::Patch(patch),
        },
        done: None,
    }
}

pub(super) fn absent(desired: &Desired, look: &Look, drained: &BTreeSet<String>) -> Vec<Effect> {
    unwanted(desired, look)
        .iter()
        .filter(|copy| drained.contains(&copy.name_any()))
        .filter_map(|copy| delete(copy))
        .collect()
}

/// `None` when it is on its way already.
pub(crate) fn delete(copy: &DynamicObject) -> Option<Effect> {
    if copy.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Effect {
        reason: Reason::CopyNotDeleted,
        failing: format!("the canary copy {} cannot be deleted", copy.name_any()),
        write: Write {
            kind: Kind::Deployment,
            key: Key::of(copy),
            verb: Verb::Delete {
                uid: copy.uid()?,
                resource_version: None,
            },
        },
        done: None,
    })
}
