//! A clock that was set is not time that passed.

use rollout_core::time::Span;

use super::{Clock, Session};
use crate::rollout::reported::Reported;

/// A clock that differs by more from the time that passed was set.
const JUMP: Span = Span::seconds(2);

impl Session {
    /// A clock that was set is not time that passed.
    pub(super) fn set_clock(&mut self, clock: Clock) {
        if let Some(before) = self.clock {
            let jump = Span((clock.now - before.now).0 - (clock.passed.0 - before.passed.0));
            if jump.0.abs() > JUMP.0 {
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
                }
                self.shown_at = self.shown_at.map(|at| at + jump);
            }
        }
        self.clock = Some(clock);
    }
}
