//! Finds a rollout's state again: in memory, else in its status, else it is adopted afresh.

use std::time::Instant;

use aviary_crds::CanaryRollout;
use kube::ResourceExt;
use rollout_core::state::State;

use super::apply::send;
use super::controller::Context;
use super::memory::{Memory, Written};
use super::{observe, plan, status};

/// Every rollout that is known says its split before anything is served: a restart must not look like a rollback.
pub fn restore(context: &Context) {
    for rollout in context.stores.rollouts.state() {
        let Some(state) = rollout
            .status
            .as_ref()
            .and_then(|status| status::read(status).ok().flatten())
        else {
            continue;
        };
        let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
        let (Some(original), Ok(parsed)) = (
            observe::original(&context.stores, &rollout),
            plan::parse(&rollout.spec),
        ) else {
            continue;
        };
        let mut memory = Memory::new(rollout.uid(), state.clone());
        recall(&mut memory, &rollout);
        context.memories.insert(&namespace, &name, memory);
        send(context, &rollout, &original, &parsed.plan, &state);
    }
}

/// The state in memory, else in the status, else a fresh one.
pub(super) fn remembered(
    context: &Context,
    rollout: &CanaryRollout,
    fresh: impl FnOnce() -> State,
) -> State {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let uid = rollout.uid();
    let known = context
        .memories
        .with(&namespace, &name, |memory| {
            (memory.uid == uid).then(|| memory.state.clone())
        })
        .flatten();
    if let Some(state) = known {
        return state;
    }
    let state = match rollout.status.as_ref().map(status::read) {
        Some(Ok(Some(state))) => state,
        Some(Ok(None)) | None => fresh(),
        Some(Err(error)) => {
            tracing::warn!(namespace, rollout = name, %error, "the status cannot be read: what the Deployment asks for now counts as stable");
            fresh()
        }
    };
    let mut memory = Memory::new(uid, state.clone());
    recall(&mut memory, rollout);
    context.memories.insert(&namespace, &name, memory);
    state
}

/// The words of the status outlive a restart too.
pub(super) fn recall(memory: &mut Memory, rollout: &CanaryRollout) {
    if let Some(status) = &rollout.status {
        memory.failure = status
            .failure
            .as_ref()
            .map(|failure| failure.message.clone())
            .unwrap_or_default();
        memory.judged = status
            .verdicts
            .last()
            .map(|verdict| format!("{}: {}", verdict.check, verdict.reason))
            .unwrap_or_default();
        memory.written = status::read(status).ok().flatten().map(|state| Written {
            state,
            status: status.clone(),
            resource_version: rollout.resource_version(),
            at: Instant::now(),
        });
    }
}

pub(super) fn judged(context: &Context, namespace: &str, name: &str) -> String {
    context
        .memories
        .with(namespace, name, |memory| memory.judged.clone())
        .unwrap_or_default()
}

pub(super) fn failure(context: &Context, namespace: &str, name: &str) -> String {
    context
        .memories
        .with(namespace, name, |memory| memory.failure.clone())
        .unwrap_or_default()
}
