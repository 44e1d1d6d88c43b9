//! Whether hooks can be called as they are written.

use aviary_crds::CanaryRollout;
use aviary_crds::hook::When;

use super::{Problem, Severity};
use crate::allowed::AllowList;
use crate::rollout::hooks::Hook;

pub(super) fn check(rollout: &CanaryRollout, allowed: &AllowList) -> Vec<Problem> {
    let mut problems = Vec::new();
    let steps: Vec<i32> = rollout.spec.steps.iter().map(|step| step.weight).collect();
    for (i, hook) in rollout.spec.hooks.iter().enumerate() {
        let mut problem = |field: &str, severity: Severity, why: String| {
            problems.push(Problem {
                field: format!("spec.hooks[{i}]{field}"),
                message: format!("hook {}: {why}", hook.name),
                severity,
            });
        };
        if let Err(error) = allowed.check(&hook.url) {
            problem(".url", Severity::Refuse, error.to_string());
        }
        if let Err(error) = Hook::parse(hook) {
            problem("", Severity::Refuse, error.to_string());
        }
        let asked = matches!(hook.when, When::BeforeStep | When::Gate);
        for weight in hook
            .weights
            .iter()
            .filter(|weight| asked && !steps.contains(weight))
        {
            let why = format!("no step has weight {weight}, so it is never asked before that");
            problem(".weights", Severity::Note, why);
        }
    }
    problems
}
