//! Which request is next, and what comes of it. One at a time: the status before what it permits, telling last.

use std::collections::BTreeSet;

use aviary_crds::CanaryRollout;
use aviary_crds::status::DecisionRecord;
use rollout_core::state::State;
use rollout_core::time::Time;
use rollout_core::{Event, Transition, desired};
use serde_json::Value;

use super::{Clock, Session};
use crate::reason::Reason;
use crate::rollout::effects::{self, Effect};
use crate::rollout::events::Note;
use crate::rollout::guarding;
use crate::rollout::look::{Look, Target};
use crate::rollout::persisted::Persisted;
use crate::rollout::problems::Blocking;
use crate::rollout::write::{Kind, Verb, Write, WriteError, Written};

/// Why a request is under way.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Our version of the object is old.
    Read,
    Finalizer(Asked),
    Status(Box<Proposal>),
    Effect(Asked),
    Tell,
}

/// What a status write is to make true.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    /// The state that counted when it was sent, and the one that counts once it is written. `None`: the state is not
    /// ours to write.
    pub(super) basis: Option<State>,
    pub(super) written: Option<State>,
    pub(super) earned: Vec<Event>,
    /// The records of what was earned.
    pub(super) decided: Vec<DecisionRecord>,
}

/// What is said of a request when it is done or failed.
#[derive(Debug)]
pub(super) struct Asked {
    what: String,
    /// It changes nothing.
    reads: bool,
    reason: Reason,
    failing: String,
    done: Option<Note>,
}

impl From<Effect> for Asked {
    fn from(effect: Effect) -> Asked {
        Asked {
            what: what(&effect),
            reads: matches!(effect.write.verb, Verb::Get),
            reason: effect.reason,
            failing: effect.failing,
            done: effect.done,
        }
    }
}

impl Purpose {
    /// A state is being written that is more than the one that counts.
    pub(super) fn is_raise(&self) -> bool {
        match self {
            Purpose::Status(proposal) => {
                proposal.written.is_some() && proposal.basis != proposal.written
            }
            Purpose::Read | Purpose::Finalizer(_) | Purpose::Effect(_) | Purpose::Tell => false,
        }
    }

    pub(super) fn is_status(&self) -> bool {
        match self {
            Purpose::Status(_) => true,
            Purpose::Read | Purpose::Finalizer(_) | Purpose::Effect(_) | Purpose::Tell => false,
        }
    }
}

/// Status writes without an answer that are remembered.
const UNANSWERED: usize = 8;
const STATUS: &str = "status";
const READ: &str = "read";
const TELL: &str = "tell";

impl Session {
    pub(super) fn next_write(
        &mut self,
        look: &Look,
        transition: Option<&Transition>,
        problem: Option<&Blocking>,
    ) -> Option<Write> {
        if self.under_way.is_some() {
            return None;
        }
        let now = look.now;
        if self.stale {
            let read = self.about_itself(Verb::Get);
            return self
                .troubles
                .may_try(READ, now)
                .then(|| self.begin(Purpose::Read, read));
        }
        let tidy = self.tidy(look, transition);
        if !tidy
            && !look.deleted
            && let Some(effect) = effects::finalizer(look, true)
        {
            // Without it nothing begins that would have to be tidied up.
            return self.effect(effect, now, Purpose::Finalizer);
        }
        let effects = self.missing(look);
        if self.troubles.may_try(STATUS, now)
            && let Some(write) = self.status_write(look, transition, problem)
        {
            return Some(write);
        }
        let effect = effects
            .into_iter()
            .find(|effect| self.troubles.may_try(&what(effect), now));
        if let Some(effect) = effect {
            return self.effect(effect, now, Purpose::Effect);
        }
        if tidy {
            self.tell_what_is_left(look);
            // What is to be said is said before the object is gone.
            if (self.untold.is_empty() || !look.deleted)
                && let Some(effect) = effects::finalizer(look, false)
                && let Some(write) = self.effect(effect, now, Purpose::Finalizer)
            {
                return Some(write);
            }
        }
        self.next_note(now)
    }

    /// Nothing of ours is in the cluster, and nothing is about to be.
    fn tidy(&self, look: &Look, transition: Option<&Transition>) -> bool {
        let next = transition.map(|transition| &transition.next);
        let rests = next
            .into_iter()
            .chain(&self.state)
            .all(|state| effects::at_rest(state, look));
        // Without a Deployment there is nothing to wait for: its copies go with it.
        let nothing = look.target.deployment().is_none() && look.copies.is_empty();
        rests || (look.deleted && nothing)
    }

