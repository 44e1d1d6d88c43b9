//! Requests of an operator on their way to the API server, and the answers on their way back: refused, lost, late, or done.

use aviary_crds::status::Machine;
use rollout_core::desired;
use rollout_core::state::Phase;
use serde_json::Value;
use traffic_core::config::Weight;

use super::agenda::{Happening, Process};
use super::mishaps::Mishap;
use super::{By, Simulation};
use crate::key::Key;
use crate::rollout::machine;
use crate::rollout::session::Session;
use crate::rollout::write::{Verb, Write, WriteError, Written};

/// A request that has no answer by then has failed.
const PATIENCE: i64 = 12_000;

impl Simulation {
    pub(super) fn write(&mut self, process: Process, rollout: &Key, write: Write) {
        let session = self.operators[process].sessions.get(rollout);
        let uid = session.and_then(Session::uid);
        let asker = (rollout.clone(), uid);
        let mut under_way = self.operators[process].requests.values();
        let is_busy = under_way.any(|(of, _)| *of == asker);
        if is_busy {
            self.check
                .violated("two writes of one rollout are under way".to_owned());
        }
        let request = self.name();
        self.say(format!(
            "operator {process} asks {request}: {}",
            in_words(&write)
        ));
        if let Verb::ReplaceStatus(object) = &write.verb {
            self.soaks_for_everybody(process, &object["status"]);
        }
        self.operators[process]
            .requests
            .insert(request, (asker, write));
        self.last_write = self.agenda.now;
        // Two that both believe to lead answer each other for a moment.
        if self.alive().len() == 1 {
            self.check.wrote();
        }
        let delay = self.chance.i64(1..60);
        self.agenda
            .put(delay, Happening::Arrives { process, request });
    }

    /// A soak is counted from when every proxy that is heard of uses its weight.
    fn soaks_for_everybody(&mut self, process: Process, status: &Value) {
        let machine = Machine::from(&status["machine"]);
        let (Ok(memory), Some(before)) = (machine::read(&machine), &self.check.state) else {
            return;
        };
        let begins = matches!(before.phase, Phase::Shifting { .. })
            && matches!(memory.state.phase, Phase::Soaking { .. });
        let Some(canary) = desired(&memory.state).canary().cloned().filter(|_| begins) else {
            return;
        };
        let weight = Weight::percent(u32::from(canary.weight.get())).ok();
        let uses = weight.map(|weight| (canary.run, weight));
        for proxy in self.proxies.iter().filter(|proxy| proxy.there) {
            let connected = proxy.link.is_some_and(|(with, _)| with == process);
            if connected && proxy.installed.is_some() && proxy.uses() != uses {
                self.check.violated(format!(
                    "the soak at {} of run {} begins while {} uses {:?}",
                    canary.weight,
                    canary.run,
                    proxy.pod,
                    proxy.uses()
                ));
            }
        }
    }

    pub(super) fn arrives(&mut self, process: Process, request: u64) {
        if let Some(write) = self.late.remove(&(process, request)) {
            let _ = self.perform(process, request, &write);
            return;
        }
        // What was sent arrives, whatever has become of the sender.
        let Some((_, write)) = self.operators[process].requests.get(&request).cloned() else {
            return;
        };
        let away = |text: &str| Err(WriteError::Unavailable(text.to_owned()));
        if self.wrong.has(Mishap::ApiAway) {
            let delay = if self.chance.bool() {
                PATIENCE
            } else {
                self.chance.i64(1..200)
            };
            self.answer_in(delay, process, request, away("no route to host"));
            return;
        }
        if self.wrong.denies(&write) {
            self.answer_in(
                5,
                process,
                request,
                Err(WriteError::Refused("a policy denies it".to_owned())),
            );
            return;
        }
        let flaky = self.wrong.has(Mishap::ApiFlaky);
        match if flaky { self.chance.u8(..12) } else { 255 } {
            0 => self.answer_in(5, process, request, Err(WriteError::Conflict)),
            1 => self.answer_in(5, process, request, away("too many requests")),
            2 => self.answer_in(5, process, request, away("etcdserver: request timed out")),
            3 | 4 => {
                // It is done, and the answer is lost.
                let _ = self.perform(process, request, &write);
                self.answer_in(PATIENCE, process, request, away("no answer in time"));
            }
            5 => {
                // It hangs, is given up, and is done all the same.
                self.answer_in(PATIENCE, process, request, away("no answer in time"));
                let delay = self.chance.i64(1_000..30_000);
                self.late.insert((process, request), write);
                self.agenda
                    .put(delay, Happening::Arrives { process, request });
            }
            6.. => {
                let written = self.perform(process, request, &write);
                let delay = self.chance.i64(1..60);
                self.answer_in(delay, process, request, written);
            }
        }
    }

    pub(super) fn perform(&mut self, process: Process, request: u64, write: &Write) -> Written {
        let written = self.api.perform(write);
        let outcome = match &written {
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        self.say(format!("{request} of operator {process}: {outcome}"));
        self.spread(By::Operator);
        written
    }

    pub(super) fn answer_in(
        &mut self,
        delay: i64,
        process: Process,
        request: u64,
        written: Written,
    ) {
        self.answers.insert((process, request), written);
        self.agenda
            .put(delay, Happening::Answers { process, request });
    }

    pub(super) fn answers(&mut self, process: Process, request: u64) {
        let now = self.agenda.now;
        let Some(written) = self.answers.remove(&(process, request)) else {
            return;
        };
        if let Err(error) = &written {
            self.say(format!("{request} of operator {process} fails: {error}"));
        }
        let operator = &mut self.operators[process];
        let Some(((rollout, uid), _)) = operator.requests.remove(&request) else {
            return;
        };
        if !operator.alive {
            return;
        }
        let clock = operator.clock(now);
        if let Some(session) = operator
            .sessions
            .get_mut(&rollout)
            .filter(|session| session.uid() == uid)
        {
            let notes = session.wrote(written, clock);
            operator.due.insert(rollout);
            self.says(process, &notes);
        }
        self.run_soon(process);
    }
}

fn in_words(write: &Write) -> String {
    let Write { kind, key, verb } = write;
    let what = match verb {
        Verb::Get => "reads".to_owned(),
        Verb::Create(_) => "creates".to_owned(),
        Verb::Patch(body) => format!("patches {body}"),
        Verb::ReplaceStatus(object) => format!(
            "status {} weight {}",
            object["status"]["phase"], object["status"]["weight"]["desired"]
        ),
        Verb::PatchStatus(_) => "patches the status of".to_owned(),
        Verb::ApplyStatus(body) => format!("applies status {}", body["status"]),
        Verb::Delete { .. } => "deletes".to_owned(),
        Verb::Tell { note, .. } => format!("tells {} {}", note.reason, note.text),
    };
    format!("{what} {kind:?} {key}")
}
