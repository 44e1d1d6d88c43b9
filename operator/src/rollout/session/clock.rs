//! A clock that was set is not time that passed.

#[cfg(test)]
use rollout_core::state::State;
use rollout_core::time::Span;

use super::{Clock, Session};
use crate::rollout::reported::Reported;

/// A clock that differs by more from the time that passed was set.
const JUMP: Span = Span::seconds(2);

impl Session {
    /// By how much the clock was set since the last step; `None`: it was not.
    fn jump(&self, clock: Clock) -> Option<Span> {
        let before = self.clock?;
        let jump = Span((clock.now - before.now).0 - (clock.passed.0 - before.passed.0));
        (jump.0.abs() > JUMP.0).then_some(jump)
    }

    /// What a step at this moment begins with.
    #[cfg(test)]
    pub(in crate::rollout) fn state_at(&self, clock: Clock) -> Option<State> {
        let state = self.state.clone()?;
        Some(match self.jump(clock) {
            Some(jump) => state.shifted(jump),
            None => state,
        })
    }

    /// A clock that was set is not time that passed.
    pub(super) fn set_clock(&mut self, clock: Clock) {
        if let Some(jump) = self.jump(clock) {
            tracing::warn!(rollout = %self.key, milliseconds = jump.0, "the clock was set; nothing is counted from it");
            self.state = self.state.take().map(|state| state.shifted(jump));
            self.evidence.shift(jump);
            self.guarding.forget_weights();
            self.reported = Reported::default();
            self.troubles.shift(jump);
            self.carried.shift(jump);
            self.asking.shift(jump);
            self.telling.shift(jump);
            for leaving in self.leaving.values_mut() {
                leaving.since = leaving.since + jump;
                leaving.unused = leaving.unused.map(|at| at + jump);
                leaving.streams = leaving.streams.map(|at| at + jump);
            }
            self.shown_at = self.shown_at.map(|at| at + jump);
        }
        self.clock = Some(clock);
    }
}
