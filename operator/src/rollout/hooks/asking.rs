//! Whose turn it is, what each has said, and what that means for what is ahead. Pure; one memory for each rollout.
//!
//! ```text
//!                  agrees                         (a Gate's word holds for its interval, then it is asked again)
//!   Open ---- asked -----> Agreed
//!    ^          |  no, and tries are left: again after 1s, 2s, 4s ..
//!    |          +-----> Waits -- the time --> asked
//!    |          |  no, and none is left
//!    |          +-----> Hold: Waits; Rollback: Refused; Ignore: Ignored
//!    +-- another run, another step, another spec of the hook
//! ```

use std::collections::BTreeMap;

use aviary_crds::hook::{OnHookFailure, When};
use rollout_core::plan::Plan;
use rollout_core::time::{Span, Time};
use rollout_core::{Ahead, Hooks};

use super::call::{Call, Called, Id};
use super::message::{Message, Subject};
use super::{CallError, Hook};
use crate::reason::Reason;
use crate::rollout::events::Note;

/// The first pause between tries, and the longest; each is twice the one before.
const FIRST: i64 = 1000;
const LONGEST: i64 = 30_000;

#[derive(Clone, Debug, Default)]
pub(in crate::rollout) struct Asking {
    about: Option<About>,
    said: BTreeMap<String, Said>,
    under_way: Option<UnderWay>,
    /// The newest call.
    calls: u64,
}

/// What everybody is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct About {
    run: u64,
    ahead: Ahead,
    /// In words.
    what: String,
    next_weight: Option<u8>,
}

#[derive(Clone, Debug)]
struct UnderWay {
    id: u64,
    hook: String,
}

/// What one hook has said about it.
#[derive(Clone, Debug)]
struct Said {
    /// As it was when it was asked.
    hook: Hook,
    /// Since it was held last.
    tries: u32,
    all_tries: u32,
    /// Why it did not agree, in words.
    why: String,
    told: bool,
    word: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Open,
    Agreed { at: Time },
    Waits { again: Time },
    Refused,
    Ignored,
}

/// The hook that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rollout) struct Waits {
    pub hook: String,
    /// What it is asked, such as `weight 10%`.
    pub what: String,
    pub is_gate: bool,
    /// It was tried as often as it may be, and holds.
    pub failed: bool,
    /// Answers that did not agree.
    pub tries: u32,
    pub why: String,
    /// When it is asked again; `None`: its answer is waited for.
    pub again: Option<Time>,
}

impl Asking {
    /// What is ahead of this run, if anything is: what was said about something else is forgotten, and what hooks said that
    /// are others now.
    pub(in crate::rollout) fn follow(
        &mut self,
        hooks: &[Hook],
        run: u64,
        plan: &Plan,
        ahead: Option<Ahead>,
    ) {
        let about = ahead.map(|ahead| About::of(run, plan, ahead));
        // What was said still counts when something else is missing for a while.
        if about.is_some() && about != self.about {
            self.about = about;
            self.said.clear();
            self.under_way = None;
        }
        self.said.retain(|_, said| hooks.contains(&said.hook));
        let asked = |name: &str| hooks.iter().any(|hook| hook.name == name);
        if self.under_way.as_ref().is_some_and(|it| !asked(&it.hook)) {
            self.under_way = None;
        }
    }

    /// What it means for this run.
    pub(in crate::rollout) fn word(
        &self,
        hooks: &[Hook],
        run: u64,
        plan: &Plan,
        ahead: Option<Ahead>,
        now: Time,
    ) -> Hooks {
        let mine = self.about.as_ref().is_some_and(|about| about.run == run);
        if mine && self.said.values().any(|said| said.word == Word::Refused) {
            return Hooks::Refuse;
        }
        let Some(ahead) = ahead else {
            return Hooks::Agree;
        };
        let mut asked = hooks.iter().filter(|hook| hook.is_asked(plan, ahead));
        if asked.all(|hook| self.passed(hook, now)) {
            Hooks::Agree
        } else {
            Hooks::Hold
        }
    }

    /// Why the hook that refuses does, in words.
    pub(in crate::rollout) fn refusal(&self) -> Option<String> {
        let (name, said) = self
            .said
            .iter()
            .find(|(_, said)| said.word == Word::Refused)?;
        Some(format!("hook {name}: {}", said.why))
    }

    fn passed(&self, hook: &Hook, now: Time) -> bool {
        match self.said.get(&hook.name).map(|said| said.word) {
            Some(Word::Agreed { at }) => hook.when != When::Gate || now - at < hook.interval,
            Some(Word::Ignored) => true,
            Some(Word::Open | Word::Waits { .. } | Word::Refused) | None => false,
        }
    }

