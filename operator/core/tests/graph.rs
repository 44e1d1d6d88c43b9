//! The whole state graph: every state that can be reached under every class of observation, and on every edge the
//! invariants of the rollout machine.
//!
//! Time is folded into three ages (now, long enough for a soak, long enough for everything), revisions into roles
//! (stable, canary, the canary with another annotation, another), counters into the values that matter. Folding
//! keeps what the machine can tell apart, so the closure is finite and the search is exhaustive.

#![allow(clippy::unwrap_used)] // a test says so by panicking

use std::collections::{HashMap, HashSet, VecDeque};

use rollout_core::judge::Verdict;
use rollout_core::observation::{CopySeen, Observation, Original, Traffic, Window};
use rollout_core::plan::{Capacity, Limits, Percent, Plan, Step, Then};
use rollout_core::state::{Cause, Phase, Run, State, Template};
use rollout_core::{Event, Span, Time, advance, desired};

const NOW: Time = Time(1_000_000_000);
const TICK: Span = Span(12_000);
const OLDEST: Span = Span(24_000);
const BASE: u32 = 4;

fn plan() -> Plan {
    let step = |weight| Step {
        weight: Percent::new(weight).unwrap(),
        soak: Span::seconds(10),
        min_requests: 10,
    };
    let limits = Limits {
        failure_limit: 1,
        interval: Span::seconds(5),
        hold: Span::seconds(10),
        then: Then::Advance,
        progress_deadline: Span::seconds(20),
        capacity: Capacity::Proportional,
    };
    Plan::new(vec![step(10), step(60), step(100)], limits).unwrap()
}

fn template(revision: &str, content: &str) -> Template {
    Template {
        revision: revision.to_owned(),
        content: content.to_owned(),
    }
}

fn role(name: &str) -> Template {
    match name {
        "canary-annotated" => template(name, "canary"),
        other => template(other, other),
    }
}

/// Renames and rounds what the machine cannot tell apart, as seen at the time `now`.
fn fold(state: &State, now: Time) -> State {
    let age = |t: Time| NOW + Span(-(now - t).0.clamp(0, OLDEST.0));
    let mut folded = state.clone();
    if folded
        .run
        .as_ref()
        .is_some_and(|run| run.canary == folded.stable)
    {
        folded.run = None;
    }
    let (stable, run) = (folded.stable.clone(), folded.run.clone());
    let rename = |t: &Template| -> Template {
        if *t == stable {
            role("stable")
        } else if run.as_ref().is_some_and(|run| run.canary == *t) {
            role("canary")
        } else if run
            .as_ref()
            .is_some_and(|run| run.canary.content == t.content)
        {
            role("canary-annotated")
        } else {
            role("other")
        }
    };
    folded.stable = rename(&state.stable);
    folded.target = rename(&state.target);
    folded.generation = 1;
    folded.revoked.clear();
    if let Some(failure) = &mut folded.failure {
        failure.template = rename(&failure.template.clone());
        failure.at = NOW;
        failure.run = 1;
    }
    if folded.run.is_none() {
        folded.failure = None;
    }
    let idle = matches!(
        folded.phase,
        Phase::Stable | Phase::Failed | Phase::RollingBack { .. } | Phase::Promoting { .. }
    );
    if let Some(run) = &mut folded.run {
        run.canary = role("canary");
        run.number = 1;
        run.started_at = NOW;
        run.base_replicas = BASE;
        run.requests = match run.requests {
            0..10 => 0,
            10..15 => 10,
            _ => 15,
        };
        run.judged_until = age(run.judged_until);
        run.unready_since = run.unready_since.map(age);
        run.held_since = run.held_since.map(age);
        if idle {
            // Nothing of this is read again.
            run.judged_until = NOW;
            run.unready_since = None;
            run.held_since = None;
            run.requests = 0;
            run.failed_in_a_row = 0;
            run.passed = false;
        }
    }
    folded.phase = match folded.phase {
        Phase::Scaling { step, since } => Phase::Scaling {
            step,
            since: age(since),
        },
        Phase::Shifting { step, since } => Phase::Shifting {
            step,
            since: age(since),
        },
        Phase::Soaking { step, since } => Phase::Soaking {
            step,
            since: age(since),
        },
        Phase::Promoting { .. } => Phase::Promoting { since: NOW },
        Phase::RollingBack { cause, .. } => Phase::RollingBack { cause, since: NOW },
        phase @ (Phase::Stable | Phase::Failed) => phase,
    };
    folded
}

fn weight(plan: &Plan, state: &State) -> Percent {
    desired(plan, state)
        .share
        .map_or(Percent::ZERO, |share| share.weight)
}

