//! Whoever is asked about a release, and told of it: agrees, refuses, takes its time, or is away.

use std::time::Duration;

use super::Simulation;
use super::agenda::{Happening, Process};
use crate::key::Key;
use crate::rollout::hooks::{Call, CallError, Called};

/// The receiver behind all hooks.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// It refuses everything until then.
    pub(super) refuses_until: i64,
    /// It answers nothing until then.
    pub(super) hangs_until: i64,
}

impl Simulation {
    pub(super) fn call(&mut self, process: Process, rollout: &Key, call: Call) {
        let name = self.name();
        let message = serde_json::to_value(&call.message).unwrap_or_default();
        self.check.calls(process, call.message.key(), &message);
        let hangs = self.agenda.now < self.receiver.hangs_until;
        let delay = if hangs {
            i64::try_from(call.timeout.as_millis()).unwrap_or(i64::MAX)
        } else {
            self.odds.i64(5..1500)
        };
        let operator = &mut self.operators[process];
        operator.calls.insert(name, (rollout.clone(), call));
        let called = Happening::Called {
            process,
            call: name,
        };
        self.agenda.put(delay, called);
    }

    /// What came of a call reaches an operator.
    pub(super) fn called(&mut self, process: Process, name: u64) {
        let now = self.agenda.now;
        let operator = &mut self.operators[process];
        let stands = operator.stands_until - now;
        if operator.alive && stands > 0 {
            let call = name;
            self.agenda.put(stands, Happening::Called { process, call });
            return;
        }
        let Some((rollout, call)) = operator.calls.remove(&name) else {
            return;
        };
        if !operator.alive {
            return;
        }
        let message = serde_json::to_value(&call.message).unwrap_or_default();
        let result = self.word(message["when"] == "Gate", call.timeout);
        let key = call.message.key();
        self.say(format!(
            "{key} of operator {process}: {}",
            result
                .as_ref()
                .map_or_else(ToString::to_string, |()| "yes".to_owned())
        ));
        let operator = &mut self.operators[process];
        let clock = operator.clock(now);
        let Some(session) = operator.sessions.get_mut(&rollout) else {
            return;
        };
        self.check.hook_said(process, &message, result.is_ok());
        let notes = session.called(
            &Called {
                id: call.id,
                result,
            },
            clock,
        );
        operator.due.insert(rollout);
        self.says(process, &notes);
        self.run_soon(process);
    }

    /// Once the world is calm, it agrees to everything.
    fn word(&mut self, is_gate: bool, timeout: Duration) -> Result<(), CallError> {
        let now = self.agenda.now;
        if now < self.receiver.hangs_until {
            return Err(CallError::TooLate(timeout));
        }
        if now < self.receiver.refuses_until {
            return Err(CallError::Status(503));
        }
        let one_of = if is_gate { 2 } else { 8 };
        if self.calm_since.is_none() && self.odds.u8(..one_of) == 0 {
            return Err(CallError::Status(409));
        }
        if self.calm_since.is_none() && self.odds.u8(..50) == 0 {
            return Err(CallError::Ended);
        }
        Ok(())
    }
}
