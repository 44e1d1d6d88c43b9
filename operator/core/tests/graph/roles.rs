//! What the graph's states are made of: roles instead of revisions, ages instead of moments, two plans.

use rollout_core::exposure::ErrorBudget;
use rollout_core::plan::{Capacity, Deletion, Limits, OnFailure, Pause, Percent, Plan, Step, Then};
use rollout_core::state::{Failure, OnHold, Phase, Run, State, Template};
use rollout_core::{By, Request, Span, Time, Verb, desired};

pub(crate) const NOW: Time = Time(1_000_000_000);
/// Longer than a soak and than the deadline.
pub(crate) const TICK: Span = Span(12_000);
/// Longer than a soak and the hold after it.
pub(crate) const OLDEST: Span = Span(24_000);
pub(crate) const BASE: u32 = 4;
pub(crate) const GROWN: u32 = 12;
pub(crate) const HERE: &str = "here";
pub(crate) const ELSEWHERE: &str = "elsewhere";

/// The original plan, and one that lowers its first step, moves every other one to another place, pauses in between and
/// before the promotion, does not roll back what fails, promotes what is deleted, and has an error budget: 1.036 s, into which
/// its first two steps fit whatever fails.
pub(crate) fn plans() -> [Plan; 2] {
    let mut steps = plan(&[5, 10, 60, 100]).steps().to_vec();
    steps[1].pause = Some(Pause::For(Span::seconds(10)));
    steps[3].pause = Some(Pause::Promote);
    let limits = Limits {
        on_failure: OnFailure::Pause,
        exposure: ErrorBudget::try_new(990_000, 1, 1_200).ok(),
        deletion: Deletion::Promote,
        ..*plan(&[100])
    };
    [plan(&[10, 60, 100]), Plan::new(steps, limits).unwrap()]
}

pub(crate) fn plan(weights: &[i64]) -> Plan {
    let step = |weight: &i64| Step {
        weight: Percent::new(*weight).unwrap(),
        soak: Span::seconds(10),
        min_requests: 10,
        pause: None,
    };
    let limits = Limits {
        failure_limit: 1,
        interval: Span::seconds(5),
        hold: Span::seconds(10),
        then: Then::Advance,
        progress_deadline: Span::seconds(10),
        capacity: Capacity::Proportional,
        on_failure: OnFailure::Rollback,
        deletion: Deletion::Leave,
        exposure: None,
    };
    Plan::new(weights.iter().map(step).collect(), limits).unwrap()
}

pub(crate) fn role(name: &str) -> Template {
    let content = match name {
        "canary-annotated" => "canary",
        other => other,
    };
    Template {
        revision: name.to_owned(),
        content: content.to_owned(),
    }
}

/// What a person asks of the canary of this state, at the weight that it has.
pub(crate) fn asks(state: &State, verb: Verb) -> Request {
    let canary = present(state).map_or(&state.target, |run| &run.canary);
    Request {
        verb,
        revision: canary.revision.clone(),
        weight: (verb == Verb::Promote).then(|| weight(state)),
        by: By::default(),
    }
}

pub(crate) fn weight(state: &State) -> Percent {
    desired(state).weight()
}

pub(crate) fn running(state: &State) -> Option<&Run> {
    match state.phase {
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
            state.run.as_ref()
        }
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => None,
    }
}

/// The run whose canary the phase is about.
pub(crate) fn present(state: &State) -> Option<&Run> {
    match state.phase {
        Phase::Scaling { .. }
        | Phase::Shifting { .. }
        | Phase::Soaking { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. } => state.run.as_ref(),
        Phase::Unsettled { .. } | Phase::Stable | Phase::Failed => None,
    }
}

