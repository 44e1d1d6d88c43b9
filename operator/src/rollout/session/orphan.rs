//! What is left of a CanaryRollout that does not exist any more: its copies go, and its Deployment loses our label.

use aviary_crds::{REVISION_LABEL, ROLLOUT_LABEL};
use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::Split;
use serde_json::json;

use super::leaving::{Leaving, gone_at};
use super::writes::{Purpose, what};
use super::{Session, Step};
use crate::key::Key;
use crate::reason::Reason;
use crate::rollout::effects::{self, Effect};
use crate::rollout::look::Look;
use crate::rollout::traffic::RolloutSplit;
use crate::rollout::write::{Kind, Verb, Write};

impl Session {
    /// The Deployment's own pods serve, whatever they are; copies drain and go.
    pub(super) fn orphan(&mut self, look: &Look) -> Step {
        let mut step = Step::default();
        let deployment = look.target.deployment();
        if let (Some(deployment), Some(state), false) =
            (deployment, &self.state, look.copies.is_empty())
        {
            let labels = look.copies.iter();
            let retired = labels.filter_map(|copy| copy.labels().get(REVISION_LABEL).cloned());
            let split = RolloutSplit::of(deployment, state, Split::All, retired.collect());
            step.split = Some(split);
        }
        for copy in &look.copies {
            let revision = copy.labels().get(REVISION_LABEL);
            // One whose rollout this process never knew is in no route.
            let unused = self.state.is_none()
                || (revision.is_some_and(|r| look.heard.sent.retired.contains(r))
                    && look.heard.acks.settled());
            let leaving = self.leaving.entry(copy.name_any());
            let leaving = leaving.or_insert(Leaving::since(look.now));
            let said = revision.and_then(|revision| look.heard.streams.get(revision));
            leaving.streams = leaving.streams.max(said.copied());
            if unused {
                leaving.unused.get_or_insert(look.now);
            }
        }
        step.awaits = self.awaits(look);
        self.tell_what_is_left(look);
        step.over = look.copies.is_empty()
            && deployment.is_none()
            && self.untold.is_empty()
            && self.under_way.is_none();
        if self.under_way.is_none() {
            let effects = self.left_over(look).into_iter();
            step.write = effects
                .filter_map(|effect| self.effect(effect, look.now, Purpose::Effect))
                .next()
                .or_else(|| self.next_note(look.now));
        }
        step.wake = self
            .leaving
            .values()
            .map(gone_at)
            .chain(self.troubles.next(look.now))
            .filter(|at| *at > look.now)
            .min();
        step
    }

    fn left_over(&self, look: &Look) -> Vec<Effect> {
        let drained = self.drained(look.now);
        let copies = look
            .copies
            .iter()
            .filter(|copy| drained.contains(&copy.name_any()))
            .filter_map(|copy| effects::delete(copy));
        let deployment = look.target.deployment().filter(|_| look.copies.is_empty());
        let condition = deployment.and_then(|deployment| effects::forgotten(deployment));
        // It goes before the label, by which the Deployment is found, but holds nothing if it cannot.
        let waits = condition
            .as_ref()
            .is_some_and(|it| !self.troubles.is_shown(&what(it)));
        let label = deployment.filter(|_| !waits).map(|it| release(it));
        copies.chain(condition).chain(label).collect()
    }
}

/// Takes our label off a Deployment again.
fn release(deployment: &DynamicObject) -> Effect {
    let patch = json!({"metadata": {"uid": deployment.uid(), "labels": {ROLLOUT_LABEL: null}}});
    Effect {
        reason: Reason::LabelNotRemoved,
        failing: format!(
            "the label {ROLLOUT_LABEL} of Deployment {} cannot be removed",
            deployment.name_any()
        ),
        write: Write {
            kind: Kind::Deployment,
            key: Key::of(deployment),
            verb: Verb::Patch(patch),
        },
        done: None,
    }
}
