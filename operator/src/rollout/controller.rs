//! The driver: reads like the table of contents of a reconcile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aviary_crds::status::{
    CanaryRolloutStatus, Verdict as VerdictName, VerdictRecord, WeightStatus,
};
use aviary_crds::{CanaryRollout, FIELD_MANAGER, ROLLOUT_LABEL};
use futures::{FutureExt, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use kube::runtime::Controller;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use rollout_core::judge::Verdict;
use rollout_core::observation::Window;
use rollout_core::plan::Percent;
use rollout_core::state::{Phase, State};
use rollout_core::time::Time;
use rollout_core::{Copy, Event, Gate, Plan, advance, desired, effective};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::checks::Scope;
use super::conditions::{self, Facts, Problem};
use super::memory::{Memories, Memory, WindowInFlight, Written};
use super::observe::{self, Acknowledgement};
use super::persist::{self, Finalizer, Paused, PersistError};
use super::plan::{self, InvalidSpec, Parsed};
use super::stores::Stores;
use super::traffic::{Split, Traffic};
use super::{copy, events, measure, status};
use crate::admission::rollout::{Lookup, PrometheusPolicy, Severity, validate};
use crate::ads::Ads;

/// How long a copy that no proxy uses any more may finish what it has.
const DRAIN: Duration = Duration::from_secs(5);
/// What is only for display is written at most this often.
const DISPLAY: Duration = Duration::from_secs(10);
/// Nothing sleeps longer than this: a missed wake costs no more.
const RESYNC: Duration = Duration::from_secs(30);
/// The longest list of judgements that a status keeps.
const VERDICTS: usize = 20;

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
        return missing_target(&context, &rollout, &parsed.plan).await;
    };
    let Some(template) = observe::template(&original) else {
        return missing_target(&context, &rollout, &parsed.plan).await;
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

    if lowers(&parsed.plan, &state, &next) {
        send(&context, &rollout, &original, &parsed.plan, &next);
    }
    context.memories.with(&namespace, &name, |memory| {
        memory.parsed = Some(parsed.clone());
        memory.untold.extend(step.events.iter().cloned());
        if step
            .events
            .iter()
            .any(|event| matches!(event, Event::RolledBack { .. }))
        {
            memory.failure = memory.judged.clone();
        }
        if lowers(&parsed.plan, &state, &next) {
            // Down is down, even if the status cannot be written now.
            memory.state = next.clone();
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

/// The Deployment, labelled as ours; `None` when it does not exist.
async fn adopted(
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

/// The older CanaryRollout on the same target wins.
fn another_owner(stores: &Stores, rollout: &CanaryRollout) -> Option<String> {
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

/// The state in memory, else in the status, else a fresh one.
fn remembered(context: &Context, rollout: &CanaryRollout, fresh: impl FnOnce() -> State) -> State {
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
fn recall(memory: &mut Memory, rollout: &CanaryRollout) {
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

fn judged(context: &Context, namespace: &str, name: &str) -> String {
    context
        .memories
        .with(namespace, name, |memory| memory.judged.clone())
        .unwrap_or_default()
}

fn failure(context: &Context, namespace: &str, name: &str) -> String {
    context
        .memories
        .with(namespace, name, |memory| memory.failure.clone())
        .unwrap_or_default()
}

struct Blocking {
    problem: Problem,
    /// No release starts and no weight rises.
    blocks: bool,
}

/// What the other objects make impossible. Looked up before a release starts, not while one runs.
async fn problem(
    context: &Context,
    rollout: &CanaryRollout,
    state: &State,
    original: &DynamicObject,
) -> Option<Blocking> {
    if let Phase::Promoting { .. } = state.phase {
        if let Some(message) = replica_failure(original) {
            return Some(Blocking {
                problem: Problem {
                    reason: "ReplicaFailure",
                    message,
                },
                blocks: false,
            });
        }
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
fn replica_failure(original: &DynamicObject) -> Option<String> {
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

/// Tells the proxies what this state means.
fn send(
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
async fn apply(
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
fn drained(context: &Context, rollout: &CanaryRollout, unwanted: &[Arc<DynamicObject>]) -> bool {
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

/// Takes the answer of Prometheus, if it came and still matters.
fn take_window(context: &Context, rollout: &CanaryRollout, state: &State) -> Option<Window> {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let number = state.run.as_ref().map(|run| run.number);
    context
        .memories
        .with(&namespace, &name, |memory| {
            match std::mem::take(&mut memory.window) {
                WindowInFlight::Answered {
                    run,
                    start,
                    end,
                    outcome,
                } if Some(run) == number => {
                    let worst = outcome
                        .outcomes
                        .iter()
                        .find(|o| o.verdict == outcome.verdict);
                    memory.judged = worst
                        .map(|o| format!("{}: {}", o.check, o.reason))
                        .unwrap_or_default();
                    let window = Window {
                        start,
                        end,
                        verdict: outcome.verdict,
                        requests: outcome.requests,
                    };
                    memory.window = WindowInFlight::Answered {
                        run,
                        start,
                        end,
                        outcome,
                    };
                    Some(window)
                }
                asked @ WindowInFlight::Asked { .. } => {
                    memory.window = asked;
                    None
                }
                WindowInFlight::Answered { .. } | WindowInFlight::None => None,
            }
        })
        .flatten()
}

/// Asks Prometheus about a window that is due, beside the reconcile.
fn ask_window(
    context: &Arc<Context>,
    rollout: &CanaryRollout,
    parsed: &Parsed,
    state: &State,
    now: Time,
) {
    let (Some((start, end)), Some(run)) = (
        rollout_core::advance::window_due(&parsed.plan, state, now),
        &state.run,
    ) else {
        return;
    };
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let number = run.number;
    let asked = context
        .memories
        .with(&namespace, &name, |memory| match &memory.window {
            WindowInFlight::Asked { run } if *run == number => true,
            WindowInFlight::Asked { .. }
            | WindowInFlight::Answered { .. }
            | WindowInFlight::None => {
                memory.window = WindowInFlight::Asked { run: number };
                false
            }
        });
    if asked.unwrap_or(true) {
        return;
    }
    let scope = Scope {
        namespace: namespace.clone(),
        service: rollout.spec.service.name.clone(),
        ports: rollout.spec.service.ports.clone(),
        deployment: rollout.spec.target_ref.name.clone(),
        stable: state.stable.revision.clone(),
        canary: run.canary.revision.clone(),
        interval: Duration::from_millis(u64::try_from(parsed.plan.interval.0).unwrap_or(0)),
    };
    let address = rollout
        .spec
        .analysis
        .prometheus
        .as_ref()
        .map(|p| p.address.clone())
        .or_else(|| context.prometheus.default.clone());
    // The operator fetches for nobody: an address outside the allow-list is no evidence.
    let address = address.filter(|address| context.prometheus.allows(address));
    let (context, checks, object) = (
        Arc::clone(context),
        parsed.checks.clone(),
        ObjectRef::from_obj(rollout),
    );
    tokio::spawn(async move {
        let asking = measure::judge_window(&context.http, address.as_deref(), &scope, &checks);
        let outcome = std::panic::AssertUnwindSafe(asking).catch_unwind().await;
        context.memories.with(&namespace, &name, |memory| {
            memory.window = match outcome {
                Ok(outcome) => WindowInFlight::Answered {
                    run: number,
                    start,
                    end,
                    outcome,
                },
                Err(_) => WindowInFlight::None,
            };
        });
        // The receiver is gone only when the process ends.
        let _ = context.wake.send(object);
    });
}

/// Writes the status: at once when the state changed, else at most every ten seconds.
async fn write_status(
    context: &Context,
    rollout: &CanaryRollout,
    facts: &Facts<'_>,
    problem: Option<&Problem>,
    sent: &super::traffic::Sent,
) -> Result<(), PersistError> {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let written = context
        .memories
        .with(&namespace, &name, |memory| memory.written.clone())
        .flatten();
    let mut new = written
        .as_ref()
        .map(|w| w.status.clone())
        .or_else(|| rollout.status.clone())
        .unwrap_or_default();
    render(
        context, &namespace, &name, &mut new, rollout, facts, problem, sent,
    );
    let changed = match &written {
        None => true,
        Some(written) => {
            written.state != *facts.state
                || new.verdicts.len() != written.status.verdicts.len()
                || new.verdicts.last() != written.status.verdicts.last()
                || reasons(&new) != reasons(&written.status)
                || new.observed_generation != written.status.observed_generation
                || (new != written.status && written.at.elapsed() >= DISPLAY)
        }
    };
    if !changed {
        context.memories.with(&namespace, &name, |memory| {
            memory.state = facts.state.clone()
        });
        return Ok(());
    }
    let version = written.as_ref().map_or_else(
        || rollout.resource_version(),
        |w| newest(w.resource_version.clone(), rollout.resource_version()),
    );
    match persist::status(&context.client, rollout, version, new).await {
        Ok(object) => {
            let written = Written {
                state: facts.state.clone(),
                status: object.status.clone().unwrap_or_default(),
                resource_version: object.resource_version(),
                at: Instant::now(),
            };
            context.memories.with(&namespace, &name, |memory| {
                memory.state = facts.state.clone();
                memory.written = Some(written);
                memory.window = match std::mem::take(&mut memory.window) {
                    WindowInFlight::Answered { .. } | WindowInFlight::None => WindowInFlight::None,
                    asked @ WindowInFlight::Asked { .. } => asked,
                };
            });
            Ok(())
        }
        Err(PersistError::Conflict) => {
            reread(context, rollout, written.as_ref()).await?;
            Err(PersistError::Conflict)
        }
        Err(error) => Err(error),
    }
}

/// resourceVersions of one kind of object are comparable numbers (KEP-5504).
fn newest(a: Option<String>, b: Option<String>) -> Option<String> {
    let number =
        |version: &Option<String>| version.as_ref().and_then(|text| text.parse::<u128>().ok());
    if number(&b) > number(&a) { b } else { a }
}

fn reasons(status: &CanaryRolloutStatus) -> Vec<(&str, &str, &str)> {
    status
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
        .collect()
}

/// Somebody wrote: if it was the state, theirs counts, and what we decided on ours is void.
async fn reread(
    context: &Context,
    rollout: &CanaryRollout,
    written: Option<&Written>,
) -> Result<(), PersistError> {
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let api: Api<CanaryRollout> = Api::namespaced(context.client.clone(), &namespace);
    let Some(fresh) = api.get_opt(&name).await.map_err(PersistError::Status)? else {
        context.memories.forget(&namespace, &name);
        return Ok(());
    };
    let theirs = fresh
        .status
        .as_ref()
        .and_then(|status| status::read(status).ok().flatten());
    let ours = written.map(|written| &written.state);
    if theirs.is_some() && theirs.as_ref() != ours {
        tracing::warn!(
            namespace,
            rollout = name,
            "the status was changed by somebody else: theirs counts"
        );
        context.memories.forget(&namespace, &name);
    } else {
        context.memories.with(&namespace, &name, |memory| {
            if let Some(written) = &mut memory.written {
                written.resource_version = fresh.resource_version();
            }
        });
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)] // the whole of what a status shows
fn render(
    context: &Context,
    namespace: &str,
    name: &str,
    new: &mut CanaryRolloutStatus,
    rollout: &CanaryRollout,
    facts: &Facts<'_>,
    problem: Option<&Problem>,
    sent: &super::traffic::Sent,
) {
    status::write(new, Some(facts.plan), facts.state);
    let desired = desired(facts.plan, facts.state);
    let percent = |weight: Percent| i32::from(weight.get());
    let Acknowledgement {
        proxies,
        acknowledged,
        ..
    } = facts.acknowledgement;
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let wanted = desired
        .share
        .as_ref()
        .map_or(0, |share| percent(share.weight));
    new.weight = Some(WeightStatus {
        desired: wanted,
        sent: sent
            .canary
            .map_or(0, |(_, weight)| percent(weight))
            .min(wanted),
        acknowledged: count(*acknowledged),
        proxies: count(*proxies),
    });
    if let Some(canary) = &mut new.canary {
        let running = !matches!(facts.state.phase, Phase::Stable | Phase::Failed);
        canary.ready = running.then(|| count(facts.ready));
        canary.needed = running.then(|| count(facts.needed));
    }
    if let Some(failure) = &mut new.failure {
        failure.message = facts.failure.to_owned();
    }
    context.memories.with(namespace, name, |memory| {
        if let WindowInFlight::Answered {
            run, end, outcome, ..
        } = &memory.window
        {
            if facts
                .state
                .run
                .as_ref()
                .is_some_and(|current| current.number == *run)
            {
                record(new, *end, wanted_or_last(new, wanted), outcome);
            }
        }
    });
    if facts
        .state
        .run
        .as_ref()
        .is_none_or(|run| run.judged_until == run.started_at)
        && matches!(facts.state.phase, Phase::Scaling { step: 0, .. })
    {
        new.verdict = None;
    }
    new.observed_generation = rollout.metadata.generation;
    conditions::set(new, Some(facts), problem, rollout.metadata.generation);
}

/// A window that ended the run was judged at the weight that it had.
fn wanted_or_last(status: &CanaryRolloutStatus, wanted: i32) -> i32 {
    if wanted > 0 {
        wanted
    } else {
        status.verdicts.last().map_or(0, |last| last.weight)
    }
}

fn record(new: &mut CanaryRolloutStatus, end: Time, weight: i32, outcome: &measure::WindowOutcome) {
    let at = status::micro_time(end);
    if new.verdicts.iter().any(|verdict| verdict.at == at) {
        return;
    }
    let name = |verdict: Verdict| match verdict {
        Verdict::Pass => VerdictName::Pass,
        Verdict::Fail => VerdictName::Fail,
        Verdict::NoEvidence => VerdictName::NoEvidence,
    };
    new.verdict = Some(name(outcome.verdict));
    new.verdicts
        .extend(outcome.outcomes.iter().map(|one| VerdictRecord {
            at: at.clone(),
            weight,
            check: one.check.clone(),
            verdict: name(one.verdict),
            requests: one.requests.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
            reason: events::cut(one.reason.clone()),
        }));
    let surplus = new.verdicts.len().saturating_sub(VERDICTS);
    new.verdicts.drain(..surplus);
}

/// What happened, once it is written.
async fn tell(
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
        let event = events::event(event, plan, facts.target, facts.judged);
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

async fn publish(
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
async fn record_event(context: &Context, rollout: &CanaryRollout, event: &KubeEvent) {
    if let Err(error) = context
        .recorder
        .publish(event, &rollout.object_ref(&()))
        .await
    {
        tracing::debug!(%error, "an event was not recorded");
    }
}

fn invalid_problem(invalid: &InvalidSpec) -> Problem {
    Problem {
        reason: "InvalidSpec",
        message: invalid.to_string(),
    }
}

async fn invalid_spec(
    context: &Context,
    rollout: &CanaryRollout,
    invalid: &InvalidSpec,
) -> Result<Action, ReconcileError> {
    only_problem(context, rollout, &invalid_problem(invalid)).await?;
    Ok(Action::requeue(RESYNC))
}

async fn missing_target(
    context: &Context,
    rollout: &CanaryRollout,
    _: &Plan,
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
async fn only_problem(
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

/// Tidies up after CanaryRollouts that are gone: their splits, and the label on their Deployments.
pub async fn sweep(context: Arc<Context>) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        let alive = |namespace: &str, name: &str| {
            context
                .stores
                .rollouts
                .get(&ObjectRef::new(name).within(namespace))
                .is_some()
        };
        for (namespace, name) in context.traffic.rollouts() {
            if !alive(&namespace, &name) {
                context.traffic.remove(&namespace, &name);
                context.memories.forget(&namespace, &name);
            }
        }
        for original in context.stores.originals.state() {
            let (Some(namespace), Some(name)) = (
                original.namespace(),
                original.labels().get(ROLLOUT_LABEL).cloned(),
            ) else {
                continue;
            };
            if !alive(&namespace, &name) {
                if let Err(error) =
                    persist::release(&context.client, &namespace, &original.name_any()).await
                {
                    tracing::warn!(%error, "the label of a CanaryRollout that is gone stays on its Deployment; trying again");
                }
            }
        }
    }
}
