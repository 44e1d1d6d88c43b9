//! The life of an operator process: it starts, runs when something is due, serves what it decides, and crashes at any moment.

use rollout_core::OnFailure;
use rollout_core::time::Span;
use traffic_core::config::Weight;

use super::Simulation;
use super::agenda::{Happening, Process};
use super::api::key;
use super::mishaps::Mishap;
use super::operator::Operator;
use super::proxies::Served;
use super::watch::{self, Seen, Stream};
use crate::key::Key;
use crate::rollout::events::Note;
use crate::rollout::evidence::Answer;
use crate::rollout::session::Session;

/// More steps at one moment are a loop.
const BUSY: u32 = 300;

impl Simulation {
    pub(super) fn starts(&mut self) {
        if self.wrong.has(Mishap::ApiAway) {
            self.agenda.put(1000, Happening::Starts);
            return;
        }
        let now = self.agenda.now;
        let leads = |leader: &Process| {
            self.operators[*leader].alive && self.operators[*leader].stands_until <= now
        };
        if self.leader.as_ref().is_some_and(leads) {
            return;
        }
        self.last_change = now;
        let process = self.operators.len();
        let mut operator = Operator::new(self.agenda.now);
        if let Some(leader) = self.leader {
            operator.clock = self.operators[leader].clock;
        }
        for stream in Stream::ALL {
            operator
                .watches
                .take(stream, &watch::list(&self.api, stream));
        }
        operator.wake_everything();
        self.operators.push(operator);
        self.leader = Some(process);
        self.say(format!("operator {process} starts"));
        // Every rollout says its split before anything is served.
        self.steps(process);
        self.publish(process);
        self.run_soon(process);
    }

    pub(super) fn run_soon(&mut self, process: Process) {
        let delay = self.chance.i64(0..15);
        self.run_at(process, self.agenda.now + delay);
    }

    pub(super) fn run_at(&mut self, process: Process, at: i64) {
        let operator = &mut self.operators[process];
        if operator.runs_at.is_none_or(|before| before > at) {
            operator.runs_at = Some(at);
            self.agenda
                .put(at - self.agenda.now, Happening::Runs { process });
        }
    }

    pub(super) fn runs(&mut self, process: Process) {
        let now = self.agenda.now;
        let operator = &mut self.operators[process];
        if !operator.alive || operator.runs_at != Some(now) {
            return;
        }
        operator.runs_at = None;
        if operator.stands_until > now {
            let at = operator.stands_until;
            self.run_at(process, at);
            return;
        }
        operator.wake_by_time(now);
        self.steps(process);
        let operator = &mut self.operators[process];
        if !operator.alive {
            return;
        }
        if operator.gathered.is_some_and(|at| at <= now) {
            self.publish(process);
        }
        let operator = &self.operators[process];
        let sleeps = if operator.due.is_empty() {
            operator.sleeps(now).max(1)
        } else {
            1
        };
        self.run_at(process, now + sleeps);
    }

    pub(super) fn steps(&mut self, process: Process) {
        let mut busy = 0;
        while let Some(rollout) = self.any_due(process) {
            busy += 1;
            if busy > BUSY {
                self.check.violated(format!("{BUSY} steps at one moment"));
                return;
            }
            self.step(process, &rollout);
            if !self.operators[process].alive || self.check.violation.is_some() {
                return;
            }
        }
    }

    pub(super) fn any_due(&mut self, process: Process) -> Option<Key> {
        let due = &mut self.operators[process].due;
        let place = if due.len() > 1 {
            self.chance.usize(..due.len())
        } else {
            0
        };
        let rollout = due.iter().nth(place).cloned()?;
        due.remove(&rollout);
        Some(rollout)
    }

    pub(super) fn says(&mut self, process: Process, happened: &[Note]) {
        for note in happened {
            self.say(format!("operator {process}: {} {}", note.reason, note.text));
            if note.reason == "JudgedAnew" {
                self.check.judges_anew(process);
            }
        }
    }

    pub(super) fn step(&mut self, process: Process, rollout: &Key) {
        let now = self.agenda.now;
        let operator = &self.operators[process];
        let clock = operator.clock(now);
        let session = operator.sessions.get(rollout);
        let state = session.and_then(|session| session.state_at(clock));
        self.check.answered(process, state.as_ref(), clock.now.0);
        let Some((step, other_way)) = self.operators[process].step(rollout, now) else {
            return;
        };
        self.says(process, &step.happened);
        // It may end between any two of what a step asks for.
        let ends = self.calm_since.is_none() && self.chance.u32(..4000) == 0;
        if ends {
            self.crash(process);
            return;
        }
        if other_way {
            self.publish(process);
        }
        if let Some(question) = step.question {
            let name = self.name();
            let delay = if now < self.prometheus.slow_until {
                self.chance.i64(5_000..40_000)
            } else {
                self.chance.i64(5..1500)
            };
            let operator = &mut self.operators[process];
            let asked = (rollout.clone(), question, operator.clock);
            operator.questions.insert(name, asked);
            self.agenda.put(
                delay,
                Happening::Judged {
                    process,
                    question: name,
                },
            );
        }
        if let Some(write) = step.write {
            self.write(process, rollout, write);
        }
        for call in step.calls {
            self.call(process, rollout, call);
        }
        let follows = &mut self.operators[process].follows;
        match step.follows {
            Some(subject) => follows.insert(rollout.clone(), subject),
            None => follows.remove(rollout),
        };
        let published = self.published(process);
        let session = self.operators[process].sessions.get(rollout);
        let refused = session.and_then(Session::refused_run);
        let run = session.and_then(|session| session.state()?.run.as_ref());
        // One that pauses on a failure keeps its weight, and one whose judgement is skipped.
        let run =
            run.filter(|run| run.plan.on_failure == OnFailure::Rollback && run.skips.is_none());
        if let Some(run) = run.map(|run| run.number) {
            self.check
                .too_many(process, run, self.failure_limit, published);
        }
        if let Some(run) = refused {
            self.check.refused(run, published);
        }
    }

