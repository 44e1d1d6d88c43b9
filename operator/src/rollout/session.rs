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

mod clock;
mod decide;
mod hooks;
mod leaving;
mod orphan;
mod status;
mod words;
mod writes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aviary_crds::{CanaryRollout, CanaryRolloutStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use rollout_core::state::{Phase, State};
use rollout_core::time::{Span, Time};
use rollout_core::{Carried, Transition};
use traffic_core::lease::LEASE;

use super::decisions::Decisions;
use super::effects::Fetched;
use super::events::Note;
use super::evidence::{Answer, Evidence, Question, source};
use super::exposing::Exposing;
use super::fuses::Fuses;
use super::guarding::Guarding;
use super::heard::Heard;
use super::hooks::{Asking, Call, Telling, Waits};
use super::look::{Look, look};
use super::measure::Source;
use super::persisted::Persisted;
use super::plan::{InvalidSpec, Parsed};
use super::reported::Reported;
use super::traffic::RolloutSplit;
use super::trouble::Troubles;
use super::verdicts::Verdicts;
use super::views::Views;
use super::write::Write;
use crate::admission::rollout::PrometheusPolicy;
use crate::key::Key;
use crate::outcomes::{Awaited, Closed, Subject};

use leaving::{Leaving, gone_at};
use writes::{Proposal, Purpose};

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
    /// What comes of them comes back through [`Session::called`].
    pub calls: Vec<Call>,
    /// At most one is under way; its answer comes back through [`Session::wrote`].
    pub write: Option<Write>,
    /// For the log, at once.
    pub happened: Vec<Note>,
    pub wake: Option<Time>,
    /// Whose requests are to be reported to it.
    pub follows: Option<Subject>,
    /// Whose streams are waited for before their pods go.
    pub awaits: Option<Awaited>,
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
    /// The last spec that could be read, and why the present one cannot.
    parsed: Option<Parsed>,
    invalid: Option<InvalidSpec>,
    state: Option<State>,
    persisted: Option<Persisted>,
    /// Why `status.machine` cannot be read.
    unreadable: Option<String>,
    /// The weight lease lapsed before this process took over.
    lapsed: bool,
    evidence: Evidence,
    guarding: Guarding,
    exposing: Exposing,
    fuses: Fuses,
    reported: Reported,
    verdicts: Verdicts,
    decisions: Decisions,
    asking: Asking,
    telling: Telling,
    /// The hook that the run waited for at the newest look.
    hook: Option<Waits>,
    under_way: Option<Purpose>,
    /// Status writes of ours of which nobody knows whether they were done.
    unanswered: Vec<Proposal>,
    /// Our version of the object is old: it is read anew before anything is written.
    stale: bool,
    untold: VecDeque<Note>,
    troubles: Troubles,
    leaving: BTreeMap<String, Leaving>,
    carried: Carried,
    fetched: Option<Fetched>,
    told_problem: Option<String>,
    /// The run of which people know that callers outside the mesh call it.
    told_outside: Option<u64>,
    /// Why people know that pods lack a sidecar.
    told_lacking: Option<String>,
    /// People know that proxies hold requests back.
    told_withheld: bool,
    /// The run and weight at which people know that the error budget holds it.
    told_exposure: Option<String>,
    left_told: bool,
    shown_at: Option<Time>,
    clock: Option<Clock>,
}

