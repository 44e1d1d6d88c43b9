//! The question to Prometheus runs beside the reconcile, so that a slow answer delays nothing; the answer is taken up by the next look.

use std::sync::Arc;
use std::time::Duration;

use aviary_crds::CanaryRollout;
use futures::FutureExt;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use rollout_core::observation::Window;
use rollout_core::state::State;
use rollout_core::time::Time;

use super::checks::Scope;
use super::controller::Context;
use super::measure;
use super::memory::WindowInFlight;
use super::plan::Parsed;

/// Takes the answer of Prometheus, if it came and still matters.
pub(super) fn take_window(
    context: &Context,
    rollout: &CanaryRollout,
    state: &State,
) -> Option<Window> {
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
pub(super) fn ask_window(
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
