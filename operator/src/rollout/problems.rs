//! What keeps a rollout from doing what it is asked, and how that is said. Looked up before a release starts, not while one runs.

use std::sync::Arc;
use std::time::Duration;

use aviary_crds::CanaryRollout;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use rollout_core::state::{Phase, State};

use super::conditions::{self, Problem};
use super::controller::{Context, RESYNC, ReconcileError};
use super::observe;
use super::persist::{self, Finalizer, PersistError};
use super::plan::InvalidSpec;
use super::stores::Stores;
use super::tell::publish;
use crate::admission::rollout::{Severity, validate};

pub(super) struct Blocking {
    pub(super) problem: Problem,
    /// No release starts and no weight rises.
    pub(super) blocks: bool,
}

/// What the other objects make impossible. Looked up before a release starts, not while one runs.
pub(super) async fn problem(
    context: &Context,
    rollout: &CanaryRollout,
    state: &State,
    original: &DynamicObject,
) -> Option<Blocking> {
    if let Phase::Promoting { .. } = state.phase
        && let Some(message) = replica_failure(original)
    {
        return Some(Blocking {
            problem: Problem {
                reason: "ReplicaFailure",
                message,
            },
            blocks: false,
        });
    }
    if !matches!(state.phase, Phase::Stable | Phase::Failed) {
        return None;
    }
    let facts = match context.lookup.facts(rollout).await {
        Ok(facts) => facts,
        Err(error) => {
            tracing::warn!(rollout = rollout.name_any(), %error, "the objects that the CanaryRollout names cannot be looked up; trying again");
            return None;
        }
    };
    let worst = validate(rollout, &facts)
        .into_iter()
        .filter(|problem| problem.severity > Severity::Note)
        .max_by_key(|p| p.severity)?;
    let reason = match worst.severity {
        Severity::Refuse => "Refused",
        Severity::Wait | Severity::Note => "NotFound",
    };
    Some(Blocking {
        problem: Problem {
            reason,
            message: worst.to_string(),
        },
        blocks: true,
    })
}

/// Quota and the like: the message of the Deployment controller.
pub(super) fn replica_failure(original: &DynamicObject) -> Option<String> {
    let conditions = original.data.pointer("/status/conditions")?.as_array()?;
    let failing = conditions
        .iter()
        .find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")?;
    Some(format!(
        "the promotion is stuck: {}",
        failing["message"]
            .as_str()
            .unwrap_or("pods cannot be created")
    ))
}

/// The older CanaryRollout on the same target wins.
pub(super) fn another_owner(stores: &Stores, rollout: &CanaryRollout) -> Option<String> {
    let age = |r: &CanaryRollout| (r.creation_timestamp().map(|t| t.0), r.name_any());
    stores
        .rollouts
        .state()
        .iter()
        .filter(|other| {
            other.namespace() == rollout.namespace() && other.name_any() != rollout.name_any()
        })
        .filter(|other| {
            other.spec.target_ref.name == rollout.spec.target_ref.name && age(other) < age(rollout)
        })
        .map(|other| other.name_any())
        .min()
}

pub(super) fn invalid_problem(invalid: &InvalidSpec) -> Problem {
    Problem {
        reason: "InvalidSpec",
        message: invalid.to_string(),
    }
}

pub(super) async fn invalid_spec(
    context: &Context,
    rollout: &CanaryRollout,
    invalid: &InvalidSpec,
) -> Result<Action, ReconcileError> {
    only_problem(context, rollout, &invalid_problem(invalid)).await?;
    Ok(Action::requeue(RESYNC))
}

pub(super) async fn missing_target(
    context: &Context,
    rollout: &CanaryRollout,
) -> Result<Action, ReconcileError> {
    let target = &rollout.spec.target_ref.name;
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    if rollout.metadata.deletion_timestamp.is_some() {
        // Copies are owned by the Deployment and go with it; nothing is left to hold on to.
        context.traffic.remove(&namespace, &name);
        context.memories.forget(&namespace, &name);
        persist::finalizer(&context.client, rollout, Finalizer::Removed).await?;
        return Ok(Action::await_change());
    }
    let problem = match another_owner(&context.stores, rollout) {
        Some(older) => Problem {
            reason: "TargetTaken",
            message: format!(
                "Deployment {target} is released by the older CanaryRollout {older}: delete one of the two"
            ),
        },
        None => Problem {
            reason: "TargetNotFound",
            message: format!(
                "Deployment {target} does not exist in namespace {namespace}: create it, or mend spec.targetRef.name"
            ),
        },
    };
    only_problem(context, rollout, &problem).await?;
    Ok(Action::requeue(Duration::from_secs(3)))
}

/// A status that says nothing but what is wrong; a state that is there stays.
pub(super) async fn only_problem(
    context: &Context,
    rollout: &CanaryRollout,
    problem: &Problem,
) -> Result<(), PersistError> {
    let mut new = rollout.status.clone().unwrap_or_default();
    new.observed_generation = rollout.metadata.generation;
    conditions::set(&mut new, None, Some(problem), rollout.metadata.generation);
    if rollout.status.as_ref() == Some(&new) {
        return Ok(());
    }
    publish(
        context,
        rollout,
        EventType::Warning,
        problem.reason,
        problem.message.clone(),
    )
    .await;
    persist::status(&context.client, rollout, rollout.resource_version(), new).await?;
    Ok(())
}

/// The Deployment, labelled as ours; `None` when it does not exist.
pub(super) async fn adopted(
    context: &Context,
    rollout: &CanaryRollout,
) -> Result<Option<Arc<DynamicObject>>, PersistError> {
    if let Some(original) = observe::original(&context.stores, rollout) {
        return Ok(Some(original));
    }
    if rollout.metadata.deletion_timestamp.is_some()
        || another_owner(&context.stores, rollout).is_some()
    {
        return Ok(None);
    }
    Ok(persist::adopt(&context.client, rollout)
        .await?
        .map(Arc::new))
}