    /// The first that has not agreed, and is asked about what is ahead.
    fn turn<'a>(
        &self,
        hooks: &'a [Hook],
        plan: &Plan,
        ahead: Ahead,
        now: Time,
    ) -> Option<&'a Hook> {
        hooks
            .iter()
            .filter(|hook| hook.is_asked(plan, ahead))
            .find(|hook| !self.passed(hook, now))
    }

    /// The call that is due, if none is under way.
    pub(in crate::rollout) fn ask(
        &mut self,
        hooks: &[Hook],
        plan: &Plan,
        ahead: Ahead,
        subject: Subject,
        now: Time,
    ) -> Option<Call> {
        let hook = self.turn(hooks, plan, ahead, now)?;
        let about = self.about.as_ref().filter(|_| self.under_way.is_none())?;
        let said = self.said.entry(hook.name.clone()).or_insert(Said {
            hook: hook.clone(),
            tries: 0,
            all_tries: 0,
            why: String::new(),
            told: false,
            word: Word::Open,
        });
        match said.word {
            Word::Waits { again } if again > now => return None,
            Word::Refused => return None,
            Word::Open | Word::Waits { .. } | Word::Agreed { .. } | Word::Ignored => {}
        }
        let attempt = said.all_tries.saturating_add(1);
        self.calls += 1;
        self.under_way = Some(UnderWay {
            id: self.calls,
            hook: hook.name.clone(),
        });
        let message = Message::ask(hook, subject, ahead, about.next_weight, attempt);
        Some(Call::new(Id::Asks(self.calls), hook, message))
    }

    /// What came of a call. Gives what people are told; an answer that nobody waits for any more says nothing.
    pub(in crate::rollout) fn take(&mut self, called: &Called, now: Time) -> Option<Note> {
        let under_way = self.under_way.take_if(|it| called.id == Id::Asks(it.id))?;
        let what = self.about.as_ref().map(|about| about.what.clone())?;
        let said = self.said.get_mut(&under_way.hook)?;
        said.all_tries = said.all_tries.saturating_add(1);
        match &called.result {
            Ok(()) => {
                said.tries = 0;
                let again = matches!(said.word, Word::Agreed { .. });
                said.word = Word::Agreed { at: now };
                let name = &said.hook.name;
                (!again).then(|| {
                    Note::normal(Reason::HookAgreed, format!("hook {name} agrees to {what}"))
                })
            }
            Err(error) => said.no(error, &what, now),
        }
    }

    /// The hook that what is ahead waits for.
    pub(in crate::rollout) fn waits(
        &self,
        hooks: &[Hook],
        plan: &Plan,
        ahead: Ahead,
        now: Time,
    ) -> Option<Waits> {
        let hook = self.turn(hooks, plan, ahead, now)?;
        let said = self.said.get(&hook.name);
        let again = said.and_then(|said| match said.word {
            Word::Waits { again } => Some(again),
            Word::Open | Word::Agreed { .. } | Word::Refused | Word::Ignored => None,
        });
        Some(Waits {
            hook: hook.name.clone(),
            what: what(plan, ahead),
            is_gate: hook.when == When::Gate,
            failed: said.is_some_and(|said| said.told) && hook.when != When::Gate,
            tries: said.map_or(0, |said| said.all_tries),
            why: said.map_or_else(String::new, |said| said.why.clone()),
            again,
        })
    }

    /// When somebody is asked again.
    pub(in crate::rollout) fn next(&self) -> Option<Time> {
        let times = self.said.values().filter_map(|said| match said.word {
            Word::Waits { again } => Some(again),
            Word::Open | Word::Agreed { .. } | Word::Refused | Word::Ignored => None,
        });
        times.filter(|_| self.under_way.is_none()).min()
    }

    /// The clock was set.
    pub(in crate::rollout) fn shift(&mut self, by: Span) {
        for said in self.said.values_mut() {
            match &mut said.word {
                Word::Agreed { at } | Word::Waits { again: at } => *at = *at + by,
                Word::Open | Word::Refused | Word::Ignored => {}
            }
        }
    }
}

impl About {
    fn of(run: u64, plan: &Plan, ahead: Ahead) -> About {
        let next_weight = match ahead {
            Ahead::Step(step) => Some(plan.step(step).weight.get()),
            Ahead::Promotion => None,
        };
        About {
            run,
            ahead,
            what: what(plan, ahead),
            next_weight,
        }
    }
}

fn what(plan: &Plan, ahead: Ahead) -> String {
    match ahead {
        Ahead::Step(step) => format!("weight {}", plan.step(step).weight),
        Ahead::Promotion => "the promotion".to_owned(),
    }
}

impl Said {
    /// It did not agree, whatever the reason.
    fn no(&mut self, error: &CallError, what: &str, now: Time) -> Option<Note> {
        let Hook { name, interval, .. } = &self.hook;
        let seconds = interval.0 / 1000;
        self.why = error.to_string();
        self.tries = self.tries.saturating_add(1);
        let (tries, why) = (self.all_tries, &self.why);
        let later = Word::Waits {
            again: now + *interval,
        };
        if self.hook.when == When::Gate {
            self.word = later;
            let told = std::mem::replace(&mut self.told, true);
            return (!told).then(|| {
                let text = format!(
                    "hook {name} does not agree to {what} yet ({why}); it is asked again every {seconds}s"
                );
                Note::normal(Reason::HookWaiting, text)
            });
        }
        if self.tries <= self.hook.retries {
            self.word = Word::Waits {
                again: now + pause(self.tries),
            };
            return None;
        }
        self.tries = self.hook.retries;
        let (word, then) = match self.hook.on_failure {
            OnHookFailure::Hold => (
                later,
                format!("the weight stays, and it is asked again every {seconds}s"),
            ),
            OnHookFailure::Rollback => (
                Word::Refused,
                "its onFailure is Rollback, so the weight goes to 0".to_owned(),
            ),
            OnHookFailure::Ignore => (
                Word::Ignored,
                "its onFailure is Ignore, so the release goes on without it".to_owned(),
            ),
        };
        self.word = word;
        let told = std::mem::replace(&mut self.told, true);
        (!told).then(|| {
            let text =
                format!("hook {name} did not agree to {what} in {tries} tries ({why}): {then}");
            Note::warning(Reason::HookFailed, text)
        })
    }
}

/// After so many tries that failed.
pub(super) fn pause(tries: u32) -> Span {
    let doubled = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(10));
    Span(doubled.min(LONGEST))
}

#[cfg(test)]
mod tests;
