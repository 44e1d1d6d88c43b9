//! The status: what is read of it, and when it is written. At once when the state or a reason changed, else at most every
//! ten seconds, and always on the version that was read. A window that passed waits for the next write: a restarted operator
//! judges it again.

use std::sync::Arc;

use aviary_crds::{CanaryRollout, CanaryRolloutStatus};
use rollout_core::plan::Percent;
use rollout_core::state::State;
use rollout_core::time::{Span, Time};
use rollout_core::{Transition, desired};
use serde_json::{Value, json};

use super::writes::{Proposal, Purpose};
use super::{Session, newer};
use crate::rollout::conditions::reasons;
use crate::rollout::evidence::Evidence;
use crate::rollout::facts::Facts;
use crate::rollout::guarding;
use crate::rollout::hooks::Telling;
use crate::rollout::look::Look;
use crate::rollout::machine::{self, Memory};
use crate::rollout::persisted::Persisted;
use crate::rollout::problems::Blocking;
use crate::rollout::render;
use crate::rollout::write::{Verb, Write};

/// What is only for display is written at most this often.
const DISPLAY: Span = Span::seconds(10);
/// While a canary has weight, the memory says at least this often that it is renewed,
const SERVED: Span = Span::seconds(30);
/// and whatever else is written says it again after this time: so a window of half a minute is one write, not two.
const RENEWED: Span = Span::seconds(15);

impl Session {
    /// Takes what the object says for the truth.
    pub(super) fn recall(&mut self) {
        match Persisted::of(&self.rollout) {
            Ok(persisted) => {
                self.state = persisted.as_ref().map(|each| each.state().clone());
                let memory = persisted.as_ref().map(Persisted::memory);
                self.guarding
                    .recall(memory.and_then(|memory| memory.guarded.clone()));
                self.exposing
                    .recall(memory.and_then(|memory| memory.spending));
                let ended = memory.map(|memory| memory.ended.clone());
                self.telling = Telling::recall(ended.unwrap_or_default());
                self.persisted = persisted;
            }
            Err(why) => self.unreadable = Some(why.to_string()),
        }
    }

    /// The object was read, by a request of ours.
    pub(super) fn read(&mut self, object: Value) {
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
        if uid != self.uid().as_deref() {
            // Ours is gone, and another one has its name: the watch will tell.
            self.gone = true;
            return;
        }
        match serde_json::from_value::<CanaryRollout>(object.clone()) {
            Ok(rollout) => {
                self.illegible = None;
                if newer(&rollout, &self.rollout) {
                    self.rollout = Arc::new(rollout);
                }
            }
            Err(_) => self.read_illegible(object),
        }
    }

    /// Of an object that this version cannot read, only what people are told is kept.
    fn read_illegible(&mut self, object: Value) {
        let error = serde_json::from_value::<CanaryRollout>(object.clone()).err();
        self.seen_illegible(&error.map_or_else(String::new, |error| error.to_string()));
        let rollout = Arc::make_mut(&mut self.rollout);
        let part = |pointer: &str| object.pointer(pointer).cloned().unwrap_or(Value::Null);
        if let Ok(metadata) = serde_json::from_value(part("/metadata")) {
            rollout.metadata = metadata;
        }
        let status = rollout.status.get_or_insert_default();
        status.conditions = serde_json::from_value(part("/status/conditions")).unwrap_or_default();
        status.message = part("/status/message").as_str().map(str::to_owned);
        status.observed_generation = part("/status/observedGeneration").as_i64();
    }

    /// Our own write has come back: it is what is persisted.
    pub(super) fn wrote_object(&mut self, object: Value) {
        let Ok(rollout) = serde_json::from_value::<CanaryRollout>(object.clone()) else {
            self.read_illegible(object);
            return;
        };
        if let Ok(Some(persisted)) = Persisted::of(&rollout) {
            self.persisted = Some(persisted);
        }
        if newer(&rollout, &self.rollout) {
            self.rollout = Arc::new(rollout);
        }
    }

