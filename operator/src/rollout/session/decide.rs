//! What a look means for the state: what is true at once is kept, what was earned waits to be written.

use kube::ResourceExt;
use rollout_core::state::State;
use rollout_core::{Cause, Transition, advance, desired};

use super::{Purpose, Session, Step, placeholder};
use crate::rollout::guarding::Guarded;
use crate::rollout::look::{Look, More, Target};
use crate::rollout::obstacle;
use crate::rollout::plan::{self, Parsed};
use crate::rollout::verdicts::Alarmed;

impl Session {
    /// A spec that cannot be read holds what runs, on the last one that could; the ways down stay open.
    pub(super) fn read_spec(&mut self) {
        match plan::parse(&self.rollout.spec) {
            Ok(parsed) => {
                self.parsed = Some(parsed);
                self.invalid = None;
            }
            Err(invalid) => {
                self.parsed = self.parsed.take().or_else(|| self.of_its_own());
                self.invalid = Some(invalid);
            }
        }
    }

    /// The plan of the run, when the spec has none that can be read: ways down need no spec. Without a run it is the one of
    /// an empty spec: nothing begins with it, since a spec that cannot be read forbids every raise, but what serves, and who
    /// has taken over, is followed.
    fn of_its_own(&self) -> Option<Parsed> {
        let run = self.state.as_ref().and_then(|state| state.run.as_ref());
        let Some(run) = run else {
            return plan::parse(&placeholder(&self.key, "")?.spec).ok();
        };
        Some(Parsed {
            plan: run.plan.clone(),
            checks: Vec::new(),
            hooks: Vec::new(),
            guard: self.guarding.guarded().map(|it| it.guard.limits()),
            sticky: plan::sticky(&self.rollout.spec).unwrap_or_default(),
        })
    }

    pub(super) fn decide(&mut self, look: &Look, step: &mut Step) -> Option<Transition> {
        self.hook = None;
        let Target::Found {
            deployment,
            template,
        } = &look.target
        else {
            return None;
        };
        if self.state.is_none() && self.unreadable.is_none() {
            self.state = Some(State::unsettled(
                deployment.uid().unwrap_or_default(),
                template.clone(),
                deployment.metadata.generation.unwrap_or(0),
                look.now,
            ));
        }
        let state = self.state.clone()?;
        let limits = self.parsed.as_ref().and_then(|parsed| parsed.guard);
        self.guarding.follow(&state, limits);
        self.exposing.follow(&state);
        self.guarding.heard(&look.heard, look.now);
        let alarm = self.guarding.alarm(&state).zip(self.guarding.guarded());
        let alarm = alarm.map(|(alarm, guarded)| Alarmed {
            at: alarm.at,
            requests: guarded.canary.started,
            words: guarded.words() + &self.guarding.places(),
        });
        self.verdicts.alarm(alarm, desired(&state).weight());
        let more = More {
            alarm: self.guarding.alarm(&state).is_some(),
            doubt: self.guarding.guarded().is_some_and(Guarded::doubts),
            exposed: self.exposing.exposed(&state),
            window: self.evidence.window(&state),
            lapsed: self.lapsed,
            may_raise: self.may_raise(look, &state),
        };
        let mut seen = look.observation(&state, more)?;
        let parsed = self.parsed.clone()?;
        let heeded = self.heed(&parsed.plan, &state, &seen);
        seen.hooks = heeded.word;
        self.hook = heeded.waits;
        step.calls.extend(heeded.call);
        let transition = advance(&parsed.plan, &state, &seen);
        if self.under_way.as_ref().is_some_and(Purpose::is_raise)
            && !worse(&state, &transition.held)
        {
            // What was earned is being written: less counts at once, anything else when that has come to an end.
            return None;
        }
        self.lapsed = false;
        self.count(&state, &transition.held);
        self.state = Some(transition.held.clone());
        let happened = &transition.happened;
        let decided = self.decided(happened, &state, &transition.held, look.now);
        step.happened = self.note(Some(&state), happened, &decided);
        Some(transition)
    }

    /// Nothing forbids a raise.
    pub(super) fn may_raise(&self, look: &Look, state: &State) -> bool {
        !self.rollout.spec.suspend
            && !look.frozen
            && self.invalid.is_none()
            && self.illegible.is_none()
            && self.unreadable.is_none()
            && self.fuses.withheld(state, look.now).is_none()
            && !obstacle::of(look, Some(state)).is_some_and(|problem| problem.blocks)
    }

    /// A window that the machine has taken in is kept for people, and what was seen last when a run ended.
    pub(super) fn count(&mut self, before: &State, held: &State) {
        let counted = self.evidence.window(before).is_some_and(|window| {
            held.run
                .as_ref()
                .is_none_or(|run| run.judged_until >= window.end)
                || held.running().is_none()
        });
        if counted && let Some(answer) = self.evidence.settle() {
            self.verdicts.count(&answer, desired(before).weight());
        }
        if held.running().is_none() && before.running().is_some() {
            let refused = held.failure.as_ref();
            let refused = refused.is_some_and(|failure| failure.cause == Cause::HookRefused);
            if let Some(why) = self.asking.refusal().filter(|_| refused) {
                self.verdicts.refused(why);
            }
            self.verdicts.failed();
        }
    }
}

/// Less weight, another phase or run, one more failed window, or a person's pause: that counts at once, whatever is being written.
pub(super) fn worse(before: &State, after: &State) -> bool {
    let weight = |state: &State| desired(state).weight();
    let fails = |state: &State| {
        state
            .run
            .as_ref()
            .map(|run| (run.number, run.failed_in_a_row))
    };
    let on_hold = |state: &State| state.run.as_ref().is_some_and(|run| run.on_hold.is_some());
    weight(after) < weight(before)
        || std::mem::discriminant(&after.phase) != std::mem::discriminant(&before.phase)
        || after.deployment != before.deployment
        || fails(after) > fails(before)
        || (on_hold(after) && !on_hold(before))
}
