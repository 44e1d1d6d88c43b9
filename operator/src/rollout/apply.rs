//! What a state means for the cluster: the proxies' split, the gate, the copies. Level-based: every look does what is missing, and nothing when
//! nothing is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aviary_crds::CanaryRollout;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::runtime::events::EventType;
use rollout_core::state::{Phase, State};
use rollout_core::{Copy, Event, Gate, Plan, desired, effective};

use super::controller::Context;
use super::persist::{self, Paused, PersistError};
use super::tell::publish;
use super::traffic::Split;
use super::{copy, observe};

/// How long a copy that no proxy uses any more may finish what it has.
pub(super) const DRAIN: Duration = Duration::from_secs(5);

/// Tells the proxies what this state means.
pub(super) fn send(
    context: &Context,
    rollout: &CanaryRollout,
    original: &DynamicObject,
    plan: &Plan,
    state: &State,
) {
    let desired = desired(plan, state);
    let copies = observe::copies(&context.stores, rollout);
    let canary = desired.share.map(|share| {
        let name = copy::name(&rollout.spec.target_ref.name, &share.revision);
        let ready = copies
            .iter()
            .find(|copy| copy.name_any() == name)
            .map_or(0, |copy| observe::number(copy, "/status/readyReplicas"));
        let base = state.run.as_ref().map_or(0, |run| run.base_replicas);
        let weight = match state.phase {
            // The promoted pods serve too; the world itself guards against a canary without endpoints.
            Phase::Promoting { .. } => share.weight,
            _ => effective(share.weight, ready, plan.replicas(base, share.weight)),
        };
        (share.revision, share.run, weight)
    });
    let keep = match &desired.copy {
        Copy::Present { revision, .. } => Some(revision.clone()),
        Copy::Absent => None,
    };
    let retired: BTreeSet<String> = copies
        .iter()
        .filter_map(|copy| copy.labels().get(aviary_crds::REVISION_LABEL).cloned())
        .filter(|revision| Some(revision) != keep.as_ref())
        .collect();
    let labels = original
        .data
        .pointer("/spec/template/metadata/labels")
        .cloned()
        .unwrap_or_default();
    let split = Split {
        deployment: original.name_any(),
        pod_labels: serde_json::from_value(labels).unwrap_or_default(),
        state: state.clone(),
        canary,
        retired,
    };
    context.traffic.set(
        &rollout.namespace().unwrap_or_default(),
        &rollout.name_any(),
        split,
    );
}

/// The gate and the copies.
pub(super) async fn apply(
    context: &Context,
    rollout: &CanaryRollout,
    original: &DynamicObject,
    plan: &Plan,
    state: &State,
    happened: &[Event],
) -> Result<(), PersistError> {
    let desired = desired(plan, state);
    match (desired.gate, observe::paused(original)) {
        (Gate::Closed, false) => {
            persist::gate(&context.client, original, Paused::Yes).await?;
            if !happened
                .iter()
                .any(|event| matches!(event, Event::RunStarted { .. }))
            {
                let note = format!(
                    "Deployment {} was not paused while revision {} is not released; it is paused again",
                    original.name_any(),
                    state.target.revision
                );
                publish(context, rollout, EventType::Warning, "GateBypassed", note).await;
            }
        }
        (Gate::Open, true) => persist::gate(&context.client, original, Paused::No).await?,
        (Gate::Closed, true) | (Gate::Open, false) | (Gate::Leave, _) => {}
    }
    let copies = observe::copies(&context.stores, rollout);
    let mut unwanted = copies.clone();
    if let Copy::Present { revision, replicas } = &desired.copy {
        let name = copy::name(&original.name_any(), revision);
        unwanted.retain(|copy| copy.name_any() != name);
        match copies.iter().find(|copy| copy.name_any() == name) {
            None if matches!(state.phase, Phase::Scaling { step: 0, .. }) => {
                persist::create_copy(
                    &context.client,
                    original,
                    &rollout.name_any(),
                    revision,
                    *replicas,
                )
                .await?;
            }
            // Lost later on: the machine ends the run.
            None => {}
            Some(copy)
                if observe::replicas(copy) != *replicas
                    && !matches!(state.phase, Phase::Promoting { .. }) =>
            {
                persist::scale_copy(&context.client, copy, *replicas).await?;
            }
            Some(_) => {}
        }
    }
    if drained(context, rollout, &unwanted) {
        for copy in unwanted {
            persist::delete_copy(&context.client, &copy).await?;
        }
    }
    Ok(())
}

/// True when every proxy has acknowledged a world without these copies, and what was under way had time to end.
pub(super) fn drained(
    context: &Context,
    rollout: &CanaryRollout,
    unwanted: &[Arc<DynamicObject>],
) -> bool {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let acknowledged = observe::acknowledgement(
        &context.stores,
        &context.ads,
        &format!("{namespace}/{name}"),
    )
    .complete();
    context
        .memories
        .with(&namespace, &name, |memory| {
            if unwanted.is_empty() || !acknowledged {
                memory.unused_since = None;
                return false;
            }
            memory
                .unused_since
                .get_or_insert_with(Instant::now)
                .elapsed()
                >= DRAIN
        })
        .unwrap_or(false)
}
