//! What the gate says. Warnings are printed one a line; the API server may cut what is longer than 256 characters.
//!
//! Every command is one of plain kubectl, and complete: it can be copied.

use aviary_crds::status::Phase;

use super::change::Change;
use super::fate::Fate;
use super::{Failed, RolloutFacts};
use crate::key::Key;
use crate::rollout::request;

/// What becomes of a changed template, whose revision is `template`.
pub(super) fn fate(
    change: &Change<'_>,
    facts: &RolloutFacts,
    template: &str,
    fate: &Fate<'_>,
) -> Vec<String> {
    match fate {
        Fate::Released => released(change, facts, template),
        Fate::BackToStable => back_to_stable(change, facts),
        Fate::LeavesPromotion => leaves_promotion(change, facts),
        Fate::GoesOn => goes_on(change, facts, template),
        Fate::AfterPromotion => after_promotion(change, facts, template),
        Fate::OnceSettled => once_settled(change, facts, template),
        Fate::NotTriedAgain(failed) => not_tried_again(change, facts, template, failed),
        Fate::Forsaken => forsaken(change, facts),
    }
}

fn forsaken(change: &Change<'_>, facts: &RolloutFacts) -> Vec<String> {
    vec![
        format!(
            "{}: paused, and not released: CanaryRollout {} is being deleted",
            deployment(change),
            facts.name
        ),
        to_roll_out(change, "to roll it out once that is gone"),
    ]
}

fn released(change: &Change<'_>, facts: &RolloutFacts, template: &str) -> Vec<String> {
    let (rollout, steps) = (&facts.name, steps(facts));
    let what = if facts.suspended {
        format!(
            "{}: paused; CanaryRollout {rollout} releases revision {template} in steps {steps}, once its spec.suspend is false again",
            deployment(change)
        )
    } else {
        format!(
            "{}: paused; CanaryRollout {rollout} now releases revision {template} in steps {steps}, and the stable revision serves everyone else",
            deployment(change)
        )
    };
    let superseded = superseded(facts)
        .filter(|canary| *canary != template)
        .map(|canary| {
            format!("the release of revision {canary} ends at weight 0: this one replaces it")
        });
    [Some(what), superseded, Some(follow(change, facts))]
        .into_iter()
        .flatten()
        .collect()
}

fn back_to_stable(change: &Change<'_>, facts: &RolloutFacts) -> Vec<String> {
    let run = superseded(facts).map_or_else(String::new, |canary| {
        format!("the release of revision {canary} ends at weight 0, ")
    });
    vec![
        format!(
            "{}: the template is the stable one again: {run}the stable revision serves everyone, and CanaryRollout {} resumes the Deployment by itself",
            deployment(change),
            facts.name
        ),
        follow(change, facts),
    ]
}

/// Both sets of pods exist, so neither the Deployment nor the traffic may jump.
fn leaves_promotion(change: &Change<'_>, facts: &RolloutFacts) -> Vec<String> {
    let promoted = facts.canary.as_deref().unwrap_or("that was released");
    vec![
        format!(
            "{}: the template is the stable one again: the promotion of revision {promoted} is left, and the Deployment rolls back to stable",
            deployment(change)
        ),
        "traffic stays on the canary until the stable pods are Ready again; then they serve everyone"
            .to_owned(),
        follow(change, facts),
    ]
}

fn goes_on(change: &Change<'_>, facts: &RolloutFacts, template: &str) -> Vec<String> {
    vec![
        format!(
            "{}: CanaryRollout {} is promoting revision {template} already, and goes on with it",
            deployment(change),
            facts.name
        ),
        follow(change, facts),
    ]
}

fn after_promotion(change: &Change<'_>, facts: &RolloutFacts, template: &str) -> Vec<String> {
    let promoted = facts.canary.as_deref().unwrap_or("that was released");
    let when = if facts.suspended {
        ", once spec.suspend is false again"
    } else {
        ""
    };
    vec![
        format!(
            "{}: paused; CanaryRollout {} is promoting revision {promoted}: where the Deployment has pods of it already, that is finished first",
            deployment(change),
            facts.name
        ),
        format!(
            "then revision {template} is released from weight 0, in steps {}{when}",
            steps(facts)
        ),
        follow(change, facts),
    ]
}

fn once_settled(change: &Change<'_>, facts: &RolloutFacts, template: &str) -> Vec<String> {
    let (rollout, namespace) = (&facts.name, change.namespace);
    vec![
        format!(
            "{}: paused; revision {template} will be released by CanaryRollout {rollout} once it is clear which revision serves",
            deployment(change)
        ),
        format!("to see what is not: kubectl describe canaryrollout {rollout} -n {namespace}"),
    ]
}

