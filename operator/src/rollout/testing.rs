//! Fixtures of the unit tests.

use std::sync::Arc;

use aviary_crds::CanaryRollout;
use kube::api::DynamicObject;
use rollout_core::judge::Verdict;
use rollout_core::plan::{Capacity, Deletion, Limits, OnFailure, Pause, Percent, Plan, Step, Then};
use rollout_core::state::{Cause, Failure, Phase, Revoked, Run, State, Template, Unsettled};
use rollout_core::time::{Span, Time};
use serde_json::{Value, json};

use super::evidence::Answer;
use super::heard::Heard;
use super::look::{self, Look};
use super::machine::{self, Memory};
use super::measure::{Source, StableOutcome, WindowOutcome};
use super::persisted::Persisted;
use super::views::Views;
pub(crate) use super::views::Writers;
use crate::admission::rollout::PrometheusPolicy;

pub(crate) fn template(name: &str) -> Template {
    Template {
        revision: name.to_owned(),
        content: format!("{name}-content"),
    }
}

/// 10 % and 100 %, each for 90 s.
pub(crate) fn plan() -> Plan {
    let step = |weight| Step {
        weight: Percent::new(weight).unwrap(),
        soak: Span::seconds(90),
        min_requests: 0,
        pause: None,
    };
    let limits = Limits {
        failure_limit: 2,
        interval: Span::seconds(10),
        hold: Span::seconds(600),
        then: Then::Advance,
        progress_deadline: Span::seconds(600),
        capacity: Capacity::Proportional,
        on_failure: OnFailure::Rollback,
        deletion: Deletion::Leave,
        exposure: None,
    };
    Plan::new(vec![step(10), step(100)], limits).unwrap()
}

/// The same with a pause after each step.
pub(crate) fn pausing() -> Plan {
    let plan = plan();
    let steps = plan.steps().iter().map(|step| Step {
        pause: Some(Pause::Promote),
        ..*step
    });
    Plan::new(steps.collect(), *plan).unwrap()
}

/// Revision `new` of Deployment `uid` beside the stable `old`, in this phase.
pub(crate) fn state(phase: Phase) -> State {
    let mut state = State::unsettled("uid".to_owned(), template("new"), 7, Time(0));
    state.phase = phase;
    state.stable = template("old");
    state.gated = true;
    state.last_run = 7;
    state.run = Some(Run {
        canary: template("new"),
        number: 7,
        plan: plan(),
        asked: plan(),
        started_at: Time(0),
        base_replicas: 4,
        judged_until: Time(5000),
        failed_in_a_row: 1,
        requests: 250,
        passed: true,
        unready_since: Some(Time(1)),
        held_since: Some(Time(2)),
        sent_needs: 1,
        lost_since: Some(Time(3)),
        paused_since: None,
        failed_since: None,
        stable_fails: false,
        answered: None,
        on_hold: None,
        skips: None,
        aborted: None,
    });
    state.failure = match phase {
        Phase::RollingBack { cause, .. } => Some(failure(cause)),
        Phase::Failed => Some(failure(Cause::AnalysisFailed)),
        _ => None,
    };
    state.revoked = vec![Revoked {
        revision: "older".to_owned(),
        run: 3,
    }];
    state
}

fn failure(cause: Cause) -> Failure {
    Failure {
        template: template("new"),
        run: 7,
        cause,
        at: Time(0),
        by: None,
    }
}

/// A state of every kind.
pub(crate) fn states() -> Vec<State> {
    let since = Time(1_790_000_000_123);
    let mut phases = vec![Phase::Stable, Phase::Failed, Phase::Promoting { since }];
    for step in 0..2 {
        phases.extend([
            Phase::Scaling { step, since },
            Phase::Shifting { step, since },
            Phase::Soaking { step, since },
        ]);
    }
    for covered in [Percent::ZERO, Percent::new(75).unwrap()] {
        phases.push(Phase::Returning { covered, since });
    }
    phases.extend(Cause::ALL.map(|cause| Phase::RollingBack { cause, since }));
    phases.extend(Unsettled::ALL.map(|why| Phase::Unsettled { why, since }));
    phases.into_iter().map(state).collect()
}

/// The CanaryRollout `payment` in `shop`, with more in its spec.
pub(crate) fn rollout(more: Value) -> CanaryRollout {
    let mut object = json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"name": "payment", "namespace": "shop", "uid": "rollout-uid", "resourceVersion": "1", "generation": 1},
        "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
    });
    json_patch::merge(&mut object, &more);
    serde_json::from_value(object).unwrap()
}

/// A window without checks, during which this many requests a minute came from outside the mesh.
pub(crate) fn answer(outside: Option<u64>) -> Answer {
    Answer {
        run: 7,
        start: Time(0),
        end: Time(5000),
        outcome: Some(WindowOutcome {
            source: Source::Prometheus,
            verdict: Verdict::NoEvidence,
            requests: 0,
            outcomes: Vec::new(),
            outside,
            stable: StableOutcome::default(),
        }),
    }
}

pub(crate) fn persisted(state: &State) -> Persisted {
    let mut rollout = rollout(json!({}));
    let memory = Memory {
        state: state.clone(),
        guarded: None,
        spending: None,
        ended: Vec::new(),
        served_at: Time(0),
    };
    rollout.status = Some(aviary_crds::CanaryRolloutStatus {
        machine: Some(machine::write(&memory)),
        ..aviary_crds::CanaryRolloutStatus::default()
    });
    Persisted::of(&rollout).unwrap().unwrap()
}

/// A look at this rollout, without a Deployment or anything else.
pub(crate) fn look(rollout: CanaryRollout, now: Time) -> Look {
    let (views, _) = views();
    look_at(&views, rollout, now)
}

/// A look at this rollout and what is in the views.
pub(crate) fn look_at(views: &Views, rollout: CanaryRollout, now: Time) -> Look {
    look::look(
        views,
        &Arc::new(rollout),
        Heard::default(),
        &PrometheusPolicy::default(),
        now,
    )
}

/// There is a Prometheus.
pub(crate) fn policy() -> PrometheusPolicy {
    PrometheusPolicy {
        default: Some("http://prometheus:9090".to_owned()),
        allowed: Vec::new(),
    }
}

/// Stores without anything in them, and the writers that fill them.
pub(crate) fn views() -> (Views, Writers) {
    Views::new()
}

pub(crate) fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}
