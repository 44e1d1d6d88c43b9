//! Why the error budget holds a raise or the promotion: by how much, and what mends it.

use rollout_core::exposure::{Defect, ErrorBudget, Exposed};
use rollout_core::plan::Step;
use rollout_core::state::State;
use rollout_core::time::Span;
use rollout_core::{Ahead, Overspend, desired};

use super::seconds;
use crate::error_budget::{outage, words};
use crate::rollout::exposing::Spending;

/// The whole sentence but for the full stop.
pub(in crate::rollout) fn exposure(
    state: &State,
    over: Overspend,
    exposed: Exposed,
    spending: Option<&Spending>,
) -> String {
    let Some(run) = state.running() else {
        return String::new();
    };
    let Some(budget) = run.plan.exposure else {
        return String::new();
    };
    let (canary, weight) = (&run.canary.revision, desired(state).weight());
    let keeps = format!("revision {canary} keeps weight {weight}");
    match over.ahead {
        Ahead::Step(step) if over.left.is_positive() => {
            let step = run.plan.step(step);
            format!(
                "{keeps}: {} It goes on when more of the canary's requests rule that out; sooner with less weight or a shorter soak of the next step, a longer soak of this one in the next release, or a larger spec.analysis.exposure.budget",
                could(step, over, exposed, spending, budget)
            )
        }
        Ahead::Step(_) | Ahead::Promotion => format!(
            "{keeps}: {} Put the stable template back to end it, or give spec.analysis.exposure.budget a larger share to go on",
            spent(exposed, spending, budget)
        ),
    }
}

fn could(
    step: &Step,
    over: Overspend,
    exposed: Exposed,
    spending: Option<&Spending>,
    budget: ErrorBudget,
) -> String {
    format!(
        "weight {} for {} could spend {} of full outage, and {} are left of the {} that a release may spend ({}). {}, so up to {} more of its requests than of stable's may fail without having been seen; {} would fit.",
        step.weight,
        seconds(step.soak),
        outage(over.could),
        outage(over.left),
        outage(budget.of_release()),
        words(budget),
        seen(spending),
        exposed.defect,
        fits(step, over.left)
    )
}

fn spent(exposed: Exposed, spending: Option<&Spending>, budget: ErrorBudget) -> String {
    format!(
        "its failures beyond stable's have spent {} of full outage, and a release may spend {} ({}). {}; nothing is raised and nothing promoted any more.",
        outage(exposed.spent),
        outage(budget.of_release()),
        words(budget),
        seen(spending)
    )
}

/// What is known of the canary's requests.
fn seen(spending: Option<&Spending>) -> String {
    let counts = spending.map(|spending| spending.spent.canary());
    match counts.filter(|counts| counts.started > 0) {
        Some(counts) => format!(
            "{} of its {} first attempts failed",
            counts.errors, counts.started
        ),
        None => "No sidecar has told of a request to it".to_owned(),
    }
}

/// The largest defect with which the step fits into what is left, rounded down.
fn fits(step: &Step, left: Span) -> Defect {
    let all = step.cost(Defect::ALL).0.max(1);
    let millionths = i128::from(left.0.max(0)) * 1_000_000 / i128::from(all);
    Defect::of(millionths as f64 / 1e6)
}
