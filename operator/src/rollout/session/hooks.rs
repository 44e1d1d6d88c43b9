//! What hooks are asked, and what their answers mean for the next raise.

use rollout_core::plan::Plan;
use rollout_core::state::State;
use rollout_core::{Ahead, Hooks, Observation, ahead};

use super::{Clock, Session};
use crate::rollout::events::Note;
use crate::rollout::hooks::{Call, Called, Hook, Subject, Waits};

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
        let hooks: &[Hook] = self.parsed.as_ref().map_or(&[], |parsed| &parsed.hooks);
        if hooks.is_empty() {
            return Heeded::default();
        }
        let (of, number, now) = (&run.plan, run.number, seen.now);
        let ahead: Option<Ahead> = ahead(plan, state, seen);
        self.asking.follow(hooks, number, of, ahead);
        let uid = self.rollout.metadata.uid.as_deref().unwrap_or_default();
        let subject = Subject::of(&self.key, uid, state);
        let call = ahead
            .zip(subject)
            .and_then(|(ahead, subject)| self.asking.ask(hooks, of, ahead, subject, now));
        let word = self.asking.word(hooks, number, of, ahead, now);
        if let (Hooks::Refuse, Some(why)) = (word, self.asking.refusal()) {
            self.verdicts.refused(why);
        }
        Heeded {
            word,
            waits: ahead.and_then(|ahead| self.asking.waits(hooks, of, ahead, now)),
            call,
        }
    }

    /// What came of a call. Gives what is to be logged.
    pub fn called(&mut self, called: &Called, clock: Clock) -> Vec<Note> {
        self.set_clock(clock);
        let note = self.asking.take(called, clock.now);
        note.iter().for_each(|note| self.tell(note.clone()));
        note.into_iter().collect()
    }
}