/// Renames and rounds what the machine cannot tell apart, as seen at the time `now`, and leaves out what a phase does not
/// read: states that fold to the same one have the same future.
pub(crate) fn fold(state: &State, now: Time) -> State {
    let age = |at: Time| NOW + Span(-(now - at).0.clamp(0, OLDEST.0));
    let fresh_or_old = |at: Time| NOW + Span(-(now - at).0.clamp(0, TICK.0));
    let waiting = (state.target != state.stable).then_some(&state.target);
    let canary = match state.phase {
        Phase::Failed => state.failure.as_ref().map(|failure| &failure.template),
        Phase::Unsettled { .. } | Phase::Stable => waiting,
        Phase::Scaling { .. }
        | Phase::Shifting { .. }
        | Phase::Soaking { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. } => state.run.as_ref().map(|run| &run.canary),
    };
    let rename = |template: &Template| -> Template {
        role(if *template == state.stable {
            "stable"
        } else if canary == Some(template) {
            "canary"
        } else if canary.is_some_and(|canary| canary.content == template.content) {
            "canary-annotated"
        } else {
            "other"
        })
    };
    let fold_run = |run: &Run| {
        let (plan, asked) = match running(state) {
            Some(run) => (run.plan.clone(), run.asked.clone()),
            None => (plan(&[10, 60, 100]), plan(&[10, 60, 100])),
        };
        let mut folded = Run {
            canary: rename(&run.canary),
            number: 1,
            plan,
            asked,
            started_at: NOW,
            base_replicas: run.base_replicas,
            judged_until: NOW,
            failed_in_a_row: 0,
            requests: 0,
            passed: false,
            unready_since: None,
            held_since: None,
            sent_needs: 0,
            lost_since: None,
            paused_since: None,
            failed_since: None,
            stable_fails: false,
            answered: None,
            on_hold: None,
            skips: None,
            aborted: None,
        };
        if running(state).is_some() {
            folded.judged_until = fresh_or_old(run.judged_until);
            folded.failed_in_a_row = run.failed_in_a_row;
            folded.unready_since = run.unready_since.map(fresh_or_old);
            folded.failed_since = run.failed_since.map(|_| NOW);
            // Its age is only ever shown.
            folded.on_hold = run.on_hold.as_ref().map(|_| OnHold {
                since: NOW,
                by: By::default(),
            });
            folded.skips = run.skips.as_ref().map(|_| By::default());
        }
        if matches!(state.phase, Phase::Scaling { .. } | Phase::Soaking { .. }) {
            // What was sent is watched before it is reset by the next soak.
            folded.stable_fails = run.stable_fails;
        }
        if let Phase::Scaling {
            step: step @ 1.., ..
        } = state.phase
        {
            let needs = run
                .plan
                .replicas(run.base_replicas, run.plan.weight_before(step));
            folded.sent_needs = run.sent_needs.min(needs);
            folded.answered = run
                .answered
                .filter(|at| *at == run.plan.weight_before(step));
            folded.lost_since = run.lost_since.map(fresh_or_old);
        }
        if matches!(state.phase, Phase::Scaling { .. }) {
            // Read only where pods come up: there a run that is held has what is left of the deadline afterwards. Pods that
            // are missed later than it is held, as after a lapsed lease, have the whole of it, however long it was held.
            folded.held_since = run.held_since.map(fresh_or_old);
        }
        if matches!(state.phase, Phase::Scaling { step: 0, .. }) {
            // Nothing is judged at weight 0, and the first raise begins anew.
            folded.judged_until = NOW;
        }
        if matches!(state.phase, Phase::Soaking { .. }) {
            folded.passed = run.passed;
            folded.paused_since = run.paused_since.map(fresh_or_old);
            folded.requests = match run.requests {
                0..10 => 0,
                10..15 => 10,
                _ => 15,
            };
        }
        if matches!(state.phase, Phase::Returning { .. }) {
            folded.aborted = run.aborted.as_ref().map(|_| By::default());
        }
        if matches!(state.phase, Phase::RollingBack { .. }) {
            folded.base_replicas = BASE;
        }
        if folded.failed_since.is_some() {
            // Whatever else was judged is forgotten when it goes on.
            (folded.requests, folded.passed) = (0, false);
            (folded.paused_since, folded.stable_fails) = (None, false);
        }
        folded
    };
    let fold_failure = |failure: &Failure| Failure {
        template: rename(&failure.template),
        run: 1,
        cause: failure.cause,
        at: NOW,
        by: None,
    };
    let failed_for_now = running(state).is_some_and(|run| run.failed_since.is_some());
    // Where nothing is judged, no soak is waited for.
    let skips = running(state).is_some_and(|run| run.skips.is_some());
    let phase = match state.phase {
        Phase::Soaking { step, .. } if failed_for_now || skips => {
            Phase::Soaking { step, since: NOW }
        }
        Phase::Unsettled { why, .. } => Phase::Unsettled { why, since: NOW },
        Phase::Scaling { step, .. } => Phase::Scaling { step, since: NOW },
        Phase::Shifting { step, since } => Phase::Shifting {
            step,
            since: fresh_or_old(since),
        },
        Phase::Soaking { step, since } => Phase::Soaking {
            step,
            since: age(since),
        },
        Phase::Promoting { since } => Phase::Promoting {
            since: fresh_or_old(since),
        },
        Phase::Returning { covered, .. } => Phase::Returning {
            covered,
            since: NOW,
        },
        Phase::RollingBack { cause, .. } => Phase::RollingBack { cause, since: NOW },
        phase @ (Phase::Stable | Phase::Failed) => phase,
    };
    let failed = matches!(state.phase, Phase::Failed | Phase::RollingBack { .. });
    State {
        deployment: HERE.to_owned(),
        phase,
        stable: role("stable"),
        target: rename(&state.target),
        generation: 1,
        gated: state.gated,
        run: present(state).map(fold_run),
        last_run: 1,
        failure: state.failure.as_ref().filter(|_| failed).map(fold_failure),
        revoked: Vec::new(),
        heeded: None,
    }
}
