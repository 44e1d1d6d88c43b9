//! One sentence for people: what happens now, and what happens next and when.

mod exposure;
mod waits;

use k8s_openapi::jiff::Timestamp;
use rollout_core::plan::{Pause, Plan};
use rollout_core::state::{Phase, State};
use rollout_core::time::{Span, Time};

use super::events::{because_unsettled, earned_by, why};
use super::facts::Facts;
use super::heard::Acknowledgement;
use super::replica_sets;
use super::request;

pub(super) use exposure::exposure;

pub(super) fn sentence(facts: &Facts<'_>) -> String {
    let target = facts.look.rollout.spec.target_ref.name.as_str();
    let (Some(state), Some(plan)) = (facts.state, facts.plan_in_force()) else {
        return format!("Deployment {target} has not been looked at yet");
    };
    let (now, stable) = (facts.look.now, &state.stable.revision);
    let canary = state
        .run
        .as_ref()
        .map_or("", |run| run.canary.revision.as_str());
    let lag = lag(&facts.look.heard.acks);
    let held = held(facts, state);
    let of = |step: usize| format!("step {}/{}", step + 1, plan.steps().len());
    if let (Some(hook), Some(step)) = (facts.hook, state.phase.step()) {
        return format!("{}: {}{lag}.{held}", of(step), waits::hook(hook));
    }
    if let (Some(waiting), Some(step)) = (facts.waiting(), state.phase.step()) {
        let waits = waits::waits(facts, state, plan, waiting);
        return format!("{}: {waits}{lag}.{held}", of(step));
    }
    match state.phase {
        Phase::Unsettled { why, .. } => because_unsettled(why, target),
        Phase::Stable if state.target != state.stable => format!(
            "revision {stable} serves everyone; revision {} waits to be released.{held}",
            state.target.revision
        ),
        Phase::Stable if !state.gated && is_paused(facts) => format!(
            "revision {stable} serves everyone; Deployment {target} is paused although nothing is released: kubectl rollout resume deployment/{target} -n {}",
            facts.look.key.namespace
        ),
        Phase::Stable => format!(
            "revision {stable} serves everyone; change the template of Deployment {target} to start a release"
        ),
        Phase::Scaling { step, .. } => {
            let weight = plan.step(step).weight;
            format!(
                "{}: {}; then its weight goes to {weight}{lag}.{held}",
                of(step),
                pods(facts, state, plan, canary)
            )
        }
        Phase::Shifting { step, .. } => format!(
            "{}: weight {} of revision {canary} was sent{lag}.{held}",
            of(step),
            plan.step(step).weight
        ),
        Phase::Soaking { step, since } => format!(
            "{}: revision {canary} has weight {}: {}{lag}.{held}",
            of(step),
            plan.step(step).weight,
            soak(facts, state, plan, step, since)
        ),
        Phase::Promoting { since } if now - since >= plan.progress_deadline => format!(
            "the promotion of revision {canary} is stuck: Deployment {target} does not finish its rollout (kubectl describe deployment {target}); all traffic stays on the healthy canary. Put the stable template back, or apply a fixed one, to leave it"
        ),
        Phase::Promoting { .. } if state.target.revision != canary => format!(
            "the promotion of revision {canary} is finished first; then revision {} is released from weight 0",
            state.target.revision
        ),
        Phase::Promoting { .. } => format!(
            "{}: Deployment {target} rolls to revision {canary} while the canary carries the traffic",
            earned_by(state.run.as_ref().and_then(|run| run.skips.as_ref()))
        ),
        Phase::Returning { covered, .. } => format!(
            "back to the stable revision {stable}: {} of its pods are Ready and take {covered} of the requests; revision {canary} serves the rest until they are back",
            replica_sets::ready_of(&facts.look.sets, stable)
        ),
        Phase::RollingBack { cause, .. } => format!(
            "weight 0: {}; revision {stable} serves everyone, and the canary's pods go when no proxy uses them any more{lag}",
            why(state, cause, facts.verdicts.failure())
        ),
        Phase::Failed => failed(facts, state, target),
    }
}

fn is_paused(facts: &Facts<'_>) -> bool {
    let deployment = facts.look.target.deployment();
    deployment.is_some_and(|deployment| super::deployment::paused(deployment))
}

fn failed(facts: &Facts<'_>, state: &State, target: &str) -> String {
    let stable = &state.stable.revision;
    let Some(failure) = &state.failure else {
        return format!(
            "revision {stable} serves everyone; change the template of Deployment {target} to go on"
        );
    };
    let revision = &failure.template.revision;
    let cause = why(state, failure.cause, facts.verdicts.failure());
    let way_out = format!(
        "revision {stable} serves everyone; change the template of Deployment {target} (a fixed version, or the stable one) to go on, or try this one again: {}",
        request::retry(&facts.look.key, &state.target.revision)
    );
    match failure.cause {
        rollout_core::Cause::FoundPaused => format!(
            "Deployment {target} was found paused on revision {revision}, which does not serve and is not released by itself; {way_out}"
        ),
        rollout_core::Cause::AnalysisFailed
        | rollout_core::Cause::WorseThanStable
        | rollout_core::Cause::ProgressDeadlineExceeded
        | rollout_core::Cause::CanaryLost
        | rollout_core::Cause::NotMeshed
        | rollout_core::Cause::Aborted
        | rollout_core::Cause::HookRefused
        | rollout_core::Cause::Revoked
        | rollout_core::Cause::TemplateReverted
        | rollout_core::Cause::Deleted
        | rollout_core::Cause::BreakGlass => {
            format!("revision {revision} was rolled back: {cause}; {way_out}")
        }
    }
}

