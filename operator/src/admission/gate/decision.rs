//! What happens to a change of an adopted Deployment.
//!
//! | change | answer |
//! |---|---|
//! | the label's CanaryRollout does not exist, or releases another Deployment | allowed; the label goes, or nobody would ever open the gate |
//! | another template | paused; the operator opens the gate for the stable one, and for the promoted one |
//! | `paused` cleared by `kubectl rollout resume`, on a template that is not the stable one, where there is one | denied |
//! | the same by anything else (a denial would fail a GitOps sync) | paused again |
//! | the label dropped or changed | put back |
//! | any of these, of a CanaryRollout that this version cannot read | paused, and the label put back: everything is held |

use aviary_crds::status::Phase;
use serde_json::Value;

use super::change::{Change, label};
use super::fate::{Template, fate};
use super::{RolloutFacts, words};

/// The field manager of `kubectl rollout resume`: a person who means it, at a prompt that shows our answer.
const KUBECTL_ROLLOUT: &str = "kubectl-rollout";

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

/// Total, and without any effect. `facts`: the CanaryRollout that `change.rollout()` names, if it exists.
pub fn decide(change: &Change<'_>, facts: Option<&RolloutFacts>) -> Decision {
    let Some(rollout) = change.rollout() else {
        return Decision::Allow {
            warnings: Vec::new(),
        };
    };
    if facts.is_some_and(|facts| facts.illegible) {
        return held(change, rollout);
    }
    // Labels are copied along when a Deployment is: the CanaryRollout has the last word on what it releases.
    let Some(facts) = facts.filter(|facts| facts.releases(change.name)) else {
        return without_rollout(change, rollout, facts);
    };

    let (before, template) = (Template::of(change.old), Template::of(change.new));
    let mut edits = Vec::new();
    let mut warnings = Vec::new();
    if before != template {
        let fate = fate(facts, &template);
        if !paused(change.new) {
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

/// A CanaryRollout that cannot be read is no CanaryRollout that does not exist: nothing rolls until it can be.
fn held(change: &Change<'_>, rollout: &str) -> Decision {
    let mut edits = Vec::new();
    let mut warnings = Vec::new();
    let changed = Template::of(change.old) != Template::of(change.new);
    if changed || resumed(change) {
        if !paused(change.new) {
            edits.push(Edit::Pause);
        }
        warnings.push(words::illegible(change, rollout));
    }
    if label(change.old).is_some() && label(change.new) != label(change.old) {
        edits.push(Edit::RestoreLabel(rollout.to_owned()));
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

/// Whether resuming would put a template on every pod that has not been released. With the template that is promoted, that
/// is what the operator itself wants; before there is a stable revision, it is not Aviary that has paused the Deployment; and
/// while nobody knows which one is stable, a person may well be the one who settles it.
fn is_held(facts: &RolloutFacts, template: &str) -> bool {
    match (&facts.stable, facts.phase) {
        (None, _) | (Some(_), Some(Phase::Unsettled)) => false,
        (Some(stable), Some(Phase::Promoting)) => {
            stable != template && facts.canary.as_deref() != Some(template)
        }
        (
            Some(stable),
            None
            | Some(
                Phase::Stable
                | Phase::Starting
                | Phase::Scaling
                | Phase::Shifting
                | Phase::Soaking
                | Phase::Paused
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
