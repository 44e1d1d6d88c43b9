//! What hooks say: nothing is raised or promoted before each that is asked has agreed, one that refuses ends a run at once, and
//! who is told of an end is told the truth, and not again once it has agreed.

use std::collections::{BTreeMap, BTreeSet};

use rollout_core::state::{Phase, State};
use serde_json::Value;

use super::super::agenda::Process;
use super::{Check, Rise, Run};

/// What is asked about: the weight in percent, or the promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Weight(u64),
    Promotion,
}

/// What one hook has said to one process about one thing.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    agreed: bool,
    /// In a row.
    noes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Hooks {
    said: BTreeMap<(Process, Run, About, String), Said>,
    /// Keys of what was told, and taken.
    told: BTreeSet<(Process, String)>,
}

fn about(message: &Value) -> About {
    message["nextWeight"]
        .as_u64()
        .map_or(About::Promotion, About::Weight)
}

fn run(message: &Value) -> Run {
    let revision = message["canary"].as_str().unwrap_or_default();
    (
        revision.to_owned(),
        message["run"].as_u64().unwrap_or_default(),
    )
}

fn name(of: &Value) -> String {
    of.as_str().unwrap_or_default().to_owned()
}

/// Whether a hook of the spec is asked about this.
fn is_asked(hook: &Value, what: About) -> bool {
    let weights = hook["weights"].as_array().cloned().unwrap_or_default();
    let every = weights.is_empty();
    match (hook["when"].as_str(), what) {
        (Some("BeforeStep" | "Gate"), About::Weight(weight)) => {
            every || weights.iter().any(|each| each.as_u64() == Some(weight))
        }
        (Some("BeforePromotion"), About::Promotion) => true,
        (Some("Gate"), About::Promotion) => every,
        _ => false,
    }
}

impl Check {
    /// A call is made.
    pub(in super::super) fn calls(&mut self, process: Process, key: &str, message: &Value) {
        if message["when"] != "AfterResult" {
            return;
        }
        if self.hooks.told.contains(&(process, key.to_owned())) {
            self.violated(format!("{key} is told again, though it was taken"));
        }
        let (revision, number) = run(message);
        let serves = self
            .number(&revision)
            .is_some_and(|it| self.entitled.contains(&it));
        if message["result"] == "Promoted" && !serves {
            self.violated(format!(
                "run {number} of revision {revision} is told to be promoted, and it was not"
            ));
        }
    }

    /// A process has heard what a hook says.
    pub(in super::super) fn hook_said(&mut self, process: Process, message: &Value, agrees: bool) {
        if message["when"] == "AfterResult" {
            if agrees {
                self.hooks.told.insert((process, name(&message["key"])));
            }
            return;
        }
        let asked = (
            process,
            run(message),
            about(message),
            name(&message["hook"]),
        );
        let said = self.hooks.said.entry(asked).or_default();
        said.agreed |= agrees;
        said.noes = if agrees { 0 } else { said.noes + 1 };
    }

    /// A raise to a weight, or the beginning of a promotion, is written.
    pub(super) fn hooks_agreed(&mut self, rollout: &Value, state: &State, rise: Option<Rise>) {
        let Some(of) = &state.run else { return };
        let before = self.state.as_ref().map(|state| state.phase);
        let promotes = matches!(state.phase, Phase::Promoting { .. })
            && !matches!(before, Some(Phase::Promoting { .. }));
        let what = match rise {
            Some(rise) => About::Weight(u64::from(rise.to)),
            None if promotes && before.is_some() => About::Promotion,
            None => return,
        };
        let run = (of.canary.revision.clone(), of.number);
        let hooks = rollout["spec"]["hooks"].as_array().cloned();
        let asked: Vec<Value> = hooks
            .unwrap_or_default()
            .into_iter()
            .filter(|hook| is_asked(hook, what))
            .collect();
        let processes: BTreeSet<Process> = self.hooks.said.keys().map(|key| key.0).collect();
        let passed = |process: &Process, hook: &Value| {
            let asked = (*process, run.clone(), what, name(&hook["name"]));
            let said = self.hooks.said.get(&asked).copied().unwrap_or_default();
            let ignored =
                hook["onFailure"] == "Ignore" && said.noes > hook["retries"].as_u64().unwrap_or(0);
            said.agreed || ignored
        };
        let by_one = processes
            .iter()
            .any(|process| asked.iter().all(|hook| passed(process, hook)));
        if !asked.is_empty() && !by_one {
            self.violated(format!(
                "run {} of revision {}: {what:?} without the word of every hook",
                run.1, run.0
            ));
        }
    }

    /// After a refusal nothing is published, in this very step.
    pub(in super::super) fn refused(&mut self, run: u64, published: Option<(u64, u32)>) {
        if let Some((of, weight)) = published
            && of == run
            && weight > 0
        {
            self.violated(format!(
                "a hook refused run {run}, and its weight is {weight}"
            ));
        }
    }
}