impl Session {
    /// Begins with what the API server has of it.
    pub fn new(rollout: Arc<CanaryRollout>, now: Time) -> Session {
        let mut session = Session {
            key: Key::of(&*rollout),
            verdicts: Verdicts::of(rollout.status.as_ref()),
            decisions: Decisions::of(rollout.status.as_ref()),
            rollout,
            gone: false,
            illegible: None,
            parsed: None,
            invalid: None,
            state: None,
            persisted: None,
            unreadable: None,
            lapsed: false,
            evidence: Evidence::None,
            guarding: Guarding::default(),
            exposing: Exposing::default(),
            fuses: Fuses::default(),
            reported: Reported::default(),
            asking: Asking::default(),
            telling: Telling::default(),
            hook: None,
            under_way: None,
            unanswered: Vec::new(),
            stale: false,
            untold: VecDeque::new(),
            troubles: Troubles::default(),
            leaving: BTreeMap::new(),
            carried: Carried::default(),
            fetched: None,
            told_problem: None,
            told_outside: None,
            told_lacking: None,
            told_withheld: false,
            told_exposure: None,
            left_told: false,
            shown_at: None,
            clock: None,
        };
        session.recall();
        session.told_outside = session.outside_in_status();
        session.told_lacking = session.lacking_in_status();
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

    /// Whether no version of it could be read, so that nothing is known of it, not even its Deployment.
    pub fn is_unknown(&self) -> bool {
        self.rollout.spec.target_ref.name.is_empty()
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

    /// The status that the newest version has.
    pub fn status(&self) -> Option<&CanaryRolloutStatus> {
        self.rollout.status.as_ref()
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

    /// Whether there is an answer to be taken in.
    #[cfg(test)]
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.evidence, Evidence::Answered(_))
    }

    /// Seconds of the requests that it follows are closed. Says whether there is something to look at now.
    pub fn closed(&mut self, seconds: &[Closed]) -> bool {
        self.reported.see(seconds);
        self.exposing.see(seconds);
        let run = self.state.as_ref().and_then(State::running);
        let opened = self.fuses.see(run.map(|run| run.number), seconds);
        self.guarding.see(seconds) || opened
    }

    /// Takes in the window that is due, where the sidecars are all that there is to ask.
    fn judge(&mut self, look: &Look, policy: &PrometheusPolicy) {
        let (Some(state), Some(parsed)) = (&self.state, &self.parsed) else {
            return;
        };
        self.reported.follow(state);
        let (checks, reported) = (&parsed.checks, &self.reported);
        self.evidence.judge(look, state, checks, reported, policy);
    }

    /// Whose requests it follows.
    fn follows(&self, source: Source) -> Option<Subject> {
        let state = self.state.as_ref()?;
        let run = state.running()?;
        let asked = self.guarding.guarded().is_some() || self.exposing.spending().is_some();
        if !asked && source == Source::Prometheus {
            return None;
        }
        let service = &self.rollout.spec.service;
        let ports = service.ports.iter();
        Some(Subject {
            service: self.key.beside(&service.name),
            ports: ports.filter_map(|port| u16::try_from(*port).ok()).collect(),
            stable: state.stable.revision.clone(),
            canary: run.canary.revision.clone(),
        })
    }

    /// How the traffic is to go by what is persisted, before anything is decided: what proxies had from the operator before
    /// is what was sent.
    pub fn resume(&self, world: World<'_>, now: Time) -> Option<RolloutSplit> {
        let heard = Heard::default();
        let look = look(world.views, &self.rollout, heard, world.policy, now);
        self.split(&look, &mut Carried::default())
    }

    /// One step. Never waits, and lowers whatever has to be lowered whether or not anything can be written.
    pub fn step(&mut self, world: World<'_>, heard: Heard, clock: Clock) -> Step {
        self.set_clock(clock);
        self.read_spec();
        let look = look(world.views, &self.rollout, heard, world.policy, clock.now);
        if self.gone {
            return self.orphan(&look);
        }
        let mut step = Step::default();
        self.judge(&look, world.policy);
        let transition = self.decide(&look, &mut step);
        let question = match (&self.state, &self.parsed) {
            (Some(state), Some(parsed)) => self.evidence.ask(&look, state, parsed, world.policy),
            (None | Some(_), None | Some(_)) => None,
        };
        step.question = question;
        step.calls.extend(self.tell_results(look.now));
        let mut carried = self.carried;
        step.split = self.split(&look, &mut carried);
        self.carried = carried;
        self.drain(&look);
        step.awaits = self.awaits(&look);
        let problem = self.problem(&look);
        self.tell_problem(problem.as_ref());
        self.tell_outside();
        self.tell_lacking(&look);
        self.tell_withheld(&look);
        self.tell_exposure(&look);
        step.write = self.next_write(&look, transition.as_ref(), problem.as_ref());
        step.wake = self.wake(&look, transition.as_ref(), world.policy);
        step.follows = self.follows(source(&look, world.policy));
        step
    }

    fn wake(
        &self,
        look: &Look,
        transition: Option<&Transition>,
        policy: &PrometheusPolicy,
    ) -> Option<Time> {
        let reported = self
            .state
            .as_ref()
            .filter(|_| source(look, policy) == Source::Sidecars);
        let drains = self.leaving.values().map(gone_at);
        [
            transition.and_then(|transition| transition.wake),
            self.troubles.next(look.now),
            self.show_again(look.now),
            look.heard.acks.next_excuse(),
            self.carried.next(),
            self.fuses.until(look.now),
            self.asking.next(),
            self.telling.next(),
            reported.and_then(|state| self.reported.next(state)),
        ]
        .into_iter()
        .flatten()
        .chain(drains)
        .filter(|at| *at > look.now)
        .min()
    }
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