fn not_tried_again(
    change: &Change<'_>,
    facts: &RolloutFacts,
    template: &str,
    failed: &Failed,
) -> Vec<String> {
    let (rollout, namespace) = (&facts.name, change.namespace);
    let why = if failed.revision == template {
        format!("revision {template} is the one that was rolled back")
    } else {
        format!(
            "revision {template} differs from {}, which was rolled back, only in annotations",
            failed.revision
        )
    };
    vec![
        format!("{}: paused, and not released: {why}", deployment(change)),
        format!(
            "to see why that was rolled back: kubectl describe canaryrollout {rollout} -n {namespace}"
        ),
        format!(
            "to try it again: {}",
            request::retry(&Key::new(namespace, rollout), template)
        ),
    ]
}

pub(super) fn resume_denied(change: &Change<'_>, facts: &RolloutFacts, template: &str) -> String {
    let (rollout, name, namespace) = (&facts.name, change.name, change.namespace);
    let key = Key::new(namespace, rollout);
    let (why, forward) = match facts.phase {
        Some(Phase::Failed | Phase::Returning | Phase::RollingBack) => {
            ("was rolled back", request::retry(&key, template))
        }
        None
        | Some(
            Phase::Stable
            | Phase::Starting
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Soaking
            | Phase::Paused
            | Phase::Promoting
            | Phase::Unsettled,
        ) => ("is being released", request::promote_now(&key, template)),
    };
    format!(
        "{}: its template (revision {template}) {why} by CanaryRollout {rollout}, and resuming would put it on every pod at once. \
         To see why: kubectl describe canaryrollout {rollout} -n {namespace}. \
         To go back: apply the stable template again (kubectl apply -f <the last good manifest>, or kubectl set image deployment/{name} -n {namespace} <container>=<the last good image>). \
         To go forward: apply a version that is mended, which is released step by step; or {forward}",
        deployment(change)
    )
}

pub(super) fn paused_again(
    change: &Change<'_>,
    facts: &RolloutFacts,
    template: &str,
) -> Vec<String> {
    vec![
        format!(
            "{}: paused again: revision {template} belongs to CanaryRollout {}, which resumes the Deployment when it has promoted it; leave spec.paused out of the manifest",
            deployment(change),
            facts.name
        ),
        follow(change, facts),
    ]
}

pub(super) fn illegible(change: &Change<'_>, rollout: &str) -> String {
    format!(
        "{}: paused, and not released: this version of the operator cannot read CanaryRollout {rollout}; upgrade the operator, or apply a spec that it knows",
        deployment(change)
    )
}

pub(super) fn label_restored(change: &Change<'_>, facts: &RolloutFacts) -> String {
    let (rollout, namespace) = (&facts.name, change.namespace);
    format!(
        "{}: label {} put back; to release without CanaryRollout {rollout} from now on: kubectl delete canaryrollout {rollout} -n {namespace}",
        deployment(change),
        aviary_crds::ROLLOUT_LABEL
    )
}

/// `other`: the CanaryRollout of that name, if there is one, which releases something else.
pub(super) fn label_dropped(
    change: &Change<'_>,
    rollout: &str,
    other: Option<&RolloutFacts>,
) -> String {
    let why = match other {
        Some(other) => format!(
            "CanaryRollout {rollout} releases Deployment {}",
            other.target
        ),
        None => format!(
            "there is no CanaryRollout {rollout} in namespace {}",
            change.namespace
        ),
    };
    format!(
        "{}: label {}={rollout} removed, since {why}: this Deployment rolls out by its own strategy",
        deployment(change),
        aviary_crds::ROLLOUT_LABEL,
    )
}

pub(super) fn still_paused(change: &Change<'_>) -> String {
    to_roll_out(change, "it is still paused; to roll it out")
}

fn to_roll_out(change: &Change<'_>, when: &str) -> String {
    let (name, namespace) = (change.name, change.namespace);
    format!("{when}: kubectl rollout resume deployment/{name} -n {namespace}")
}

fn follow(change: &Change<'_>, facts: &RolloutFacts) -> String {
    format!(
        "to follow it: kubectl get canaryrollout {} -n {} --watch",
        facts.name, change.namespace
    )
}

fn deployment(change: &Change<'_>) -> String {
    format!("Deployment {}/{}", change.namespace, change.name)
}

fn steps(facts: &RolloutFacts) -> String {
    let weights: Vec<String> = facts
        .weights
        .iter()
        .map(|weight| format!("{weight}%"))
        .collect();
    match weights.as_slice() {
        [] => "100%".to_owned(),
        // Up to 20 steps are allowed, and a warning has little room.
        [first, second, .., last] if weights.len() > 6 => {
            format!("{first} -> {second} -> ... -> {last}")
        }
        all => all.join(" -> "),
    }
}

/// The revision whose release another template ends.
fn superseded(facts: &RolloutFacts) -> Option<&str> {
    match facts.phase {
        Some(
            Phase::Starting | Phase::Scaling | Phase::Shifting | Phase::Soaking | Phase::Paused,
        ) => facts.canary.as_deref(),
        // A promotion has a fate of its own.
        None
        | Some(
            Phase::Stable
            | Phase::Promoting
            | Phase::Returning
            | Phase::RollingBack
            | Phase::Failed
            | Phase::Unsettled,
        ) => None,
    }
}