/// Every class of observation of a folded state, `now` included.
fn observations(plan: &Plan, state: &State, mut visit: impl FnMut(&Observation)) {
    let run = state.run.as_ref();
    let number = run.map_or(1, |run| run.number);
    let share = desired(plan, state).share;
    let wanted = share.as_ref().map_or(Percent::ZERO, |share| share.weight);
    let running = matches!(
        state.phase,
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. }
    );
    let roles = ["stable", "canary", "canary-annotated", "other"].map(role);
    let mut templates: Vec<(Template, i64)> = roles.into_iter().map(|t| (t, 2)).collect();
    templates.push((state.target.clone(), 1));
    templates.push((role("other"), 1));
    let copies = [
        CopySeen {
            exists: false,
            ready: 0,
            without_sidecar: false,
        },
        CopySeen {
            exists: true,
            ready: 0,
            without_sidecar: false,
        },
        CopySeen {
            exists: true,
            ready: 1,
            without_sidecar: false,
        },
        CopySeen {
            exists: true,
            ready: BASE,
            without_sidecar: false,
        },
        CopySeen {
            exists: true,
            ready: BASE,
            without_sidecar: true,
        },
    ];
    let traffics = [
        Traffic {
            sent: None,
            acknowledged: true,
        },
        Traffic {
            sent: Some((number, wanted)),
            acknowledged: true,
        },
        Traffic {
            sent: Some((number, wanted)),
            acknowledged: false,
        },
        Traffic {
            sent: Some((number, Percent::ZERO)),
            acknowledged: true,
        },
    ];
    for elapsed in [Span(0), TICK] {
        let now = NOW + elapsed;
        let judged_until = run.map_or(NOW, |run| run.judged_until);
        let mut windows = vec![None];
        if running {
            for verdict in [Verdict::Pass, Verdict::Fail, Verdict::NoEvidence] {
                windows.push(Some(Window {
                    start: now + Span(-5000),
                    end: now,
                    verdict,
                    requests: 20,
                }));
            }
            windows.push(Some(Window {
                start: now + Span(-5000),
                end: now,
                verdict: Verdict::Pass,
                requests: 3,
            }));
            windows.push(Some(Window {
                start: Time(0),
                end: judged_until,
                verdict: Verdict::Fail,
                requests: 20,
            }));
        }
        let original_states: &[(bool, bool)] = if running {
            &[(true, false)]
        } else {
            &[(true, true), (true, false), (false, true), (false, false)]
        };
        for (template, generation) in &templates {
            for &(paused, rolled_out) in original_states {
                for copy in copies {
                    for traffic in traffics {
                        for window in &windows {
                            for revoked in [None, Some(number)] {
                                for deleted in [false, true] {
                                    for may_raise in [false, true] {
                                        visit(&Observation {
                                            now,
                                            template: template.clone(),
                                            generation: *generation,
                                            original: Original {
                                                replicas: BASE,
                                                paused,
                                                rolled_out,
                                            },
                                            copy,
                                            traffic,
                                            window: *window,
                                            revoked,
                                            deleted,
                                            may_raise,
                                        });
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The template that counts: one that differs without a new generation is no change of the user's.
fn asked<'a>(state: &'a State, seen: &'a Observation) -> &'a Template {
    if seen.generation == state.generation {
        &state.target
    } else {
        &seen.template
    }
}

fn running(state: &State) -> Option<&Run> {
    match state.phase {
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => {
            state.run.as_ref()
        }
        Phase::Stable | Phase::Promoting { .. } | Phase::RollingBack { .. } | Phase::Failed => None,
    }
}

fn number(state: &State) -> u64 {
    state.run.as_ref().map_or(0, |run| run.number)
}

/// The invariants of the design, section 3, on one edge.
fn check_edge(
    plan: &Plan,
    from: &State,
    seen: &Observation,
    to: &State,
    events: &[Event],
) -> Result<(), String> {
    let (before, after) = (weight(plan, from), weight(plan, to));
    let same_run = number(from) == number(to);
    let need = |weight| plan.replicas(BASE, weight);
    macro_rules! hold {
        ($condition:expr, $($what:tt)+) => { if !$condition { return Err(format!($($what)+)); } };
    }

    // 1. A weight rises only when everything allows it.
    if after > before {
        hold!(same_run, "1: a new run began above weight 0");
        hold!(seen.may_raise, "1: raised while held");
        hold!(
            seen.traffic.acknowledged && seen.traffic.sent == Some((number(from), before)),
            "1: raised without acknowledgement"
        );
        hold!(
            seen.copy.exists && seen.copy.ready >= need(after),
            "1: raised without Ready pods"
        );
        hold!(
            !seen.deleted && !seen.copy.without_sidecar,
            "1: raised against an abort"
        );
        hold!(
            seen.revoked.is_none_or(|run| run < number(from)),
            "1: raised a revoked run"
        );
        hold!(
            asked(from, seen) == &from.run.as_ref().unwrap().canary,
            "1: raised a template nobody asks for"
        );
        hold!(
            to.run.as_ref().unwrap().failed_in_a_row == 0,
            "1: raised on a failed window"
        );
        hold!(
            matches!((from.phase, to.phase), (Phase::Scaling { step: a, .. }, Phase::Shifting { step: b, .. }) if a == b),
            "1: raised by another way than Scaling to Shifting"
        );
    }
    // 1, the evidence: a soak ends by a pass of its own windows, or on the terms of noEvidence.
    if let (Phase::Soaking { since, step }, true) = (from.phase, same_run)
        && matches!(to.phase, Phase::Scaling { .. } | Phase::Promoting { .. })
    {
        let run = to.run.as_ref().unwrap();
        let soaked = seen.now - since;
        let fresh = seen
            .window
            .filter(|window| window.end > from.run.as_ref().unwrap().judged_until);
        let requests =
            from.run.as_ref().unwrap().requests + fresh.map_or(0, |window| window.requests);
        let passed = match fresh.map(|window| window.verdict) {
            Some(Verdict::Pass) => true,
            Some(Verdict::Fail) => false,
            Some(Verdict::NoEvidence) | None => from.run.as_ref().unwrap().passed,
        };
        let evidence = passed && requests >= plan.step(step).min_requests;
        let without = soaked >= Span(plan.step(step).soak.0 + plan.hold.0) && requests >= 15;
        hold!(soaked >= plan.step(step).soak, "1: a soak ended early");
        hold!(evidence || without, "1: a soak ended without evidence");
        hold!(
            evidence || events.contains(&Event::AdvancedWithoutEvidence { step }),
            "5: it advanced without evidence and did not say so"
        );
        hold!(
            run.failed_in_a_row == 0 && seen.may_raise && seen.traffic.acknowledged,
            "1: a soak ended against a condition"
        );
        hold!(
            matches!(to.phase, Phase::Promoting { .. }) == plan.is_last(step),
            "1: promoted before the last step"
        );
    }
    // 2. Aborts reach weight 0 in the same transition.
    if let Some(run) = running(from) {
        let fails = run.failed_in_a_row
            + u32::from(seen.window.is_some_and(|w| {
                w.verdict == Verdict::Fail && w.end > run.judged_until && before > Percent::ZERO
            }));
        let since = match from.phase {
            Phase::Scaling { since, .. } | Phase::Shifting { since, .. } => Some(since),
            Phase::Stable
            | Phase::Soaking { .. }
            | Phase::Promoting { .. }
            | Phase::RollingBack { .. }
            | Phase::Failed => None,
        };
        let first = matches!(from.phase, Phase::Scaling { step: 0, .. });
        let held = run.held_since.map_or(Span(0), |since| seen.now - since);
        let late = seen.may_raise
            && since.is_some_and(|since| seen.now - (since + held) >= plan.progress_deadline);
        let lost_long = before > Percent::ZERO
            && seen.copy.ready < need(before)
            && run
                .unready_since
                .is_some_and(|since| seen.now - since >= plan.progress_deadline);
        let abort = seen.deleted
            || seen.revoked.is_some_and(|revoked| revoked >= run.number)
            || asked(from, seen) != &run.canary
            || seen.copy.without_sidecar
            || (!first && !seen.copy.exists)
            || fails > plan.failure_limit
            || late
            || lost_long;
        if abort {
            hold!(after == Percent::ZERO, "2: an abort left weight {after}");
            hold!(
                running(to).is_none_or(|new| new.number > run.number),
                "2: an aborted run goes on"
            );
            hold!(
                to.revoked
                    .iter()
                    .any(|revoked| revoked.revision == run.canary.revision
                        && revoked.run == run.number),
                "2: an aborted run was not revoked"
            );
        } else {
            hold!(
                running(to).is_some() || matches!(to.phase, Phase::Promoting { .. }),
                "2: rolled back without a cause"
            );
        }
    }
    // 2. After that it never rises for that run.
    if matches!(
        from.phase,
        Phase::RollingBack { .. } | Phase::Failed | Phase::Stable
    ) {
        hold!(
            after == Percent::ZERO,
            "2: weight {after} out of {:?}",
            from.phase
        );
    }
    // 3. A weight belongs to a run: another run starts at 0, with a higher number.
    if !same_run {
        hold!(number(to) > number(from), "3: run numbers do not rise");
        hold!(
            after == Percent::ZERO && matches!(to.phase, Phase::Scaling { step: 0, .. }),
            "3: a new run did not start at 0"
        );
        hold!(
            to.run.as_ref().unwrap().canary != to.stable,
            "3: the stable template is released"
        );
    }
    // 5. No evidence is no failure.
    if let (Some(run), Some(next), Some(window)) = (running(from), running(to), seen.window)
        && same_run
        && window.verdict == Verdict::NoEvidence
    {
        hold!(
            next.failed_in_a_row == run.failed_in_a_row,
            "5: no evidence was counted as a failure"
        );
    }
    // 7. While the old pods are going away, traffic stays on the canary until the Deployment has rolled.
    if matches!(from.phase, Phase::Promoting { .. }) && !seen.original.rolled_out {
        hold!(
            after == Percent::ALL && to.stable == from.stable,
            "7: traffic left the canary during a promotion"
        );
    }
    // 8. A failed template is not tried again because of an annotation.
    if from.phase == Phase::Failed
        && asked(from, seen).content == from.failure.as_ref().map_or("", |f| &f.template.content)
    {
        hold!(
            to.phase == Phase::Failed,
            "8: a failed template was tried again"
        );
    }
    if to.stable != from.stable {
        let promoted = matches!(from.phase, Phase::Promoting { .. }) && seen.original.rolled_out;
        let recorded = from.phase == Phase::Stable && seen.generation == from.generation;
        hold!(promoted || recorded, "stable changed without a promotion");
    }
    Ok(())
}

#[test]
fn every_invariant_holds_on_every_edge_of_the_state_graph() {
    let plan = plan();
    let start = fold(&State::adopt(role("stable"), 1), NOW);
    let mut known: HashMap<State, usize> = HashMap::from([(start.clone(), 0)]);
    let mut targets: Vec<HashSet<usize>> = vec![HashSet::new()];
    let mut queue = VecDeque::from([start]);
    let mut edges = 0_u64;
    let mut causes = HashSet::new();
    let mut phases = HashSet::new();
    while let Some(state) = queue.pop_front() {
        let from = known[&state];
        phases.insert(phase_name(state.phase));
        observations(&plan, &state, |seen| {
            edges += 1;
            let step = advance(&plan, &state, seen);
            if let Err(broken) = check_edge(&plan, &state, seen, &step.next, &step.events) {
                panic!(
                    "invariant {broken}\nfrom {state:#?}\nseeing {seen:#?}\nto {:#?}",
                    step.next
                );
            }
            // 4. A window is judged once, and waking again changes nothing more.
            if seen
                .window
                .is_some_and(|window| window.verdict == Verdict::Fail)
            {
                let again = advance(
                    &plan,
                    &step.next,
                    &Observation {
                        generation: step.next.generation,
                        ..seen.clone()
                    },
                );
                if let (Some(once), Some(twice)) = (running(&step.next), running(&again.next)) {
                    assert!(
                        twice.failed_in_a_row <= once.failed_in_a_row,
                        "4: a window was judged twice\n{state:#?}\n{seen:#?}"
                    );
                }
            }
            if let Phase::RollingBack { cause, .. } = step.next.phase {
                causes.insert(cause);
            }
            let next = fold(&step.next, seen.now);
            let fresh = known.len();
            let to = *known.entry(next.clone()).or_insert(fresh);
            if to == fresh {
                targets.push(HashSet::new());
                queue.push_back(next);
            }
            targets[from].insert(to);
        });
    }
    println!("rollout state graph: {} states, {edges} edges", known.len());
    assert_eq!(
        causes,
        HashSet::from(Cause::ALL),
        "every cause of a rollback is reached"
    );
    assert_eq!(phases.len(), 7, "every phase is reached: {phases:?}");

    // 6. From every state a terminal state can be reached.
    let mut terminal: HashSet<usize> = known
        .iter()
        .filter(|(s, _)| matches!(s.phase, Phase::Stable | Phase::Failed))
        .map(|(_, i)| *i)
        .collect();
    loop {
        let more: Vec<usize> = (0..targets.len())
            .filter(|i| !terminal.contains(i) && targets[*i].iter().any(|t| terminal.contains(t)))
            .collect();
        if more.is_empty() {
            break;
        }
        terminal.extend(more);
    }
    assert_eq!(terminal.len(), known.len(), "6: some state can never end");
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Stable => "Stable",
        Phase::Scaling { .. } => "Scaling",
        Phase::Shifting { .. } => "Shifting",
        Phase::Soaking { .. } => "Soaking",
        Phase::Promoting { .. } => "Promoting",
        Phase::RollingBack { .. } => "RollingBack",
        Phase::Failed => "Failed",
    }
}
