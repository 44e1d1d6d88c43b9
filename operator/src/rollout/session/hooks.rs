//! What hooks are asked, and what their answers mean for the next raise; and who is told how a run ended.

use rollout_core::plan::Plan;
use rollout_core::state::State;
use rollout_core::time::Time;
use rollout_core::{Ahead, Event, Hooks, Observation, ahead};

use super::{Clock, Session};
use crate::rollout::events::Note;
use crate::rollout::hooks::{Call, Called, Ended, Hook, Id, Subject, Waits};

/// What a look has shown of the hooks.
#[derive(Debug, Default)]
pub(super) struct Heeded {
    pub(super) word: Hooks,
    /// The hook that the run waits for, and nothing else.
    pub(super) waits: Option<Waits>,
    /// The call that is due.
    pub(super) call: Option<Call>,
}

impl Session {
    /// Asks whoever is to be asked next, when nothing but their word is missing.
    pub(super) fn heed(&mut self, plan: &Plan, state: &State, seen: &Observation) -> Heeded {
        let Some(run) = state.running() else {
            return Heeded::default();
        };
        let subject = self.subject(state);
        let hooks: &[Hook] = self.parsed.as_ref().map_or(&[], |parsed| &parsed.hooks);
        if hooks.is_empty() {
            return Heeded::default();
        }
        let (of, number, now) = (&run.plan, run.number, seen.now);
        let ahead: Option<Ahead> = ahead(plan, state, seen);
        self.asking.follow(hooks, number, of, ahead);
        let call = ahead
            .zip(subject)
            .and_then(|(ahead, subject)| self.asking.ask(hooks, of, ahead, subject, now));
        let word = self.asking.word(hooks, number, of, ahead, now);
        Heeded {
            word,
            waits: ahead.and_then(|ahead| self.asking.waits(hooks, of, ahead, now)),
            call,
        }
    }

    /// A run that ended is to be told of: that of the state before, since the next one may begin in the same moment.
    pub(super) fn note_result(&mut self, before: Option<&State>, events: &[Event]) {
        let about = before.and_then(|state| self.subject(state));
        let hooks: &[Hook] = self.parsed.as_ref().map_or(&[], |parsed| &parsed.hooks);
        self.telling.note(events, hooks, about);
    }

    /// What has not been told, when these events have happened, too.
    pub(super) fn untold_results(&self, before: Option<&State>, earned: &[Event]) -> Vec<Ended> {
        let hooks: &[Hook] = self.parsed.as_ref().map_or(&[], |parsed| &parsed.hooks);
        let mut telling = self.telling.clone();
        let about = before.and_then(|state| self.subject(state));
        telling.note(earned, hooks, about);
        telling.untold()
    }

    /// The next call to somebody who is told of a result.
    pub(super) fn tell_results(&mut self, now: Time) -> Option<Call> {
        let hooks: &[Hook] = self.parsed.as_ref().map_or(&[], |parsed| &parsed.hooks);
        self.telling.tell(hooks, now)
    }

    fn subject(&self, state: &State) -> Option<Subject> {
        let uid = self.rollout.metadata.uid.as_deref().unwrap_or_default();
        Subject::of(&self.key, uid, state)
    }

    /// The run that a hook has refused, if it runs.
    #[cfg(test)]
    pub(in crate::rollout) fn refused_run(&self) -> Option<u64> {
        self.asking.refusal()?;
        Some(self.state.as_ref()?.running()?.number)
    }

    /// What came of a call. Gives what is to be logged.
    pub fn called(&mut self, called: &Called, clock: Clock) -> Vec<Note> {
        self.set_clock(clock);
        let hooks: &[Hook] = self.parsed.as_ref().map_or(&[], |parsed| &parsed.hooks);
        let note = match called.id {
            Id::Asks(_) => self.asking.take(called, clock.now),
            Id::Tells(_) => self.telling.take(called, hooks, clock.now),
        };
        note.iter().for_each(|note| self.tell(note.clone()));
        note.into_iter().collect()
    }
}
