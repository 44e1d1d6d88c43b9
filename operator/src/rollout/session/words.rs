//! What people are told: each thing once, as Events when they can be written, and what stands in the way.

use aviary_crds::condition;
use aviary_crds::status::DecisionRecord;
use rollout_core::state::State;
use rollout_core::time::Time;
use rollout_core::{By, Event, Waiting, overspends, waiting};

use super::Session;
use crate::key::Key;
use crate::reason::Reason;
use crate::rollout::conditions;
use crate::rollout::decisions::{self, Known};
use crate::rollout::events::{self, Note};
use crate::rollout::guarding::Guarded;
use crate::rollout::look::Look;
use crate::rollout::obstacle;
use crate::rollout::plan::Parsed;
use crate::rollout::problems::Blocking;
use crate::rollout::request;
use crate::rollout::sentence::exposure;

/// Notes that wait for an API server that is away; beyond, the oldest are lost to Events (the log has them).
const UNTOLD: usize = 64;

impl Session {
    /// Words for what happened; they become Events when they can be written.
    /// `before` is the state in which it happened, `decided` are the records of those that are decisions.
    pub(super) fn note(
        &mut self,
        before: Option<&State>,
        happened: &[Event],
        decided: &[DecisionRecord],
    ) -> Vec<Note> {
        self.note_result(before, happened);
        let (Some(state), Some(parsed)) = (&self.state, &self.parsed) else {
            return Vec::new();
        };
        if happened
            .iter()
            .any(|event| matches!(event, Event::RunStarted { .. } | Event::Recreated))
        {
            self.verdicts.begin();
        }
        let about = self.about(state, parsed);
        let with_decision = |mut note: Note| {
            let of_it = decided.iter().find(|of| of.decision == note.reason.name());
            note.decision = of_it.cloned().map(Box::new);
            note
        };
        let notes: Vec<Note> = happened
            .iter()
            .map(|event| with_decision(events::note(event, about)))
            .collect();
        notes.iter().for_each(|note| self.tell(note.clone()));
        self.decisions.add(decided);
        notes
    }

    /// The records of what is decided in this moment.
    pub(super) fn decided(
        &self,
        events: &[Event],
        before: &State,
        after: &State,
        now: Time,
    ) -> Vec<DecisionRecord> {
        let Some(parsed) = &self.parsed else {
            return Vec::new();
        };
        let about = self.about(after, parsed);
        let known = Known {
            now,
            after,
            before,
            verdicts: &self.verdicts,
            guarded: self.guarding.guarded(),
            spending: self.exposing.spending(),
        };
        let record =
            |event| decisions::record(event, events::note(event, about).reason.name(), known);
        events.iter().filter_map(record).collect()
    }