    /// If somebody else wrote the state, theirs counts, and what we decided on ours is void; but a run that we took to 0
    /// stays there.
    pub(super) fn compare(&mut self) {
        let theirs = match Persisted::of(&self.rollout) {
            Ok(theirs) => theirs,
            Err(why) => {
                self.unreadable = Some(why.to_string());
                return;
            }
        };
        self.unreadable = None;
        let memory = |persisted: &Option<Persisted>| persisted.as_ref().map(|p| p.memory().clone());
        if memory(&theirs) != memory(&self.persisted) {
            let written = theirs.as_ref().map(Persisted::state);
            let ours = self
                .unanswered
                .iter()
                .position(|each| each.written.is_some() && each.written.as_ref() == written);
            if let Some(ours) = ours {
                // A write of ours whose answer was lost: what was counted since is still so.
                let proposal = self.unanswered.swap_remove(ours);
                self.persisted = theirs;
                self.earn(proposal);
                return;
            }
            if !took_down(self.state.as_ref(), theirs.as_ref().map(Persisted::state)) {
                tracing::warn!(rollout = %self.key, "the status was changed by somebody else: theirs counts");
                let memory = theirs.as_ref().map(Persisted::memory);
                self.guarding
                    .recall(memory.and_then(|memory| memory.guarded.clone()));
                self.exposing
                    .recall(memory.and_then(|memory| memory.spending));
                let theirs = theirs.as_ref().map(|theirs| theirs.state().clone());
                self.state = match &self.state {
                    Some(ours) => theirs.map(|theirs| theirs.not_begun_before(ours)),
                    None => theirs,
                };
                self.evidence = Evidence::None;
            }
            self.persisted = theirs;
        }
    }

    /// The next status, if it is to be written now.
    pub(super) fn status_write(
        &mut self,
        look: &Look,
        transition: Option<&Transition>,
        problem: Option<&Blocking>,
    ) -> Option<Write> {
        let next = transition
            .map(|transition| &transition.next)
            .or(self.state.as_ref())
            .cloned();
        let before = self.rollout.status.clone().unwrap_or_default();
        let earned = transition.map_or(&[][..], |transition| &transition.earned);
        let decided = match (&self.state, &next) {
            (Some(state), Some(next)) => self.decided(earned, state, next, look.now),
            (None | Some(_), None | Some(_)) => Vec::new(),
        };
        let decisions = self.decisions.with(&decided);
        let foresight = self.guarding.foresight();
        let mut new = render::status(
            &Facts {
                look,
                state: next.as_ref(),
                plan: self.parsed.as_ref().map(|parsed| &parsed.plan),
                verdicts: &self.verdicts,
                decisions: &decisions,
                problem: problem.map(|problem| &problem.problem),
                guarded: self.guarding.guarded(),
                foresight: foresight.as_deref(),
                spending: self.exposing.spending(),
                withheld: next
                    .as_ref()
                    .and_then(|state| self.fuses.withheld(state, look.now)),
                hook: self.hook.as_ref(),
                generation: self.rollout.metadata.generation,
            },
            &before,
        );
        // What cannot be read is not written over.
        let held = self.unreadable.is_some() || self.illegible.is_some();
        if next.is_none() && problem.is_none() {
            // Nothing is known yet, and in a moment more will be.
            return None;
        }
        let memory = next
            .as_ref()
            .filter(|_| !held)
            .map(|state| self.memory(state, transition, look.now));
        if let Some(memory) = &memory {
            new.machine = Some(machine::write(memory));
        } else if held {
            // What is not written must not look as if it had to be: it would be written again and again.
            new = CanaryRolloutStatus {
                observed_generation: new.observed_generation,
                message: new.message,
                conditions: new.conditions,
                ..before.clone()
            };
        }
        if !self.is_due(memory.as_ref(), &new, &before, look.now) {
            return None;
        }
        let verb = if held {
            Verb::PatchStatus(json!({
                "metadata": {"resourceVersion": self.rollout.metadata.resource_version},
                "status": {
                    "observedGeneration": new.observed_generation,
                    "message": new.message,
                    "conditions": new.conditions,
                },
            }))
        } else {
            let mut object = (*self.rollout).clone();
            object.metadata.managed_fields = None;
            object.status = Some(new);
            Verb::ReplaceStatus(serde_json::to_value(object).ok()?)
        };
        let purpose = Purpose::Status(Box::new(Proposal {
            basis: self.state.clone(),
            written: memory.map(|memory| memory.state),
            earned: earned.to_vec(),
            decided,
        }));
        let write = self.about_itself(verb);
        Some(self.begin(purpose, write))
    }