    pub(super) fn watched(&mut self, process: Process, stream: Stream) {
        let stuck = self.wrong.has(Mishap::Stuck(stream)) || self.wrong.has(Mishap::ApiAway);
        let operator = &mut self.operators[process];
        if !operator.alive {
            return;
        }
        let stands = operator.stands_until > self.agenda.now;
        if stuck || stands {
            let delay = if stands {
                operator.stands_until - self.agenda.now
            } else {
                500
            };
            self.agenda
                .put(delay, Happening::Watched { process, stream });
            return;
        }
        let Some(seen) = operator
            .pending
            .get_mut(&stream)
            .and_then(|pending| pending.queue.pop_front())
        else {
            return;
        };
        let changes = operator.watches.take(stream, &seen);
        if let (Stream::Pods, Seen::Deleted(pod)) = (stream, &seen) {
            operator.links.of.remove(&key(pod));
        }
        let now = self.agenda.now;
        for change in changes {
            if operator.changed(&change) {
                operator.gather(now);
            }
        }
        self.run_soon(process);
    }

    pub(super) fn judged(&mut self, process: Process, question: u64) {
        let now = self.agenda.now;
        let operator = &mut self.operators[process];
        let Some((rollout, question, clock)) = operator.questions.remove(&question) else {
            return;
        };
        // A session moves a window that was asked for along with its clock.
        let moved = Span(operator.clock - clock);
        if !operator.alive {
            return;
        }
        let answer = self.prometheus.answer(&question, now);
        let Some(session) = operator.sessions.get_mut(&rollout) else {
            return;
        };
        let verdict = answer
            .outcome
            .as_ref()
            .map(|outcome| (outcome.verdict, outcome.requests));
        let canary = question.scope.canary.clone();
        let seen = Answer {
            start: answer.start + moved,
            end: answer.end + moved,
            ..answer.clone()
        };
        session.answered(answer);
        // What was asked before somebody else's word counted is nobody's answer: it is asked again.
        if session.is_answered() {
            self.check.pending.insert(process, (seen, canary));
        }
        operator.due.insert(rollout);
        self.say(format!("window of run {}: {verdict:?}", question.run));
        self.run_soon(process);
    }

    pub(super) fn published(&self, process: Process) -> Option<(u64, u32)> {
        let canary = Served::of(&self.operators[process].world)?
            .route
            .split
            .canary?;
        Some((canary.run, canary.weight.units() / (Weight::SCALE / 100)))
    }

    pub(super) fn publish(&mut self, process: Process) {
        if !self.operators[process].publish() {
            return;
        }
        let operator = &self.operators[process];
        let Some(served) = Served::of(&operator.world) else {
            return;
        };
        let copies = operator.watches.copies();
        self.check.published(process, &served, &copies);
        let split = &served.route.split;
        let canary = split.canary.as_ref().map(|canary| {
            (
                canary.arm.revision.clone(),
                canary.run,
                canary.weight.to_string(),
                served.healthy(&canary.arm.cluster).len(),
            )
        });
        self.say(format!(
            "operator {process} serves stable {} ({}), canary {canary:?}",
            split.stable.revision,
            served.healthy(&split.stable.cluster).len()
        ));
        for proxy in 0..self.proxies.len() {
            if let Some((of, link)) = self.proxies[proxy].link
                && of == process
            {
                self.send(proxy, link);
            }
        }
    }

    pub(super) fn crash(&mut self, process: Process) {
        self.say(format!("operator {process} crashes"));
        self.operators[process].alive = false;
        self.check.forget_fails(process);
        for number in 0..self.proxies.len() {
            if self.proxies[number]
                .link
                .is_some_and(|(of, _)| of == process)
            {
                self.proxies[number].link = None;
                self.proxies[number].hears = false;
                let delay = self.chance.i64(500..10_000);
                self.agenda
                    .put(delay, Happening::Connects { proxy: number });
            }
        }
        if self.leader == Some(process) {
            let delay = if self.chance.u8(..6) == 0 {
                self.chance.i64(100_000..300_000)
            } else {
                self.chance.i64(500..20_000)
            };
            self.agenda.put(delay, Happening::Starts);
        }
    }

    pub(super) fn jump(&mut self) {
        let Some(leader) = self.leader else { return };
        let by = [3_000, 20_000, 200_000, 7_200_000][self.chance.usize(..4)];
        let by = if self.chance.bool() { by } else { -by };
        self.say(format!("the clock of operator {leader} jumps by {by} ms"));
        self.operators[leader].clock += by;
        self.check.forget_fails(leader);
        self.run_soon(leader);
    }

    pub(super) fn relist(&mut self, stream: Stream) {
        for process in self.alive() {
            let seen = watch::list(&self.api, stream);
            if let Some(pending) = self.operators[process].pending.get_mut(&stream) {
                pending.queue.clear();
                pending.queue.push_back(seen);
            }
            self.agenda.put(1, Happening::Watched { process, stream });
        }
    }
}
