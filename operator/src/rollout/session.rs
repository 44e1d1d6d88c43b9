//! The memory of one rollout, and one step of its life. No I/O: a step is given what is seen, and gives back what is to be
//! sent, asked and written; what comes of that is told to it later. So every history can be played again.
//!
//! ```text
//!   look (pure) -> advance (pure) -> what is true at once is kept, lowered at once
//!                                 -> what was earned is written; only a written status raises
//!                                 -> effects of what is written, one request at a time, telling last
//! ```
//!
//! The state here is the truth while this process leads; the status is how another one finds it again. They differ only while
//! a write is under way or cannot be done: then a weight that went down stays down, and none rises.

mod orphan;
mod status;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use aviary_crds::{CanaryRollout, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use rollout_core::state::{Phase, State};
use rollout_core::time::{Span, Time};
use rollout_core::{Desired, Event, Split, Transition, advance, desired};
use traffic_core::lease::LEASE;

use super::conditions;
use super::effects::{self, Fetched};
use super::events::{self, Note};
use super::evidence::{Answer, Evidence, Question};
use super::heard::Heard;
use super::look::{Look, More, Target, look};
use super::obstacle;
use super::persisted::{Persisted, permitted};
use super::plan::{self, Parsed};
use super::problems::Blocking;
use super::traffic::RolloutSplit;
use super::trouble::Troubles;
use super::verdicts::Verdicts;
use super::views::Views;
use super::write::Write;
use crate::admission::rollout::PrometheusPolicy;
use crate::key::Key;

use writes::{Proposal, Purpose};

/// How long a copy that no proxy knows any more may finish what it has.
const DRAIN: Span = Span::seconds(5);
/// A clock that differs by more from the time that passed was set.
const JUMP: Span = Span::seconds(2);
/// Notes that wait for an API server that is away; beyond, the oldest are lost to Events (the log has them).
const UNTOLD: usize = 64;

/// What a step works with.
#[derive(Clone, Copy)]
pub struct World<'a> {
    pub views: &'a Views,
    pub policy: &'a PrometheusPolicy,
}

/// The time of day, and the time that passed since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    pub now: Time,
    pub passed: Span,
}

/// What a step asks of the world.
#[derive(Debug, Default)]
pub struct Step {
    /// How the traffic is to go; `None`: nothing of this rollout is known, so nothing is said.
    pub split: Option<RolloutSplit>,
    pub question: Option<Question>,
    /// At most one is under way; its answer comes back through [`Session::wrote`].
    pub write: Option<Write>,
    /// For the log, at once.
    pub happened: Vec<Note>,
    pub wake: Option<Time>,
    /// Nothing of it is left.
    pub over: bool,
}

pub struct Session {
    key: Key,
    /// The newest version of it that is known.
    rollout: Arc<CanaryRollout>,
    /// It does not exist any more.
    gone: bool,
    /// This version cannot read the newest one; its error.
    illegible: Option<String>,
    /// The last spec that could be read.
    parsed: Option<Parsed>,
    state: Option<State>,
    persisted: Option<Persisted>,
    /// Why `status.machine` cannot be read.
    unreadable: Option<String>,
    /// The weight lease lapsed before this process took over.
    lapsed: bool,
    evidence: Evidence,
    verdicts: Verdicts,
    under_way: Option<Purpose>,
    /// Status writes of ours of which nobody knows whether they were done.
    unanswered: Vec<Proposal>,
    /// Our version of the object is old: it is read anew before anything is written.
    stale: bool,
    untold: VecDeque<Note>,
    troubles: Troubles,
    leaving: BTreeMap<String, Leaving>,
    fetched: Option<Fetched>,
    told_problem: Option<String>,
    /// The run of which people know that callers outside the mesh call it.
    told_outside: Option<u64>,
    left_told: bool,
    shown_at: Option<Time>,
    clock: Option<Clock>,
}

/// A copy on its way out.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    since: Time,
    /// Since when no proxy knows it.
    unused: Option<Time>,
}

