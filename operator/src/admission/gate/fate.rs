//! What becomes of a template that an adopted Deployment has just been given.
//!
//! | phase | template | fate |
//! |---|---|---|
//! | Promoting | the stable one | the promotion is left: the operator opens the gate, and the Deployment rolls back |
//! | Promoting | the one that is promoted | the promotion goes on |
//! | Promoting | another | released when the promotion has ended |
//! | Unsettled | any | waits until it is clear which revision serves |
//! | any other | the stable one | nothing is released |
//! | Returning, RollingBack, Failed | the failed one, or the same but for annotations | not tried again |
//! | any other | any other | released |
//!
//! Whatever becomes of it, it is stored paused: only the operator opens the gate, and only for what it has looked at.
//! A CanaryRollout that is being deleted releases nothing any more.

use aviary_crds::status::Phase;
use serde_json::Value;

use super::{Failed, RolloutFacts};
use crate::revision::{content, revision};

/// A pod template, as far as the gate compares templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) revision: String,
    /// The same hash without annotations.
    content: String,
}

impl Template {
    /// Of a Deployment as raw JSON; whatever has no template is a template like any other.
    pub(super) fn of(deployment: &Value) -> Template {
        let template = &deployment["spec"]["template"];
        Template {
            revision: revision(template),
            content: content(template),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    /// Released step by step.
    Released,
    /// The stable template: nothing is left to release.
    BackToStable,
    /// The stable template while its pods go away: they have to come back before they can serve again.
    LeavesPromotion,
    /// The template that is being promoted.
    GoesOn,
    /// Another template while one is being promoted.
    AfterPromotion,
    /// Nobody can say yet what is stable.
    OnceSettled,
    /// What has failed is not tried again because an annotation has changed.
    NotTriedAgain(&'a Failed),
    /// Nobody is left to release it.
    Forsaken,
}

pub(super) fn fate<'a>(facts: &'a RolloutFacts, template: &Template) -> Fate<'a> {
    let is = |revision: &Option<String>| revision.as_ref() == Some(&template.revision);
    match facts.phase {
        Some(Phase::Promoting) if is(&facts.stable) => Fate::LeavesPromotion,
        Some(Phase::Promoting) if is(&facts.canary) => Fate::GoesOn,
        Some(Phase::Promoting | Phase::Unsettled) if facts.deleting => Fate::Forsaken,
        Some(Phase::Promoting) => Fate::AfterPromotion,
        Some(Phase::Unsettled) => Fate::OnceSettled,
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
        ) => {
            if is(&facts.stable) {
                return Fate::BackToStable;
            }
            if facts.deleting {
                return Fate::Forsaken;
            }
            let again = facts.failed.as_ref().filter(|failed| {
                failed.revision == template.revision
                    || failed.content.as_ref() == Some(&template.content)
            });
            again.map_or(Fate::Released, Fate::NotTriedAgain)
        }
    }
}
