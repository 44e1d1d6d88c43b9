//! The ReplicaSets of a paused Deployment. Kubernetes keeps scaling them, and not always the right one: with none active it
//! takes that of the present template, else the newest; one that is gone it does not make again. So, while the gate is
//! closed:
//!
//! - the one that is to serve exists, and comes up if another one is active instead, as far as Kubernetes leaves it pods;
//! - any other active one goes to 0, once the one that is to serve is Ready;
//! - empty ones that Kubernetes would take instead are kept as ControllerRevisions and deleted.

use kube::api::DynamicObject;
use rollout_core::Desired;
use serde_json::json;

use super::{Effect, Fetched, kept};
use crate::reason::Reason;
use crate::rollout::deployment;
use crate::rollout::look::Look;
use crate::rollout::replica_sets::ReplicaSet;
use crate::rollout::write::{Kind, Verb, Write};

pub(super) fn replica_sets(
    desired: &Desired,
    look: &Look,
    original: &DynamicObject,
    fetched: Option<&Fetched>,
) -> Vec<Effect> {
    // Until it is paused, the Deployment controller would work against us.
    let (Some(revision), true) = (&desired.serves, deployment::paused(original)) else {
        return Vec::new();
    };
    let replicas = deployment::replicas(original);
    let Some(serves) = look
        .sets
        .iter()
        .find(|set| set.template.revision == *revision)
    else {
        if replicas > 0 {
            return kept::restore(look, original, revision, replicas)
                .into_iter()
                .collect();
        }
        // One without pods may be thrown away again at once, by `revisionHistoryLimit`. It is made when there is something
        // to serve; until then nothing is left that Kubernetes could take in its place.
        let empty = look.sets.iter().filter(|set| set.empty());
        return empty
            .map(|set| clear_away(look, original, set, fetched))
            .collect();
    };
    let others = || look.sets.iter().filter(|set| set.name != serves.name);
    let mut effects = Vec::new();
    let template = deployment::template(original).map(|template| template.revision);
    let revivable = others().filter(|set| {
        set.empty()
            && (set.created >= serves.created || Some(&set.template.revision) == template.as_ref())
    });
    // With none active Kubernetes scales it by itself, since it is the only one left to take.
    if !serves.active() && replicas > 0 && others().any(ReplicaSet::active) {
        let most = replicas.saturating_add(deployment::max_surge(original, replicas));
        match beside(serves, others(), most).min(replicas) {
            // Made again, it is the newest, which keeps its pods.
            0 if serves.empty() => effects.push(clear_away(look, original, serves, fetched)),
            0 => {}
            pods => effects.push(scale(look, original, serves, pods)),
        }
    }
    let serves_ready = serves.ready > 0 && serves.ready >= serves.wanted;
    if serves_ready {
        let active = others().filter(|set| set.active());
        effects.extend(active.map(|set| scale(look, original, set, 0)));
    }
    effects.extend(revivable.map(|set| clear_away(look, original, set, fetched)));
    effects
}

/// How many pods Kubernetes leaves to one without any beside others. What is more than the `most` that there may be, it takes
/// from the biggest, and of equally big ones from the oldest.
fn beside<'a>(
    serves: &ReplicaSet,
    others: impl Iterator<Item = &'a ReplicaSet> + Clone,
    most: u32,
) -> u32 {
    let taken: u32 = others.clone().map(|set| set.wanted).sum();
    let biggest = others.clone().map(|set| set.wanted).max().unwrap_or(0);
    let older = others
        .filter(|set| set.wanted == biggest)
        .any(|set| set.created < serves.created);
    let below = if older {
        biggest
    } else {
        biggest.saturating_sub(1)
    };
    most.saturating_sub(taken).max(below)
}

/// Deletes one whose template is kept.
fn clear_away(
    look: &Look,
    original: &DynamicObject,
    set: &ReplicaSet,
    fetched: Option<&Fetched>,
) -> Effect {
    kept::keep(look, original, set, fetched).unwrap_or_else(|| delete(look, set))
}

/// With the annotations that the Deployment controller writes when it scales: an active ReplicaSet whose
/// `desired-replicas` is not what its Deployment asks for counts as a scaling that goes on, and a Deployment that scales does
/// not roll, ever.
fn scale(look: &Look, original: &DynamicObject, set: &ReplicaSet, replicas: u32) -> Effect {
    let desired = deployment::replicas(original);
    let most = desired.saturating_add(deployment::max_surge(original, desired));
    let patch = json!({
        "metadata": {
            "uid": set.uid,
            "resourceVersion": set.resource_version,
            "annotations": {
                "deployment.kubernetes.io/desired-replicas": desired.to_string(),
                "deployment.kubernetes.io/max-replicas": most.to_string(),
            },
        },
        "spec": {"replicas": replicas},
    });
    Effect {
        reason: Reason::ReplicaSetNotScaled,
        failing: format!(
            "ReplicaSet {} of revision {} cannot be scaled to {replicas}",
            set.name, set.template.revision
        ),
        write: Write {
            kind: Kind::ReplicaSet,
            key: look.key.beside(set.name.clone()),
            verb: Verb::Patch(patch),
        },
        done: None,
    }
}

fn delete(look: &Look, set: &ReplicaSet) -> Effect {
    Effect {
        reason: Reason::ReplicaSetNotDeleted,
        failing: format!(
            "the empty ReplicaSet {} of revision {} cannot be deleted",
            set.name, set.template.revision
        ),
        write: Write {
            kind: Kind::ReplicaSet,
            key: look.key.beside(set.name.clone()),
            verb: Verb::Delete {
                uid: set.uid.clone(),
                resource_version: set.resource_version.clone(),
            },
        },
        done: None,
    }
}