impl Session {
    /// Begins with what the API server has of it.
    pub fn new(rollout: Arc<CanaryRollout>, now: Time) -> Session {
        let mut session = Session {
            key: Key::of(&*rollout),
            verdicts: Verdicts::of(rollout.status.as_ref()),
            rollout,
            gone: false,
            illegible: None,
            parsed: None,
            state: None,
            persisted: None,
            unreadable: None,
            lapsed: false,
            evidence: Evidence::None,
            under_way: None,
            unanswered: Vec::new(),
            stale: false,
            untold: VecDeque::new(),
            troubles: Troubles::default(),
            leaving: BTreeMap::new(),
            fetched: None,
            told_problem: None,
            told_outside: None,
            left_told: false,
            shown_at: None,
            clock: None,
        };
        session.recall();
        session.told_outside = session.outside_in_status();
        if let Some(persisted) = &session.persisted {
            let lease = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
            session.lapsed = (now - persisted.memory().served_at).0 > lease;
        }
        session
    }

    /// What is left of one that was gone before this process started: copies, or our label on this Deployment.
    pub fn left_behind(key: &Key, deployment: &str, now: Time) -> Option<Session> {
        let rollout = placeholder(key, deployment)?;
        let mut session = Session::new(Arc::new(rollout), now);
        session.seen_gone();
        Some(session)
    }

    /// One that this version cannot read, and never could: people are told.
    pub fn illegible(metadata: &ObjectMeta, error: &str, now: Time) -> Option<Session> {
        let key = Key::new(metadata.namespace.clone()?, metadata.name.clone()?);
        let mut rollout = placeholder(&key, "")?;
        rollout.metadata = metadata.clone();
        let mut session = Session::new(Arc::new(rollout), now);
        session.seen_illegible(error);
        Some(session)
    }

    pub fn uid(&self) -> Option<String> {
        self.rollout.uid()
    }

    /// Whether it waits for proxies: somebody has a canary's weight, had it, or is about to get it.
    pub fn waits(&self) -> bool {
        let rests = self.state.as_ref().is_none_or(|state| match state.phase {
            Phase::Unsettled { .. } | Phase::Stable | Phase::Failed => true,
            Phase::Scaling { .. }
            | Phase::Shifting { .. }
            | Phase::Soaking { .. }
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::RollingBack { .. } => false,
        });
        !rests || !self.leaving.is_empty() || self.gone
    }

    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// What is persisted, as far as this process knows.
    pub fn persisted(&self) -> Option<&Persisted> {
        self.persisted.as_ref()
    }

    /// The watch has a version of it.
    pub fn seen(&mut self, rollout: &Arc<CanaryRollout>) {
        if newer(rollout, &self.rollout) {
            // A view that is behind does not bring back what the API server says is gone, or cannot be read.
            self.gone = false;
            self.illegible = None;
            self.rollout = Arc::clone(rollout);
            self.stale = false;
            // What a write of ours has done is compared when its answer is here.
            if !self.under_way.as_ref().is_some_and(Purpose::is_status) {
                self.compare();
            }
        }
    }

    /// The watch has a version that this operator cannot read: all is held, on the last one that it could.
    pub fn seen_illegible(&mut self, error: &str) {
        self.illegible = Some(crate::text::cut(error.to_owned(), 300));
    }

    /// The watch says that it does not exist any more.
    pub fn seen_gone(&mut self) {
        self.gone = true;
    }

    pub fn answered(&mut self, answer: Answer) {
        self.evidence.take(answer);
    }

    /// How the traffic is to go by what is persisted, before anything is decided: what proxies had from the operator before
    /// is what was sent.
    pub fn resume(&self, world: World<'_>, now: Time) -> Option<RolloutSplit> {
        let heard = Heard::default();
        self.split(&look(world.views, &self.rollout, heard, world.policy, now))
    }