    fn memory(&self, state: &State, transition: Option<&Transition>, now: Time) -> Memory {
        let served_at = self
            .persisted
            .as_ref()
            .map(|persisted| persisted.memory().served_at)
            .filter(|at| now - *at < RENEWED)
            .unwrap_or(now);
        let earned = transition.map_or(&[][..], |transition| &transition.earned);
        let is_anew = guarding::begins_anew(earned);
        let guarded = self.guarding.guarded().filter(|_| !is_anew);
        // What is spent is spent, also when a person has the run judged anew.
        let spending = self.exposing.spending().copied();
        Memory {
            state: state.clone(),
            served_at,
            ended: self.untold_results(self.state.as_ref(), earned),
            guarded: guarded
                .filter(|guarded| state.running().is_some_and(|run| run.number == guarded.run))
                .cloned(),
            spending: spending.filter(|spending| {
                state
                    .running()
                    .is_some_and(|run| run.number == spending.run)
            }),
        }
    }

    fn is_due(
        &self,
        memory: Option<&Memory>,
        new: &CanaryRolloutStatus,
        before: &CanaryRolloutStatus,
        now: Time,
    ) -> bool {
        let written = self.persisted.as_ref().map(Persisted::memory);
        let changed = memory.is_some_and(|memory| {
            let serves = desired(&memory.state).weight() > Percent::ZERO;
            written.is_none_or(|written| {
                !written.state.differs_by_judged_windows(&memory.state)
                    || written.ended != memory.ended
                    || (serves && now - written.served_at >= SERVED)
            })
        });
        let said = reasons(new) != reasons(before)
            || new.observed_generation != before.observed_generation
            || new.verdict != before.verdict;
        let shown =
            render::differs(new, before) && self.shown_at.is_none_or(|at| now - at >= DISPLAY);
        changed || said || shown
    }

    /// When it is to be written again, if nothing else happens.
    pub(super) fn show_again(&self, now: Time) -> Option<Time> {
        let persisted = self.persisted.as_ref()?;
        let serves = desired(persisted.state()).weight() > Percent::ZERO;
        let renewed = serves.then_some(persisted.memory().served_at + SERVED);
        let shown = self.shown_at.map(|at| at + DISPLAY);
        let times = renewed.into_iter().chain(shown);
        times.filter(|at| *at > now).min()
    }
}

/// Whether `ours` has revoked the run that `theirs` goes on with.
fn took_down(ours: Option<&State>, theirs: Option<&State>) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return false;
    };
    let Some(run) = theirs
        .run
        .as_ref()
        .filter(|_| desired(theirs).canary().is_some())
    else {
        return false;
    };
    ours.revoked
        .iter()
        .any(|revoked| revoked.run == run.number && revoked.revision == run.canary.revision)
}

#[cfg(test)]
mod tests {
    use rollout_core::state::{Phase, Revoked};

    use super::*;
    use crate::rollout::testing;

    fn running(number: u64, revoked: &[u64]) -> State {
        let mut state = testing::state(Phase::Soaking {
            step: 0,
            since: Time(0),
        });
        let run = state.run.as_mut().unwrap();
        run.number = number;
        let revision = run.canary.revision.clone();
        state.revoked = revoked
            .iter()
            .map(|run| Revoked {
                revision: revision.clone(),
                run: *run,
            })
            .collect();
        state
    }

    #[test]
    fn a_run_that_we_took_to_0_stays_there_whoever_else_writes() {
        let ours = |revoked: &[u64]| Some(running(7, revoked));
        assert!(took_down(ours(&[7]).as_ref(), Some(&running(7, &[]))));
        assert!(
            !took_down(ours(&[7]).as_ref(), Some(&running(8, &[]))),
            "a newer run"
        );
        assert!(!took_down(ours(&[]).as_ref(), Some(&running(7, &[]))));
        assert!(!took_down(ours(&[7]).as_ref(), None));
        let mut over = running(7, &[7]);
        over.phase = Phase::Failed;
        assert!(
            !took_down(ours(&[7]).as_ref(), Some(&over)),
            "they took it down too"
        );
    }
}