    fn about<'a>(&'a self, state: &'a State, parsed: &'a Parsed) -> events::About<'a> {
        let run = state.run.as_ref();
        let aborted = state.failure.as_ref().and_then(|it| it.by.as_ref());
        events::About {
            plan: run.map_or(&parsed.plan, |run| &run.plan),
            target: &self.rollout.spec.target_ref.name,
            canary: run.map_or("", |run| &run.canary.revision),
            detail: aborted.map_or(self.verdicts.judged(), By::name),
            stable: self.verdicts.stable(),
            skips: run.and_then(|run| run.skips.as_ref()),
        }
    }

    pub(super) fn tell(&mut self, note: Note) {
        debug_assert!(note.reason.is_told(note.tone), "{}", note.reason);
        self.untold.push_back(note);
        while self.untold.len() > UNTOLD {
            self.untold.pop_front();
        }
    }

    pub(super) fn problem(&self, look: &Look) -> Option<Blocking> {
        if let Some(error) = &self.illegible {
            return Some(Blocking::new(
                Reason::Illegible,
                format!(
                    "this version of the operator cannot read the CanaryRollout ({error}): everything is held; upgrade the operator, or apply a spec that it knows"
                ),
            ));
        }
        if let Some(why) = &self.unreadable {
            let Key { namespace, name } = &self.key;
            return Some(Blocking::new(
                Reason::Unreadable,
                format!(
                    "{why}; everything is held. To begin afresh with what serves: kubectl -n {namespace} patch canaryrollout {name} --subresource=status --type=merge -p '{{\"status\":{{\"machine\":null}}}}'"
                ),
            ));
        }
        if let Some(invalid) = &self.invalid {
            return Some(Blocking::new(Reason::InvalidSpec, invalid.to_string()));
        }
        obstacle::of(look, self.state.as_ref()).or_else(|| {
            let problem = self.troubles.problem()?;
            Some(Blocking {
                problem,
                blocks: false,
            })
        })
    }

    pub(super) fn tell_problem(&mut self, problem: Option<&Blocking>) {
        let text = problem.map(|problem| problem.problem.message.clone());
        if text == self.told_problem {
            return;
        }
        if let Some(blocking) = problem
            && self.troubles.problem().as_ref() != Some(&blocking.problem)
        {
            let note = Note::warning(blocking.problem.reason, blocking.problem.message.clone());
            self.tell(note);
        }
        self.told_problem = text;
    }

    /// Once in a run: the condition has the newest number.
    pub(super) fn tell_outside(&mut self) {
        let running = self.state.as_ref().and_then(State::running);
        let run = running.map(|run| run.number);
        match self.verdicts.outside() {
            Some(requests) if requests > 0 && run.is_some() && run != self.told_outside => {
                self.told_outside = run;
                self.tell(Note::warning(
                    Reason::CallsFromOutside,
                    events::from_outside(requests),
                ));
            }
            Some(_) | None => {}
        }
    }

    /// Once, until nothing is lacking: the condition says how it stands.
    pub(super) fn tell_lacking(&mut self, look: &Look) {
        let reason = look
            .lacking
            .as_ref()
            .map(|lacking| lacking.reason.name().to_owned());
        if let Some(lacking) = look
            .lacking
            .as_ref()
            .filter(|_| reason != self.told_lacking)
        {
            self.tell(Note::warning(lacking.reason, lacking.message.clone()));
        }
        self.told_lacking = reason;
    }

    /// What the status says of it already.
    pub(super) fn lacking_in_status(&self) -> Option<String> {
        let status = self.rollout.status.as_ref()?;
        let reasons = conditions::reasons(status);
        let mut said = reasons
            .into_iter()
            .filter(|(type_, value, _)| *type_ == condition::MESHED && *value == "False");
        said.next().map(|(_, _, reason)| reason.to_owned())
    }

    /// Once each time.
    pub(super) fn tell_withheld(&mut self, look: &Look) {
        let state = self.state.as_ref();
        let withheld = state.and_then(|state| self.fuses.withheld(state, look.now));
        let run = state.and_then(|state| state.run.as_ref());
        if let (Some(requests), Some(run), false) = (withheld, run, self.told_withheld) {
            let text = events::withheld(requests, &run.canary.revision);
            self.tell(Note::warning(Reason::HeldBack, text));
        }
        self.told_withheld = withheld.is_some();
    }

    /// Once at each weight, as long as the release waits there.
    pub(super) fn tell_exposure(&mut self, look: &Look) {
        let Some(state) = &self.state else { return };
        let exposed = self.exposing.exposed(state);
        let doubt = self.guarding.guarded().is_some_and(Guarded::doubts);
        let waits = waiting(state, doubt, exposed, look.now) == Some(Waiting::Exposure);
        let (true, Some(over)) = (waits, overspends(state, exposed)) else {
            return;
        };
        let at = request::value_for(state);
        if at.is_some() && at != self.told_exposure {
            let text = exposure(state, over, exposed, self.exposing.spending());
            self.told_exposure = at;
            self.tell(Note::warning(Reason::HeldByErrorBudget, text));
        }
    }

    /// The run whose status says already that they do.
    pub(super) fn outside_in_status(&self) -> Option<u64> {
        let status = self.rollout.status.as_ref()?;
        let said = conditions::reasons(status)
            .iter()
            .any(|(type_, value, _)| *type_ == condition::OUTSIDE_CALLERS && *value == "True");
        let run = self.state.as_ref()?.running()?;
        said.then_some(run.number)
    }
}