    /// One step. Never waits, and lowers whatever has to be lowered whether or not anything can be written.
    pub fn step(&mut self, world: World<'_>, heard: Heard, clock: Clock) -> Step {
        self.set_clock(clock);
        match plan::parse(&self.rollout.spec) {
            Ok(parsed) => self.parsed = Some(parsed),
            // A spec that cannot be read holds what runs, on the last one that could; the ways down stay open.
            Err(_) if self.parsed.is_some() => {}
            Err(_) => self.parsed = self.of_its_own(),
        }
        let look = look(world.views, &self.rollout, heard, world.policy, clock.now);
        if self.gone {
            return self.orphan(&look);
        }
        let mut step = Step::default();
        let transition = self.decide(&look, &mut step);
        let question = match (&self.state, &self.parsed) {
            (Some(state), Some(parsed)) => self.evidence.ask(&look, state, parsed, world.policy),
            (None | Some(_), None | Some(_)) => None,
        };
        step.question = question;
        step.split = self.split(&look);
        self.drain(&look);
        let problem = self.problem(&look);
        self.tell_problem(problem.as_ref());
        self.tell_outside();
        step.write = self.next_write(&look, transition.as_ref(), problem.as_ref());
        step.wake = self.wake(&look, transition.as_ref());
        step
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
        })
    }

    fn decide(&mut self, look: &Look, step: &mut Step) -> Option<Transition> {
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
        let more = More {
            window: self.evidence.window(&state),
            lapsed: self.lapsed,
            may_raise: self.may_raise(look, &state),
        };
        let seen = look.observation(&state, more)?;
        let parsed = self.parsed.clone()?;
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
        step.happened = self.note(&transition.happened);
        Some(transition)
    }

    /// Nothing forbids a raise.
    fn may_raise(&self, look: &Look, state: &State) -> bool {
        let spec_is_read = plan::parse(&self.rollout.spec).is_ok();
        !self.rollout.spec.suspend
            && !look.frozen
            && spec_is_read
            && self.illegible.is_none()
            && self.unreadable.is_none()
            && !obstacle::of(look, Some(state)).is_some_and(|problem| problem.blocks)
    }

    /// A window that the machine has taken in is kept for people.
    fn count(&mut self, before: &State, held: &State) {
        let Some(window) = self.evidence.window(before) else {
            return;
        };
        let counted = held
            .run
            .as_ref()
            .is_none_or(|run| run.judged_until >= window.end)
            || held.running().is_none();
        if counted && let Some(answer) = self.evidence.settle() {
            self.verdicts.count(&answer, desired(before).weight());
        }
        if held.running().is_none() && before.running().is_some() {
            self.verdicts.failed();
        }
    }

    /// Words for what happened; they become Events when they can be written.
    fn note(&mut self, happened: &[Event]) -> Vec<Note> {
        let (Some(state), Some(parsed)) = (&self.state, &self.parsed) else {
            return Vec::new();
        };
        if happened
            .iter()
            .any(|event| matches!(event, Event::RunStarted { .. } | Event::Recreated))
        {
            self.verdicts.begin();
        }
        let run = state.run.as_ref();
        let about = events::About {
            plan: run.map_or(&parsed.plan, |run| &run.plan),
            target: &self.rollout.spec.target_ref.name,
            canary: run.map_or("", |run| &run.canary.revision),
            detail: self.verdicts.judged(),
        };
        let notes: Vec<Note> = happened
            .iter()
            .map(|event| events::note(event, about))
            .collect();
        notes.iter().for_each(|note| self.tell(note.clone()));
        notes
    }

    fn tell(&mut self, note: Note) {
        self.untold.push_back(note);
        while self.untold.len() > UNTOLD {
            self.untold.pop_front();
        }
    }

    fn split(&self, look: &Look) -> Option<RolloutSplit> {
        let state = self.state.as_ref()?;
        let deployment = look.target.deployment()?;
        let desired = desired(state);
        let mut split = permitted(state, self.persisted.as_ref());
        if let Split::Canary(canary) = &split {
            split = Split::Canary(look.carried(state, canary));
        }
        Some(RolloutSplit::of(
            deployment,
            state,
            split,
            retired(&desired, look),
        ))
    }

    /// A copy may go when no proxy knows it and what was under way had time to end; or when every proxy that could still
    /// know it has gone back to stable by itself.
    fn drain(&mut self, look: &Look) {
        let Some(state) = &self.state else { return };
        let unwanted = effects::unwanted(&desired(state), look);
        let names: BTreeSet<String> = unwanted.iter().map(|copy| copy.name_any()).collect();
        self.leaving.retain(|name, _| names.contains(name));
        for copy in &unwanted {
            let revision = copy.labels().get(aviary_crds::REVISION_LABEL);
            let retired = revision.is_some_and(|r| look.heard.sent.retired.contains(r));
            let leaving = self.leaving.entry(copy.name_any()).or_insert(Leaving {
                since: look.now,
                unused: None,
            });
            if retired && look.heard.acks.settled() {
                leaving.unused.get_or_insert(look.now);
            }
        }
    }

    fn drained(&self, now: Time) -> BTreeSet<String> {
        self.leaving
            .iter()
            .filter(|(_, leaving)| gone_at(leaving) <= now)
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn problem(&self, look: &Look) -> Option<Blocking> {
        if let Some(error) = &self.illegible {
            return Some(Blocking::new(
                "Illegible",
                format!(
                    "this version of the operator cannot read the CanaryRollout ({error}): everything is held; upgrade the operator, or apply a spec that it knows"
                ),
            ));
        }
        if let Some(why) = &self.unreadable {
            let Key { namespace, name } = &self.key;
            return Some(Blocking::new(
                "Unreadable",
                format!(
                    "{why}; everything is held. To begin afresh with what serves: kubectl -n {namespace} patch canaryrollout {name} --subresource=status --type=merge -p '{{\"status\":{{\"machine\":null}}}}'"
                ),
            ));
        }
        if let Err(invalid) = plan::parse(&self.rollout.spec) {
            return Some(Blocking::new("InvalidSpec", invalid.to_string()));
        }
        obstacle::of(look, self.state.as_ref()).or_else(|| {
            let problem = self.troubles.problem()?;
            Some(Blocking {
                problem,
                blocks: false,
            })
        })
    }

    fn tell_problem(&mut self, problem: Option<&Blocking>) {
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
    fn tell_outside(&mut self) {
        let running = self.state.as_ref().and_then(State::running);
        let run = running.map(|run| run.number);
        match self.verdicts.outside() {
            Some(requests) if requests > 0 && run.is_some() && run != self.told_outside => {
                self.told_outside = run;
                self.tell(Note::warning(
                    conditions::FROM_OUTSIDE,
                    events::from_outside(requests),
                ));
            }
            Some(_) | None => {}
        }
    }

    /// The run whose status says already that they do.
    fn outside_in_status(&self) -> Option<u64> {
        let status = self.rollout.status.as_ref()?;
        let said = conditions::reasons(status)
            .iter()
            .any(|(type_, value, _)| *type_ == condition::OUTSIDE_CALLERS && *value == "True");
        let run = self.state.as_ref()?.running()?;
        said.then_some(run.number)
    }

    fn wake(&self, look: &Look, transition: Option<&Transition>) -> Option<Time> {
        let drains = self.leaving.values().map(gone_at);
        [
            transition.and_then(|transition| transition.wake),
            self.troubles.next(look.now),
            self.show_again(look.now),
            look.heard.acks.next_excuse(),
        ]
        .into_iter()
        .flatten()
        .chain(drains)
        .filter(|at| *at > look.now)
        .min()
    }

    /// A clock that was set is not time that passed.
    fn set_clock(&mut self, clock: Clock) {
        if let Some(before) = self.clock {
            let jump = Span((clock.now - before.now).0 - (clock.passed.0 - before.passed.0));
            if jump.0.abs() > JUMP.0 {
                tracing::warn!(rollout = %self.key, milliseconds = jump.0, "the clock was set; nothing is counted from it");
                self.state = self.state.take().map(|state| state.shifted(jump));
                self.evidence.shift(jump);
                self.troubles.shift(jump);
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

/// When a copy on its way out may be deleted.
fn gone_at(leaving: &Leaving) -> Time {
    let lease = Span(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX));
    let lapsed = leaving.since + lease;
    leaving
        .unused
        .map_or(lapsed, |unused| (unused + DRAIN).min(lapsed))
}

/// Copies of these revisions get nothing any more.
fn retired(desired: &Desired, look: &Look) -> BTreeSet<String> {
    effects::unwanted(desired, look)
        .iter()
        .filter_map(|copy| copy.labels().get(aviary_crds::REVISION_LABEL).cloned())
        .collect()
}

/// Less weight, another phase or run, or one more failed window: that counts at once, whatever is being written.
fn worse(before: &State, after: &State) -> bool {
    let weight = |state: &State| desired(state).weight();
    let fails = |state: &State| {
        state
            .run
            .as_ref()
            .map(|run| (run.number, run.failed_in_a_row))
    };
    weight(after) < weight(before)
        || std::mem::discriminant(&after.phase) != std::mem::discriminant(&before.phase)
        || after.deployment != before.deployment
        || fails(after) > fails(before)
}

/// A CanaryRollout of which only the name is known.
fn placeholder(key: &Key, deployment: &str) -> Option<CanaryRollout> {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"namespace": key.namespace, "name": key.name},
        "spec": {"targetRef": {"kind": "Deployment", "name": deployment}, "service": {"name": ""}},
    }))
    .ok()
}

/// resourceVersions of one kind of object are comparable numbers (KEP-5504).
fn newer(a: &CanaryRollout, b: &CanaryRollout) -> bool {
    let number = |rollout: &CanaryRollout| {
        rollout
            .resource_version()
            .and_then(|version| version.parse::<u128>().ok())
    };
    number(a) > number(b)
}

#[cfg(test)]
mod tests;
