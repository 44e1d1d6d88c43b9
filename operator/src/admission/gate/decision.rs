//! What happens to a change of an adopted Deployment.
//!
//! | change | answer |
//! |---|---|
//! | the label's CanaryRollout does not exist, or releases another Deployment | allowed; the label goes, or nobody would ever open the gate |
//! | the stable template, or the promoted one, while a promotion runs | allowed: the Deployment has to roll to it |
//! | another template | paused |
//! | `paused` cleared by `kubectl rollout resume`, on a template that is not the stable one, where there is one | denied |
//! | the same by anything else (a denial would fail a GitOps sync) | paused again |
//! | the label dropped or changed | put back |

use aviary_crds::ROLLOUT_LABEL;
use aviary_crds::status::Phase;
use serde_json::Value;

use super::fate::{Template, fate};
use super::{RolloutFacts, words};

/// The field manager of `kubectl rollout resume`: a person who means it, at a prompt that shows our answer.
const KUBECTL_ROLLOUT: &str = "kubectl-rollout";

/// An update of a Deployment, as raw JSON.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub old: &'a Value,
    pub new: &'a Value,
    /// Who makes it, as far as they say so.
    pub manager: Option<&'a str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow {
        warnings: Vec<String>,
    },
    Edit {
        edits: Vec<Edit>,
        warnings: Vec<String>,
    },
    Deny {
        message: String,
    },
}

/// What the gate changes in the new object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// `spec.paused: true`.
    Pause,
    /// The label `aviary.dev/rollout` gets this value again.
    RestoreLabel(String),
    /// The label `aviary.dev/rollout` names a CanaryRollout that does not exist.
    DropLabel,
}

impl<'a> Change<'a> {
    /// The CanaryRollout that releases the Deployment: the one of the old object, since only the operator adopts.
    pub fn rollout(&self) -> Option<&'a str> {
        label(self.old).or_else(|| label(self.new))
    }
}

/// Total, and without any effect. `facts`: the CanaryRollout that `change.rollout()` names, if it exists.
pub fn decide(change: &Change<'_>, facts: Option<&RolloutFacts>) -> Decision {
    let Some(rollout) = change.rollout() else {
        return Decision::Allow {
            warnings: Vec::new(),
        };
    };
    // Labels are copied along when a Deployment is: the CanaryRollout has the last word on what it releases.
    let Some(facts) = facts.filter(|facts| facts.target == change.name) else {
        return without_rollout(change, rollout, facts);
    };

    let (before, template) = (Template::of(change.old), Template::of(change.new));
    let mut edits = Vec::new();
    let mut warnings = Vec::new();
    if before != template {
        let fate = fate(facts, &template);
        if fate.pauses() && !paused(change.new) {
            edits.push(Edit::Pause);
        }
        warnings.extend(words::fate(change, facts, &template.revision, &fate));
    } else if resumed(change) && is_held(facts, &template.revision) {
        if change.manager == Some(KUBECTL_ROLLOUT) {
            return Decision::Deny {
                message: words::resume_denied(change, facts, &template.revision),
            };
        }
        edits.push(Edit::Pause);
        warnings.extend(words::paused_again(change, facts, &template.revision));
    }
    if label(change.old).is_some() && label(change.new) != label(change.old) {
        edits.push(Edit::RestoreLabel(rollout.to_owned()));
        warnings.push(words::label_restored(change, facts));
    }

    if edits.is_empty() {
        Decision::Allow { warnings }
    } else {
        Decision::Edit { edits, warnings }
    }
}

fn without_rollout(change: &Change<'_>, rollout: &str, other: Option<&RolloutFacts>) -> Decision {
    if label(change.new).is_none() {
        return Decision::Allow {
            warnings: Vec::new(),
        };
    }
    let mut warnings = vec![words::label_dropped(change, rollout, other)];
    if paused(change.new) {
        warnings.push(words::still_paused(change));
    }
    Decision::Edit {
        edits: vec![Edit::DropLabel],
        warnings,
    }
}

fn resumed(change: &Change<'_>) -> bool {
    paused(change.old) && !paused(change.new)
}

/// Whether resuming would put a template on every pod that has not been released. While a promotion runs, that is what
/// the operator itself wants; before there is a stable revision, it is not Aviary that has paused the Deployment; and
/// while nobody knows which one is stable, a person may well be the one who settles it.
fn is_held(facts: &RolloutFacts, template: &str) -> bool {
    match (&facts.stable, facts.phase) {
        (None, _) | (Some(_), Some(Phase::Promoting | Phase::Unsettled)) => false,
        (
            Some(stable),
            None
            | Some(
                Phase::Stable
                | Phase::Starting
                | Phase::Scaling
                | Phase::Shifting
                | Phase::Soaking
                | Phase::Returning
                | Phase::RollingBack
                | Phase::Failed,
            ),
        ) => stable != template,
    }
}

fn paused(deployment: &Value) -> bool {
    deployment["spec"]["paused"].as_bool().unwrap_or(false)
}

fn label(deployment: &Value) -> Option<&str> {
    deployment["metadata"]["labels"][ROLLOUT_LABEL]
        .as_str()
        .filter(|name| !name.is_empty())
}
