//! What the windows say: every step is earned by one that passed, and too many that failed end a run at once.

use aviary_crds::Verb;
use rollout_core::judge::Verdict;
use rollout_core::state::{Cause, Run as RunState, State};

use super::super::agenda::Process;
use super::{Check, Raised, Rise, Run};

/// No answer takes as long as this, in milliseconds; clocks jump by hours.
const CLOCK_WAS_SET: i64 = 600_000;

impl Check {
    /// Every step above one that was written is earned by a window of its soak.
    /// Or by a person, who answered at that weight, or skipped the judgement. Gives what rises.
    pub(super) fn raise(
        &mut self,
        run: &Run,
        weight: u32,
        state: Option<&RunState>,
    ) -> Option<Rise> {
        let raised = self.raised.entry(run.clone()).or_default();
        if weight <= raised.to {
            return None;
        }
        let Raised {
            to: from, passed, ..
        } = *raised;
        *raised = Raised {
            to: weight,
            since: self.now,
            passed: false,
        };
        let answered = state.and_then(|run| run.answered);
        let answered = answered.is_some_and(|at| u32::from(at.get()) == from);
        let skips = state.is_some_and(|run| run.skips.is_some());
        if from > 0 && !passed && !self.then_advances && !answered && !skips {
            self.violated(format!(
                "run {} of revision {} rose from {from} to {weight} without a passed window",
                run.1, run.0
            ));
        }
        Some(Rise {
            to: weight,
            answered,
        })
    }

    /// An answer is taken in by the step that comes now, which begins with `state`.
    pub(in super::super) fn answered(
        &mut self,
        process: Process,
        state: Option<&State>,
        clock: i64,
    ) {
        let Some((answer, canary)) = self.pending.remove(&process) else {
            return;
        };
        let Some(outcome) = &answer.outcome else {
            return;
        };
        let Some(run) = state
            .and_then(State::running)
            .filter(|run| run.number == answer.run)
        else {
            return;
        };
        // The clock was set between the question and this step: how the session moves the window is its own affair, and
        // tested there; here it may count as the pass that was needed.
        if (clock - answer.end.0).abs() > CLOCK_WAS_SET {
            if let Some(raised) = self.raised.get_mut(&(canary, answer.run)) {
                raised.passed |= outcome.verdict == Verdict::Pass;
            }
            return;
        }
        if answer.end <= run.judged_until || answer.end.0 > clock {
            return;
        }
        let fails = self
            .fails
            .entry((process, answer.run))
            .or_insert(run.failed_in_a_row);
        *fails = match outcome.verdict {
            Verdict::Pass => 0,
            Verdict::Fail => *fails + 1,
            Verdict::NoEvidence => *fails,
        };
        if outcome.verdict == Verdict::Pass
            && let Some(raised) = self.raised.get_mut(&(canary, answer.run))
            && self.now - (clock - answer.start.0) >= raised.since
        {
            raised.passed = true;
        }
    }

    /// After one failed window too many nothing is published, in this very step.
    pub(in super::super) fn too_many(
        &mut self,
        process: Process,
        run: u64,
        limit: u32,
        published: Option<(u64, u32)>,
    ) {
        let fails = self.fails.get(&(process, run)).copied().unwrap_or(0);
        if fails > limit
            && let Some((of, weight)) = published
            && of == run
            && weight > 0
        {
            self.violated(format!(
                "{fails} windows of run {run} failed in a row, and its weight is {weight}"
            ));
        }
    }

    /// A person takes the failed windows so far upon themselves, perhaps: those until a process heeds it, too.
    pub(in super::super) fn a_person_asks(&mut self, verb: Verb, revision: String) {
        self.asked.insert((verb.name(), revision));
        if matches!(verb, Verb::Promote | Verb::PromoteNow) {
            self.fails.clear();
            self.bad_since = None;
            self.judged_anew();
            self.somebody_asked = true;
        }
    }

    /// What only people do is done only when one has asked for it, and what one holds does not rise.
    pub(super) fn people_asked(&mut self, state: &State, rises: bool) {
        let Some(run) = &state.run else { return };
        let failure = state.failure.as_ref();
        let aborted = failure.filter(|failure| failure.cause == Cause::Aborted);
        let revision = &run.canary.revision;
        let done = [
            (
                Verb::Abort,
                aborted.map(|failure| &failure.template.revision),
            ),
            (Verb::Abort, run.aborted.as_ref().map(|_| revision)),
            (Verb::PromoteNow, run.skips.as_ref().map(|_| revision)),
            (Verb::Pause, run.on_hold.as_ref().map(|_| revision)),
        ];
        for (verb, of) in done {
            let asked = of.is_none_or(|of| self.asked.contains(&(verb.name(), of.clone())));
            if !asked {
                self.violated(format!("{verb} of {revision}, and nobody asked for it"));
            }
        }
        let before = self.state.as_ref().and_then(|state| state.run.as_ref());
        let was_held = before.is_some_and(|it| it.number == run.number && it.on_hold.is_some());
        if rises && was_held && run.on_hold.is_some() {
            self.violated(format!("run {} rose while a person held it", run.number));
        }
    }

    pub(in super::super) fn judges_anew(&mut self, process: Process) {
        if self.somebody_asked {
            self.forget_fails(process);
        }
    }

    /// What was counted is not what another process, or another clock, has counted.
    pub(in super::super) fn forget_fails(&mut self, process: Process) {
        self.fails.retain(|(of, _), _| *of != process);
        self.bad_since = None;
        self.judged_anew();
    }

    /// A bad version with weight that everybody could know of. `bad`: it is so now.
    pub(in super::super) fn bad(&mut self, bad: bool, most: i64, now: i64) {
        if !bad {
            self.bad_since = None;
            return;
        }
        let since = *self.bad_since.get_or_insert(now);
        if now - since > most {
            self.violated(format!(
                "a bad version has had weight for {} s, and every window said so",
                (now - since) / 1000
            ));
        }
    }
}
