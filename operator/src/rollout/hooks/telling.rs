//! How releases ended, for the hooks that are told of it: what has not been told yet, and whose turn it is. Pure.
//!
//! It is kept in the memory of the status, so that a restarted operator tells what the one before did not get to. Nothing
//! waits for it: a hook that cannot be told in all its tries is given up, and people are told that.

use std::collections::VecDeque;

use aviary_crds::hook::When;
use rollout_core::Event;
use rollout_core::time::{Span, Time};
use serde::{Deserialize, Serialize};

use super::Hook;
use super::asking::pause;
use super::call::{Call, Called, Id};
use super::message::{Message, Outcome, Subject};
use crate::reason::Reason;
use crate::rollout::events::Note;

/// Results that wait to be told; beyond, the oldest is lost.
const KEPT: usize = 4;

/// How a release ended, and who knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    subject: Subject,
    result: Outcome,
    /// Why it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// The names of the hooks that were told, or given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<String>,
}

impl Ended {
    /// If one of these events ended a run. `about` is made of the state before, which had it.
    fn of(events: &[Event], about: Subject) -> Option<Ended> {
        let ended = |subject, result, cause| Ended {
            subject,
            result,
            cause,
            told: Vec::new(),
        };
        events.iter().find_map(|event| {
            if let Event::Promoted { .. } = event {
                Some(ended(about.clone().promoted(), Outcome::Promoted, None))
            } else if let Event::RolledBack { cause, from, .. } = event {
                let cause = Some(cause.name().to_owned());
                let subject = about.clone().rolled_back(from.get());
                Some(ended(subject, Outcome::RolledBack, cause))
            } else {
                None
            }
        })
    }

    fn message(&self, hook: &Hook, attempt: u32) -> Message {
        let result = (self.result, self.cause.clone());
        Message::tell(hook, self.subject.clone(), result, attempt)
    }

    fn words(&self) -> &'static str {
        match self.result {
            Outcome::Promoted => "the promotion",
            Outcome::RolledBack => "the rollback",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(in crate::rollout) struct Telling {
    untold: VecDeque<Ended>,
    under_way: Option<UnderWay>,
    /// Of the hook whose turn it is.
    tries: u32,
    again: Option<Time>,
    calls: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct UnderWay {
    id: u64,
    run: u64,
    hook: String,
}

impl Telling {
    /// What the operator before did not get to.
    pub(in crate::rollout) fn recall(untold: Vec<Ended>) -> Telling {
        Telling {
            untold: untold.into(),
            ..Telling::default()
        }
    }

    /// What is kept over a restart.
    pub(in crate::rollout) fn untold(&self) -> Vec<Ended> {
        self.untold.iter().cloned().collect()
    }

    /// Notes what ended, if there is anybody to tell.
    pub(in crate::rollout) fn note(
        &mut self,
        events: &[Event],
        hooks: &[Hook],
        about: Option<Subject>,
    ) {
        if !hooks.iter().any(is_told) {
            return;
        }
        self.untold
            .extend(about.and_then(|about| Ended::of(events, about)));
        let surplus = self.untold.len().saturating_sub(KEPT);
        self.untold.drain(..surplus);
    }

    /// The call that is due, if none is under way.
    pub(in crate::rollout) fn tell(&mut self, hooks: &[Hook], now: Time) -> Option<Call> {
        if self.under_way.is_some() || self.again.is_some_and(|again| again > now) {
            return None;
        }
        let (run, hook, message) = loop {
            let ended = self.untold.front()?;
            let untold = |hook: &&Hook| is_told(hook) && !ended.told.contains(&hook.name);
            if let Some(hook) = hooks.iter().find(untold) {
                let attempt = self.tries.saturating_add(1);
                break (ended.subject.run, hook, ended.message(hook, attempt));
            }
            self.untold.pop_front();
            (self.tries, self.again) = (0, None);
        };
        self.calls += 1;
        self.under_way = Some(UnderWay {
            id: self.calls,
            run,
            hook: hook.name.clone(),
        });
        Some(Call::new(Id::Tells(self.calls), hook, message))
    }

    /// What came of a call. Gives what people are told.
    pub(in crate::rollout) fn take(
        &mut self,
        called: &Called,
        hooks: &[Hook],
        now: Time,
    ) -> Option<Note> {
        let UnderWay { run, hook, .. } =
            self.under_way.take_if(|it| called.id == Id::Tells(it.id))?;
        let ended = self.untold.front_mut().filter(|it| it.subject.run == run)?;
        self.tries = self.tries.saturating_add(1);
        let retries = hooks.iter().find(|it| it.name == hook);
        let retries = retries.map_or(0, |hook| hook.retries);
        if called.result.is_err() && self.tries <= retries {
            self.again = Some(now + pause(self.tries));
            return None;
        }
        let tries = std::mem::take(&mut self.tries);
        self.again = None;
        let (run, what) = (ended.subject.run, ended.words());
        ended.told.push(hook.clone());
        let why = called.result.as_ref().err()?;
        let text = format!(
            "hook {hook} could not be told of {what} of run {run} in {tries} tries ({why}); nothing waits for it"
        );
        Some(Note::warning(Reason::HookFailed, text))
    }

    /// When somebody is tried again.
    pub(in crate::rollout) fn next(&self) -> Option<Time> {
        self.again
    }

    /// The clock was set.
    pub(in crate::rollout) fn shift(&mut self, by: Span) {
        self.again = self.again.map(|again| again + by);
    }
}

fn is_told(hook: &Hook) -> bool {
    hook.when == When::AfterResult
}

#[cfg(test)]
mod tests;