fn pods(facts: &Facts<'_>, state: &State, plan: &Plan, canary: &str) -> String {
    let ready = facts
        .look
        .copy_of(canary)
        .map_or(0, |copy| super::deployment::ready(copy));
    let needed = match rollout_core::desired(state).copy {
        rollout_core::Copies::One { replicas, .. } => replicas,
        rollout_core::Copies::None => 0,
    };
    let deadline = state
        .run
        .as_ref()
        .filter(|run| run.held_since.is_none())
        .and_then(|run| run.unready_since)
        .map_or_else(String::new, |since| {
            let left = since + plan.progress_deadline - facts.look.now;
            format!(" (rolled back in {} otherwise)", seconds(left))
        });
    format!("{ready} of {needed} pods of revision {canary} are Ready{deadline}")
}

fn soak(facts: &Facts<'_>, state: &State, plan: &Plan, step: usize, since: Time) -> String {
    let left = since + plan.step(step).soak - facts.look.now;
    let judged = facts.verdicts.judged();
    let run = state.run.as_ref();
    let failed = run.is_some_and(|run| run.failed_in_a_row > 0);
    let passed = run.is_some_and(|run| {
        run.skips.is_some() || (run.passed && run.requests >= plan.step(step).min_requests)
    });
    if left.is_positive() {
        format!("{} more, then {}", seconds(left), after(plan, state, step))
    } else if failed {
        format!("the soak is over, but the last window failed ({judged})")
    } else if passed {
        format!("the soak is over; then {}", after(plan, state, step))
    } else {
        waits::held(facts, plan, state)
    }
}

/// What follows the soak.
fn after(plan: &Plan, state: &State, step: usize) -> String {
    let next = waits::next(plan, state);
    match plan.step(step).pause {
        None => next,
        Some(Pause::Promote) => "it waits for a person".to_owned(),
        Some(Pause::For(length)) => format!("a pause of {}, then {next}", seconds(length)),
    }
}

/// Who has not acknowledged, and until when each is waited for.
fn lag(acks: &Acknowledgement) -> String {
    if acks.complete() {
        return String::new();
    }
    let names: Vec<String> = acks
        .laggards
        .iter()
        .map(|laggard| match laggard.until {
            Some(until) => format!("{} until {}", laggard.pod, clock(until)),
            None => laggard.pod.to_string(),
        })
        .collect();
    let who = if names.is_empty() {
        String::new()
    } else {
        let connected = acks.laggards.iter().any(|laggard| laggard.until.is_none());
        let hint = if connected {
            "; who has no time there is connected: see the log of its sidecar, or delete the pod"
        } else {
            ""
        };
        format!(" (waiting for {}{hint})", names.join(", "))
    };
    let refused = acks.rejected.as_ref().map_or_else(String::new, |text| {
        format!("; the configuration was refused by {text}: it goes on with its last good one")
    });
    format!(
        "; {} of {} proxies have acknowledged{who}{refused}",
        acks.acknowledged, acks.proxies
    )
}

fn held(facts: &Facts<'_>, state: &State) -> String {
    let by_people = match (facts.look.rollout.spec.suspend, facts.look.frozen) {
        (true, _) => " Suspended: nothing is raised until spec.suspend is false.",
        (false, true) => " Frozen: nothing is raised while the ConfigMap aviary-freeze exists.",
        (false, false) => "",
    };
    let by_proxies = facts.withheld.map_or_else(String::new, |requests| {
        format!(
            " Held back: sidecars give requests of the canary's share to stable ({requests} in one second), because far more of them fail there; nothing is raised while they do."
        )
    });
    let run = state.running();
    let paused = run.and_then(|run| Some((run, run.on_hold.as_ref()?)));
    let by_a_person = paused.map_or_else(String::new, |(run, hold)| {
        format!(
            " Paused by {} since {}: nothing is raised until somebody resumes it ({}).",
            hold.by,
            clock(hold.since),
            request::resume(&facts.look.key, &run.canary.revision)
        )
    });
    let skips = run.and_then(|run| run.skips.as_ref());
    let skipped = skips.map_or_else(String::new, |by| {
        format!(" The judgement is skipped, by {by}; the guard still watches.")
    });
    format!("{by_people}{by_a_person}{skipped}{by_proxies}")
}

fn clock(time: Time) -> String {
    Timestamp::from_millisecond(time.0)
        .map(|time| time.strftime("%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

fn seconds(span: Span) -> String {
    let seconds = (span.0.max(0) + 999) / 1000;
    match (seconds / 60, seconds % 60) {
        (0, rest) => format!("{rest}s"),
        (minutes, 0) => format!("{minutes}m"),
        (minutes, rest) => format!("{minutes}m{rest}s"),
    }
}
