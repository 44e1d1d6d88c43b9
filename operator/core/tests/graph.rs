//! The whole state graph: every state that can be reached under every class of observation, by what is written and by
//! what is only held, and on every edge the invariants of the rollout machine; from every state, its endings.
//!
//! Revisions are folded into roles (stable, canary, the canary with another annotation, another), moments into ages,
//! counters into the values that matter, and what a phase does not read is dropped ([`roles::fold`]). Folding keeps what
//! the machine can tell apart, so the closure is finite and the search is exhaustive for the classes of observations
//! ([`classes`]).
//!
//! Left out, so that the product stays small:
//! - There are two plans, of which either may take the other's place in the middle of a run. They differ in weights, pauses,
//!   and in what a failure and a deletion do; lengths, limits, capacity and `noEvidence.then` are the same, and `stories.rs`
//!   edits them.
//! - What a raise needs is varied each with each, except that a missing acknowledgement meets three windows and plenty of
//!   pods. What ends a run comes one by one, against a helpful and an unhelpful world, and in pairs in a helpful one; never
//!   three at once.
//! - Ready pods: none, one too few, enough, plenty. Replicas: 4 and 12, and 0 for a look.
//! - Of the error budget there is nothing spent and nothing possible, everything possible, or too much spent; the last two meet
//!   three windows and plenty of pods. Only one of the plans has one.
//! - Windows end now, with 20, 12 or 3 requests; counts of requests are rounded down to the bounds that matter. Stable passes
//!   or fails, or nobody can tell, not with each verdict.
//! - Times for which pods are missing, a step pauses or somebody holds are fresh, or longer than the deadline.
//! - The clock is set back by more than every age at once, and never during a promotion or at rest.
//! - Revoked runs are checked where they come up and not kept: their number has no part in what happens next.
//! - Who asks is nobody; a request that was heeded is not kept, and is checked where it comes up: it is heeded once.
//! - A pause of a person's has no age. What is paused meets four windows, and what ends it comes one by one, not in pairs.
//! - Failures of a write between `held` and `next` are those two edges; a state older than both is not seen again.

#![allow(clippy::unwrap_used)] // a test says so by panicking

#[path = "graph/classes.rs"]
mod classes;
#[path = "graph/endings.rs"]
mod endings;
#[path = "graph/invariants.rs"]
mod invariants;
#[path = "graph/roles.rs"]
mod roles;

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use rollout_core::advance;
use rollout_core::state::{Cause, Phase, State};

use classes::classes;
use invariants::check;
use roles::{HERE, NOW, fold, role};

struct Graph {
    states: HashSet<State>,
    causes: HashSet<Cause>,
    /// How many states each phase has.
    phases: BTreeMap<&'static str, usize>,
}

/// Searched once for all tests.
fn graph() -> &'static Graph {
    static GRAPH: OnceLock<Graph> = OnceLock::new();
    GRAPH.get_or_init(search)
}

/// Breadth first, each layer by as many threads as there are processors.
fn search() -> Graph {
    let unseen = State::unsettled(HERE.to_owned(), role("stable"), 1, NOW);
    let start = fold(&unseen, NOW);
    let mut graph = Graph {
        states: HashSet::from([start.clone()]),
        causes: HashSet::new(),
        phases: BTreeMap::new(),
    };
    let mut layer = vec![start];
    let mut edges = 0_u64;
    while !layer.is_empty() {
        for state in &layer {
            *graph.phases.entry(name(state.phase)).or_default() += 1;
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = layer.len().div_ceil(threads);
        let found: Vec<Found> = std::thread::scope(|scope| {
            let parts: Vec<_> = layer
                .chunks(share)
                .map(|part| scope.spawn(|| explore(part, &graph.states)))
                .collect();
            parts.into_iter().map(|part| part.join().unwrap()).collect()
        });
        layer.clear();
        for part in found {
            edges += part.edges;
            graph.causes.extend(part.causes);
            layer.extend(
                part.states
                    .into_iter()
                    .filter(|state| graph.states.insert(state.clone())),
            );
        }
    }
    println!(
        "rollout state graph: {} states, {edges} edges, {:?}",
        graph.states.len(),
        graph.phases
    );
    graph
}

/// What the edges out of some states lead to.
#[derive(Default)]
struct Found {
    states: HashSet<State>,
    causes: HashSet<Cause>,
    edges: u64,
}

fn explore(states: &[State], known: &HashSet<State>) -> Found {
    let mut found = Found::default();
    for state in states {
        classes(state, |class| {
            let step = advance(&class.plan, state, &class.seen);
            if let Err(broken) = check(state, class, &step) {
                panic!(
                    "invariant {broken}\nfrom {state:?}\nseeing {:?}\nwith the steps {:?}\nto {step:?}",
                    class.seen,
                    class.plan.steps()
                );
            }
            if let Phase::RollingBack { cause, .. } = step.held.phase {
                found.causes.insert(cause);
            }
            // What is only held and never written is a state to go on from, too.
            let held = (step.held != step.next).then_some(&step.held);
            for to in held.into_iter().chain([&step.next]) {
                found.edges += 1;
                let to = fold(to, class.seen.now);
                if !known.contains(&to) {
                    found.states.insert(to);
                }
            }
        });
    }
    found
}

#[test]
fn every_invariant_holds_on_every_edge_of_the_state_graph() {
    assert!(!graph().states.is_empty());
}

#[test]
fn every_phase_and_every_cause_of_a_rollback_is_reached() {
    let graph = graph();
    assert_eq!(graph.phases.len(), 9, "{:?}", graph.phases);
    let mut causes = HashSet::from(Cause::ALL);
    // No run ends by it.
    causes.remove(&Cause::FoundPaused);
    assert_eq!(graph.causes, causes);
}

#[test]
fn from_every_state_a_release_comes_to_rest_and_can_be_left() {
    for state in &graph().states {
        if let Err(broken) = endings::check(state) {
            panic!("6: {broken}\nfrom {state:?}");
        }
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Unsettled { .. } => "Unsettled",
        Phase::Stable => "Stable",
        Phase::Scaling { .. } => "Scaling",
        Phase::Shifting { .. } => "Shifting",
        Phase::Soaking { .. } => "Soaking",
        Phase::Promoting { .. } => "Promoting",
        Phase::Returning { .. } => "Returning",
        Phase::RollingBack { .. } => "RollingBack",
        Phase::Failed => "Failed",
    }
}