    /// The effects of what is persisted, as long as that is what is decided.
    fn missing(&mut self, look: &Look) -> Vec<Effect> {
        let mut effects = match &look.target {
            // A deleted rollout whose copies are still there needs its Deployment again: without it nothing drains.
            Target::Unknown { .. }
                if self.illegible.is_none() && (!look.deleted || !look.copies.is_empty()) =>
            {
                vec![effects::adopt(look)]
            }
            Target::Unknown { .. } | Target::Taken { .. } => Vec::new(),
            Target::Found { .. } => match (&self.state, &self.persisted) {
                _ if self.unreadable.is_some() || self.illegible.is_some() => Vec::new(),
                (Some(state), Some(persisted)) if desired(state) == desired(persisted.state()) => {
                    let drained = self.drained(look.now);
                    effects::effects(persisted, look, &drained, self.fetched.as_ref())
                }
                (None | Some(_), None | Some(_)) => Vec::new(),
            },
        };
        let held = self.unreadable.is_some() || self.illegible.is_some();
        let known = self.persisted.as_ref().filter(|_| !held);
        if held || known.is_some() {
            effects.extend(effects::told(look, known.map(Persisted::state)));
        }
        let mut asked: BTreeSet<String> = [STATUS, READ, TELL].map(str::to_owned).into();
        asked.extend(effects.iter().map(what));
        for wanted in [true, false] {
            asked.extend(effects::finalizer(look, wanted).iter().map(what));
        }
        self.troubles.only(&asked, look.now);
        if let Target::Unknown { seen: false } = look.target {
            // One that does not exist is asked for once: its watch tells when it does.
            effects.retain(|effect| !self.troubles.is_missing(&what(effect)));
        }
        effects
    }

    /// The deleted rollout leaves a paused Deployment behind.
    pub(super) fn tell_what_is_left(&mut self, look: &Look) {
        let (Some(state), Some(deployment)) = (&self.state, look.target.deployment()) else {
            return;
        };
        let paused = crate::rollout::deployment::paused(deployment);
        let goes = look.deleted || self.gone;
        if !goes || self.left_told || !paused || state.target == state.stable {
            return;
        }
        self.left_told = true;
        let name = &look.rollout.spec.target_ref.name;
        let text = format!(
            "Deployment {name} stays paused: it asks for revision {}, which was not released; put the stable template back and resume it, or resume it to roll the new one out to everyone (kubectl rollout resume deployment/{name})",
            state.target.revision
        );
        self.tell(Note::warning(Reason::DeploymentLeftPaused, text));
    }

    pub(super) fn next_note(&mut self, now: Time) -> Option<Write> {
        if !self.troubles.may_try(TELL, now) {
            return None;
        }
        let tell = Verb::Tell {
            about: Box::new(reference(&self.rollout)),
            note: self.untold.front()?.clone(),
        };
        let write = self.about_itself(tell);
        Some(self.begin(Purpose::Tell, write))
    }

    pub(super) fn begin(&mut self, purpose: Purpose, write: Write) -> Write {
        self.under_way = Some(purpose);
        write
    }

    pub(super) fn effect(
        &mut self,
        effect: Effect,
        now: Time,
        purpose: impl Fn(Asked) -> Purpose,
    ) -> Option<Write> {
        let write = effect.write.clone();
        let asked = Asked::from(effect);
        if !self.troubles.may_try(&asked.what, now) {
            return None;
        }
        Some(self.begin(purpose(asked), write))
    }

    pub(super) fn about_itself(&self, verb: Verb) -> Write {
        Write {
            kind: Kind::CanaryRollout,
            key: self.key.clone(),
            verb,
        }
    }

    /// What came of the request that was under way. Gives what is to be logged.
    pub fn wrote(&mut self, written: Written, clock: Clock) -> Vec<Note> {
        // Before anything is counted from now: what is noted on the new clock is not shifted to it again.
        self.set_clock(clock);
        let now = clock.now;
        let Some(purpose) = self.under_way.take() else {
            return Vec::new();
        };
        let notes = match purpose {
            Purpose::Read => self.has_read(written, now),
            Purpose::Status(proposal) => self.wrote_status(written, *proposal, now),
            Purpose::Finalizer(asked) => self.wrote_finalizer(written, &asked, now),
            Purpose::Effect(asked) => self.did(written, asked, now),
            Purpose::Tell => {
                self.told(written, now);
                Vec::new()
            }
        };
        if !self.stale && !self.gone {
            self.compare();
        }
        notes
    }

    fn has_read(&mut self, written: Written, now: Time) -> Vec<Note> {
        match written {
            Ok(Some(object)) => {
                self.troubles.over(READ);
                self.stale = false;
                self.read(object);
                Vec::new()
            }
            Ok(None) => Vec::new(),
            Err(WriteError::Gone) => {
                self.seen_gone();
                Vec::new()
            }
            Err(error) => self.trouble(
                READ,
                Reason::NotRead,
                "the CanaryRollout cannot be read",
                &error,
                now,
            ),
        }
    }

