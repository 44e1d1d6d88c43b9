//! The driver: reads like the table of contents of a reconcile.

use std::sync::Arc;
use std::time::Duration;

use aviary_crds::CanaryRollout;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::Controller;
use kube::runtime::controller::Action;
use kube::runtime::events::{EventType, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use rollout_core::state::{Phase, State};
use rollout_core::time::Time;
use rollout_core::{Copy, Event, Plan, advance, desired};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::apply::{apply, send};
use super::conditions::Facts;
use super::memory::Memories;
use super::observe;
use super::persist::{self, Finalizer, PersistError};
use super::plan;
use super::problems::{Blocking, adopted, invalid_problem, invalid_spec, missing_target, problem};
use super::recollect::{failure, judged, remembered};
use super::report::write_status;
use super::stores::Stores;
use super::tell::{publish, tell};
use super::traffic::Traffic;
use super::windows::{ask_window, take_window};
use crate::admission::rollout::{Lookup, PrometheusPolicy};
use crate::ads::Ads;

/// Nothing sleeps longer than this: a missed wake costs no more.
pub(super) const RESYNC: Duration = Duration::from_secs(30);

pub struct Context {
    pub client: Client,
    pub stores: Stores,
    pub ads: Ads,
    pub traffic: Traffic,
    pub memories: Memories,
    pub lookup: Arc<dyn Lookup>,
    pub prometheus: PrometheusPolicy,
    pub http: reqwest::Client,
    pub recorder: Recorder,
    pub wake: mpsc::UnboundedSender<ObjectRef<CanaryRollout>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Persist(#[from] PersistError),
}

pub async fn run(
    context: Arc<Context>,
    watching: Client,
    wakes: mpsc::UnboundedReceiver<ObjectRef<CanaryRollout>>,
    stop: CancellationToken,
) {
    let api: Api<CanaryRollout> = Api::all(watching);
    let wakes = tokio_stream::wrappers::UnboundedReceiverStream::new(wakes);
    let acknowledged =
        tokio_stream::wrappers::WatchStream::from_changes(context.ads.changes()).map(|_| ());
    Controller::new(api, watcher::Config::default())
        .reconcile_on(wakes)
        .reconcile_all_on(acknowledged)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile, failed, context)
        .for_each(|result| {
            if let Err(kube::runtime::controller::Error::QueueError(error)) = result {
                tracing::warn!(%error, "a watch of CanaryRollouts broke; it is taken up again");
            }
            futures::future::ready(())
        })
        .await;
}

fn failed(rollout: Arc<CanaryRollout>, error: &ReconcileError, _: Arc<Context>) -> Action {
    let ReconcileError::Persist(persist) = error;
    let source = std::error::Error::source(persist).map(ToString::to_string);
    tracing::warn!(
        namespace = rollout.namespace(),
        rollout = rollout.name_any(),
        category = persist.category(),
        source,
        "{error}; trying again"
    );
    match persist {
        PersistError::Conflict => Action::requeue(Duration::from_millis(50)),
        _ => Action::requeue(Duration::from_secs(2)),
    }
}

/// observe -> advance (pure) -> lower -> persist -> raise -> apply.
async fn reconcile(
    rollout: Arc<CanaryRollout>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let (parsed, invalid) = match plan::parse(&rollout.spec) {
        Ok(parsed) => (parsed, None),
        // A spec that cannot be read holds what runs, on the last one that could; the ways down stay open.
        Err(invalid) => match context
            .memories
            .with(&namespace, &name, |memory| memory.parsed.clone())
            .flatten()
        {
            Some(parsed) => (parsed, Some(invalid)),
            None => return invalid_spec(&context, &rollout, &invalid).await,
        },
    };
    let Some(original) = adopted(&context, &rollout).await? else {
        return missing_target(&context, &rollout).await;
    };
    let Some(template) = observe::template(&original) else {
        return missing_target(&context, &rollout).await;
    };
    let state = remembered(&context, &rollout, || {
        State::adopt(template.clone(), original.metadata.generation.unwrap_or(0))
    });
    let problem = match invalid {
        Some(invalid) => Some(Blocking {
            problem: invalid_problem(&invalid),
            blocks: true,
        }),
        None => problem(&context, &rollout, &state, &original).await,
    };
    let frozen = !context.stores.freezes.state().is_empty();
    let now = Time(Timestamp::now().as_millisecond());
    let key = format!("{namespace}/{name}");
    let acknowledgement = observe::acknowledgement(&context.stores, &context.ads, &key);
    let sent = context.traffic.sent(&namespace, &name);

    let observation = observe::observation(
        &context.stores,
        observe::Seen {
            now,
            rollout: &rollout,
            original: &original,
            template,
            state: &state,
            sent: &sent,
            acknowledged: acknowledgement.complete(),
            revoked: reported_revocation(&context, &key, &state),
            may_raise: !rollout.spec.suspend
                && !frozen
                && !problem.as_ref().is_some_and(|p| p.blocks),
            window: take_window(&context, &rollout, &state),
        },
    );
    let step = advance(&parsed.plan, &state, &observation);
    let next = step.next;

    let lowered = lowers(&parsed.plan, &state, &next);
    if lowered {
        send(&context, &rollout, &original, &parsed.plan, &next);
    }
    context.memories.with(&namespace, &name, |memory| {
        memory.parsed = Some(parsed.clone());
        if step
            .events
            .iter()
            .any(|event| matches!(event, Event::RolledBack { .. }))
        {
            memory.failure = memory.judged.clone();
        }
        if lowered {
            // Down is down, even if the status cannot be written now; it is told when it is written.
            memory.state = next.clone();
            memory.untold.extend(step.events.iter().cloned());
        }
    });
    let target = rollout.spec.target_ref.name.clone();
    let facts = Facts {
        plan: &parsed.plan,
        state: &next,
        now,
        target: &target,
        acknowledgement: &acknowledgement,
        ready: observation.copy.ready,
        needed: needed(&parsed.plan, &next),
        suspended: rollout.spec.suspend,
        frozen,
        judged: &judged(&context, &namespace, &name),
        failure: &failure(&context, &namespace, &name),
    };
    let copies = observe::copies(&context.stores, &rollout);
    let rollout = match (
        needs_finalizer(&next) || !copies.is_empty(),
        observation.deleted,
    ) {
        (_, true) => rollout,
        (true, false) => persist::finalizer(&context.client, &rollout, Finalizer::Set)
            .await?
            .map_or(rollout, Arc::new),
        (false, false) => persist::finalizer(&context.client, &rollout, Finalizer::Removed)
            .await?
            .map_or(rollout, Arc::new),
    };
    write_status(
        &context,
        &rollout,
        &facts,
        problem.as_ref().map(|p| &p.problem),
        &sent,
    )
    .await?;
    if !lowered {
        context.memories.with(&namespace, &name, |memory| {
            memory.untold.extend(step.events.iter().cloned());
        });
    }
    tell(&context, &rollout, &parsed.plan, &facts, problem.as_ref()).await;

    send(&context, &rollout, &original, &parsed.plan, &next);
    apply(
        &context,
        &rollout,
        &original,
        &parsed.plan,
        &next,
        &step.events,
    )
    .await?;
    ask_window(&context, &rollout, &parsed, &next, now);

    if observation.deleted && !needs_finalizer(&next) && copies.is_empty() {
        if next.target != next.stable && observe::paused(&original) {
            let note = format!(
                "Deployment {} stays paused: it asks for revision {}, which was not released; put the stable template back and resume it, or resume it to roll the new one out to everyone",
                original.name_any(),
                next.target.revision
            );
            publish(
                &context,
                &rollout,
                EventType::Warning,
                "DeploymentLeftPaused",
                note,
            )
            .await;
        }
        persist::finalizer(&context.client, &rollout, Finalizer::Removed).await?;
        return Ok(Action::await_change());
    }
    let sleep = sleep(step.wake, now, &next, problem.is_some());
    // A copy on its way out is looked after until it is gone.
    let waits = copies.len()
        > usize::from(matches!(
            desired(&parsed.plan, &next).copy,
            Copy::Present { .. }
        ));
    Ok(Action::requeue(if waits {
        sleep.min(Duration::from_secs(1))
    } else {
        sleep
    }))
}

/// A state is at rest when nothing of ours is in the cluster.
fn needs_finalizer(state: &State) -> bool {
    !matches!(state.phase, Phase::Stable | Phase::Failed)
}

fn sleep(wake: Option<Time>, now: Time, state: &State, problem: bool) -> Duration {
    let at_most = match state.phase {
        _ if problem => Duration::from_secs(5),
        Phase::Stable | Phase::Failed => RESYNC,
        Phase::Scaling { .. }
        | Phase::Shifting { .. }
        | Phase::Soaking { .. }
        | Phase::Promoting { .. }
        | Phase::RollingBack { .. } => Duration::from_secs(2),
    };
    let until = wake.map_or(at_most, |at| {
        Duration::from_millis(u64::try_from((at - now).0).unwrap_or(0))
    });
    until.clamp(Duration::from_millis(50), at_most)
}

fn reported_revocation(context: &Context, rollout: &str, state: &State) -> Option<u64> {
    let canary = &state.run.as_ref()?.canary.revision;
    context
        .ads
        .revoked()
        .iter()
        .filter(|r| r.rollout == rollout && &r.revision == canary)
        .map(|r| r.run)
        .max()
}

/// Less for the canary than before, or another canary.
fn lowers(plan: &Plan, before: &State, after: &State) -> bool {
    match (desired(plan, before).share, desired(plan, after).share) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(before), Some(after)) => after.run != before.run || after.weight < before.weight,
    }
}

fn needed(plan: &Plan, state: &State) -> u32 {
    match desired(plan, state).copy {
        Copy::Present { replicas, .. } => replicas,
        Copy::Absent => 0,
    }
}
