//! Tells people what happened: an Event and a line in the log for each, after it was written.

use aviary_crds::{CanaryRollout, FIELD_MANAGER};
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use rollout_core::Plan;

use super::conditions::Facts;
use super::controller::Context;
use super::events;
use super::problems::Blocking;

pub fn recorder(client: &Client) -> Recorder {
    let instance = std::env::var("POD_NAME").ok();
    Recorder::new(
        client.clone(),
        Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance,
        },
    )
}

/// What happened, once it is written.
pub(super) async fn tell(
    context: &Context,
    rollout: &CanaryRollout,
    plan: &Plan,
    facts: &Facts<'_>,
    problem: Option<&Blocking>,
) {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let happened = context
        .memories
        .with(&namespace, &name, |memory| {
            std::mem::take(&mut memory.untold)
        })
        .unwrap_or_default();
    for event in &happened {
        let canary = facts
            .state
            .run
            .as_ref()
            .map_or("", |run| &run.canary.revision);
        let event = events::event(event, plan, facts.target, canary, facts.judged);
        tracing::info!(
            namespace,
            rollout = name,
            reason = event.reason,
            "{}",
            event.note.as_deref().unwrap_or_default()
        );
        record_event(context, rollout, &event).await;
    }
    let text = problem.map(|problem| problem.problem.message.clone());
    let told = context
        .memories
        .with(&namespace, &name, |memory| {
            std::mem::replace(&mut memory.told, text.clone())
        })
        .flatten();
    if let Some(problem) = problem.filter(|_| told != text) {
        publish(
            context,
            rollout,
            EventType::Warning,
            problem.problem.reason,
            problem.problem.message.clone(),
        )
        .await;
    }
}

pub(super) async fn publish(
    context: &Context,
    rollout: &CanaryRollout,
    kind: EventType,
    reason: &str,
    note: String,
) {
    tracing::warn!(
        namespace = rollout.namespace(),
        rollout = rollout.name_any(),
        reason,
        "{note}"
    );
    let event = events::of(kind, reason, note);
    record_event(context, rollout, &event).await;
}

/// An event that cannot be written is no reason to stop: the log has it.
pub(super) async fn record_event(context: &Context, rollout: &CanaryRollout, event: &KubeEvent) {
    if let Err(error) = context
        .recorder
        .publish(event, &rollout.object_ref(&()))
        .await
    {
        tracing::debug!(%error, "an event was not recorded");
    }
}