    fn wrote_status(&mut self, written: Written, proposal: Proposal, now: Time) -> Vec<Note> {
        match written {
            Ok(Some(object)) => {
                self.troubles.over(STATUS);
                self.shown_at = Some(now);
                // What was sent before on an older version can do nothing any more.
                self.unanswered.clear();
                self.wrote_object(object);
                self.earn(proposal)
            }
            Ok(None) => Vec::new(),
            Err(WriteError::Gone) => {
                self.seen_gone();
                Vec::new()
            }
            Err(WriteError::Conflict) => {
                self.stale = true;
                Vec::new()
            }
            Err(error) => {
                // It may have happened: what there is is read before anything else is written.
                self.stale = matches!(error, WriteError::Unavailable(_));
                if self.stale && self.unanswered.len() < UNANSWERED {
                    self.unanswered.push(proposal);
                }
                let failing = "the status of the CanaryRollout cannot be written, so nothing is raised (lowering needs no status)";
                self.trouble(STATUS, Reason::StatusNotWritten, failing, &error, now)
            }
        }
    }

    /// What was earned counts, unless something worse has happened meanwhile.
    pub(super) fn earn(&mut self, proposal: Proposal) -> Vec<Note> {
        if self.state != proposal.basis || proposal.written.is_none() {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.state, proposal.written);
        if guarding::begins_anew(&proposal.earned) {
            self.guarding.begin_anew();
        }
        self.note(before.as_ref(), &proposal.earned, &proposal.decided)
    }

    fn wrote_finalizer(&mut self, written: Written, asked: &Asked, now: Time) -> Vec<Note> {
        match written {
            Ok(object) => {
                self.troubles.over(&asked.what);
                if let Some(object) = object {
                    self.read(object);
                }
                Vec::new()
            }
            Err(WriteError::Gone) => {
                self.seen_gone();
                Vec::new()
            }
            Err(WriteError::Conflict) => {
                self.stale = true;
                Vec::new()
            }
            Err(error) => {
                self.stale = matches!(error, WriteError::Unavailable(_));
                self.trouble(&asked.what, asked.reason, &asked.failing, &error, now)
            }
        }
    }

    fn did(&mut self, written: Written, asked: Asked, now: Time) -> Vec<Note> {
        match written {
            Ok(object) => {
                // What was read is written next, under the same name: if that fails, the pause before the next try is the
                // pause before the next read too.
                self.fetched = object.filter(|_| asked.reads).and_then(replica_set);
                if !asked.reads {
                    self.troubles.done(&asked.what, now);
                }
                if let Some(note) = &asked.done {
                    self.tell(note.clone());
                }
                asked.done.into_iter().collect()
            }
            Err(error) => self.trouble(&asked.what, asked.reason, &asked.failing, &error, now),
        }
    }

    fn told(&mut self, written: Written, now: Time) {
        match written {
            Ok(_) => {
                self.troubles.over(TELL);
                self.untold.pop_front();
            }
            // It will never be taken: the log has it.
            Err(WriteError::Refused(_) | WriteError::Gone | WriteError::Exists) => {
                self.untold.pop_front();
            }
            Err(error @ (WriteError::Conflict | WriteError::Unavailable(_))) => {
                let failing = "an Event cannot be written";
                // An Event about Events that cannot be written would help nobody.
                self.troubles
                    .failed(TELL, Reason::EventNotWritten, failing, &error, now);
            }
        }
    }

    fn trouble(
        &mut self,
        what: &str,
        reason: Reason,
        failing: &str,
        error: &WriteError,
        now: Time,
    ) -> Vec<Note> {
        let note = self.troubles.failed(what, reason, failing, error, now);
        if let Some(note) = &note {
            self.tell(note.clone());
        }
        note.into_iter().collect()
    }
}

/// Names a request for its troubles.
pub(super) fn what(effect: &Effect) -> String {
    format!("{} {}", effect.reason, effect.write.key)
}

/// A ReplicaSet that was read for its template.
fn replica_set(object: Value) -> Option<effects::Fetched> {
    let name = object.pointer("/metadata/name")?.as_str()?.to_owned();
    let is_one = object.get("kind")?.as_str()? == "ReplicaSet";
    is_one.then_some((name, object))
}

/// How an Event names the object that it is about.
fn reference(rollout: &CanaryRollout) -> Value {
    use kube::Resource;
    serde_json::to_value(rollout.object_ref(&())).unwrap_or(Value::Null)
}
