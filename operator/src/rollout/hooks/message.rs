//! What is sent: one JSON object. Fields are added, and never change their meaning.

use aviary_crds::status::Phase;
use rollout_core::state::State;
use rollout_core::{Ahead, desired};
use serde::{Deserialize, Serialize};

use super::Hook;
use crate::key::Key;
use crate::rollout::shown;

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Promoted,
    RolledBack,
}

/// The body of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    hook: String,
    when: &'static str,
    #[serde(flatten)]
    subject: Subject,
    /// The weight that is asked for, in percent; absent before a promotion.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_weight: Option<u8>,
    /// How it ended, for those who are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Outcome>,
    /// Why it was rolled back, as the status names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// The same in every call about the same thing: whoever has done it already does not do it again.
    key: String,
    /// From 1 on; it begins anew with the operator.
    attempt: u32,
}

/// The release that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    namespace: String,
    name: String,
    /// Of the CanaryRollout.
    uid: String,
    /// Higher than that of every run before.
    pub(super) run: u64,
    /// Revisions: hashes of pod templates.
    canary: String,
    stable: String,
    phase: String,
    /// From 1 on; absent where no step is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    steps: usize,
    /// The canary's weight now, or before it ended, in percent.
    weight: u8,
}

impl Subject {
    /// `None`: nothing was ever released.
    pub(in crate::rollout) fn of(key: &Key, uid: &str, state: &State) -> Option<Subject> {
        let run = state.run.as_ref()?;
        Some(Subject {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: uid.to_owned(),
            run: run.number,
            canary: run.canary.revision.clone(),
            stable: state.stable.revision.clone(),
            phase: shown::name(&state.phase).to_owned(),
            step: state.phase.step().map(|step| step + 1),
            steps: run.plan.steps().len(),
            weight: desired(state).weight().get(),
        })
    }
}

impl Subject {
    /// The same once it is promoted.
    pub(super) fn promoted(self) -> Subject {
        Subject {
            stable: self.canary.clone(),
            phase: Phase::Stable.name().to_owned(),
            step: None,
            weight: 100,
            ..self
        }
    }

    /// The same once it is rolled back, from this weight.
    pub(super) fn rolled_back(self, weight: u8) -> Subject {
        Subject {
            phase: Phase::RollingBack.name().to_owned(),
            step: None,
            weight,
            ..self
        }
    }
}

impl Message {
    pub(super) fn ask(
        hook: &Hook,
        subject: Subject,
        about: Ahead,
        next_weight: Option<u8>,
        attempt: u32,
    ) -> Message {
        let what = match about {
            Ahead::Step(step) => format!("step-{}", step + 1),
            Ahead::Promotion => "promotion".to_owned(),
        };
        Message {
            hook: hook.name.clone(),
            when: hook.when.name(),
            key: format!("{}/{}/{what}/{}", subject.uid, subject.run, hook.name),
            subject,
            next_weight,
            result: None,
            cause: None,
            attempt,
        }
    }

    pub(super) fn tell(
        hook: &Hook,
        subject: Subject,
        (result, cause): (Outcome, Option<String>),
        attempt: u32,
    ) -> Message {
        Message {
            hook: hook.name.clone(),
            when: hook.when.name(),
            key: format!("{}/{}/result/{}", subject.uid, subject.run, hook.name),
            subject,
            next_weight: None,
            result: Some(result),
            cause,
            attempt,
        }
    }

    /// For the header Idempotency-Key.
    pub fn key(&self) -> &str {
        &self.key
    }
}
