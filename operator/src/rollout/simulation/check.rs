//! What has to hold at every step, looked at from outside: the objects of the API server, the worlds that are published, what
//! the proxies use, and the answers of Prometheus.

mod evidence;
mod hooks;
mod reports;
mod traffic;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use aviary_crds::REVISION_LABEL;
use aviary_crds::status::Machine;
use rollout_core::plan::{OnFailure, Percent};
use rollout_core::state::{Cause, Phase, State, Unsettled};
use rollout_core::{Lease, desired};
use serde_json::Value;

pub(super) use words::describe;

use super::By;
use super::agenda::Process;
use super::api::{Change, Type};
use super::controllers::{image, is_copy};
use super::people::Version;
use crate::revision;
use crate::rollout::evidence::Answer;
use crate::rollout::machine;

/// More requests in a while are a busy loop.
const BUSY: usize = 80;
const WHILE: i64 = 10_000;

/// A run of a revision.
type Run = (String, u64);

/// How far a run has been raised, and whether it has earned the next step.
#[derive(Clone, Copy, Debug, Default)]
struct Raised {
    to: u32,
    since: i64,
    passed: bool,
}

/// A weight is raised.
#[derive(Clone, Copy, Debug)]
struct Rise {
    to: u32,
    /// A person let it go on from the weight before.
    answered: bool,
}

/// The revision whose copy this is.
fn copied(copy: &Value) -> &str {
    copy["metadata"]["labels"][REVISION_LABEL]
        .as_str()
        .unwrap_or_default()
}

#[derive(Debug, Default)]
pub(super) struct Check {
    pub(super) violation: Option<String>,
    pub(super) is_at_rest: bool,
    now: i64,
    /// What runs in a revision.
    version_of: BTreeMap<String, u32>,
    /// Versions that may serve everyone: they did before there was a rollout, were promoted, or were rolled by people.
    pub(super) entitled: BTreeSet<u32>,
    /// The most that was ever written for a run, in percent.
    permitted: BTreeMap<Run, i64>,
    pub(super) state: Option<State>,
    /// What a process has published as revoked.
    took_down: BTreeSet<(Process, Run)>,
    given_up: BTreeSet<(usize, Run)>,
    raised: BTreeMap<Run, Raised>,
    fails: BTreeMap<(Process, u64), u32>,
    /// Answers that no step has taken in yet, with the revision that they are about.
    pub(super) pending: BTreeMap<Process, (Answer, String)>,
    bad_since: Option<i64>,
    somebody_asked: bool,
    /// What people have asked for, and of which revision.
    asked: BTreeSet<(&'static str, String)>,
    writes: VecDeque<i64>,
    /// Since when all pods of a copy are Ready.
    ready_since: BTreeMap<String, i64>,
    rolling_since: Option<i64>,
    /// When views were behind last.
    excused_at: i64,
    /// Pods that are of no copy.
    pub(super) own: BTreeSet<IpAddr>,
    alone_since: BTreeMap<usize, i64>,
    over_since: BTreeMap<usize, i64>,
    then_advances: bool,
    pub(super) promoted: u32,
    pub(super) rolled_back: u32,
    hooks: hooks::Hooks,
    counted: BTreeMap<(Process, Run), reports::Counted>,
    /// The present run is rolled back when it is bad.
    is_judged: bool,
}
impl Check {
    pub(super) fn at(&mut self, now: i64) {
        self.now = now;
    }

    pub(super) fn violated(&mut self, text: String) {
        self.violation.get_or_insert(text);
    }

    /// A request of an operator: a busy loop is seen by their number.
    pub(super) fn wrote(&mut self) {
        self.writes.push_back(self.now);
        while self.writes.front().is_some_and(|at| self.now - at > WHILE) {
            self.writes.pop_front();
        }
        if self.writes.len() > BUSY {
            self.violated(format!(
                "{} requests in {} s",
                self.writes.len(),
                WHILE / 1000
            ));
        }
    }

    pub(super) fn number(&self, revision: &str) -> Option<u32> {
        self.version_of.get(revision).copied()
    }

    fn is_entitled(&self, revision: &str) -> bool {
        self.number(revision)
            .is_some_and(|version| self.entitled.contains(&version))
    }

    /// Something was written.
    pub(super) fn changed(&mut self, change: &Change, by: By, versions: &[Version]) {
        let Some(after) = &change.after else {
            if change.kind == Type::CanaryRollout {
                self.state = None;
            }
            if let Some(before) = &change.before
                && change.kind == Type::Deployment
                && is_copy(before)
            {
                self.ready_since.remove(copied(before));
            }
            return;
        };
        match change.kind {
            Type::Deployment => self.deployment(change.before.as_deref(), after, by, versions),
            Type::ReplicaSet if by == By::Operator => {
                let revision = revision::revision(&after["spec"]["template"]);
                let size = |set: &Value| set["spec"]["replicas"].as_i64().unwrap_or(0);
                let grew = change.before.as_deref().map_or(0, size) < size(after);
                if grew && !self.is_entitled(&revision) {
                    self.violated(format!(
                        "a ReplicaSet of revision {revision} was scaled up, which nobody released"
                    ));
                }
            }
            Type::CanaryRollout => self.rollout(after, by),
            Type::ReplicaSet
            | Type::ControllerRevision
            | Type::Pod
            | Type::Service
            | Type::EndpointSlice
            | Type::ConfigMap => {}
        }
    }

    fn deployment(&mut self, before: Option<&Value>, after: &Value, by: By, versions: &[Version]) {
        let template = &after["spec"]["template"];
        let revision = revision::revision(template);
        let runs = image(&template["spec"]);
        let number = versions
            .iter()
            .find(|version| runs.ends_with(&format!(":{}", version.number)));
        let Some(number) = number.map(|version| version.number) else {
            return;
        };
        if is_copy(after) {
            let count = |pointer: &str| after.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
            let revision = copied(after);
            if count("/status/readyReplicas") < count("/spec/replicas") || before.is_none() {
                self.ready_since.remove(revision);
            } else {
                let since = self.ready_since.entry(revision.to_owned());
                since.or_insert(self.now);
            }
            return;
        }
        self.version_of.insert(revision.clone(), number);
        let paused = |object: &Value| object["spec"]["paused"] == true;
        if paused(after) {
            return;
        }
        match by {
            By::People => {
                self.entitled.insert(number);
            }
            By::Operator if before.is_some_and(paused) => {
                let promoting = self.state.as_ref().is_some_and(|state| {
                    matches!(state.phase, Phase::Promoting { .. })
                        && state
                            .run
                            .as_ref()
                            .is_some_and(|run| run.canary.revision == revision)
                });
                let let_go = self.state.as_ref().is_some_and(|state| {
                    let gone = matches!(
                        state.phase,
                        Phase::Unsettled {
                            why: Unsettled::LetGo,
                            ..
                        }
                    );
                    gone && state.target.revision == revision
                });
                if promoting || let_go {
                    self.entitled.insert(number);
                }
                if !self.entitled.contains(&number) {
                    self.violated(format!(
                        "the gate was opened for revision {revision}, which was not released"
                    ));
                }
            }
            By::Operator | By::Kubernetes => {}
        }
    }

    fn rollout(&mut self, after: &Value, by: By) {
        self.then_advances = after["spec"]["analysis"]["noEvidence"]["then"] == "Advance";
        let machine = Machine::from(&after["status"]["machine"]);
        let Ok(memory) = machine::read(&machine) else {
            self.state = None;
            return;
        };
        let state = memory.state;
        let mut rise = None;
        if let Some(canary) = desired(&state).canary() {
            let run = (canary.revision.clone(), canary.run);
            let most = self.permitted.entry(run.clone()).or_default();
            let rises = *most > 0 && i64::from(canary.weight) > *most;
            *most = (*most).max(i64::from(canary.weight));
            let held = after["spec"]["suspend"] == true
                || after["metadata"].get("deletionTimestamp").is_some();
            if rises && held && by == By::Operator {
                self.violated(format!(
                    "run {} rose to {} while the CanaryRollout was suspended or deleted",
                    run.1, canary.weight
                ));
            }
            self.people_asked(&state, rises);
            if canary.weight == Percent::ZERO {
                // It begins again, or has not begun: every step is earned anew.
                self.raised.remove(&run);
            } else {
                rise = self.raise(&run, u32::from(canary.weight.get()), state.run.as_ref());
            }
            if canary.lease == Lease::None
                && let Some(version) = self.number(&canary.revision)
            {
                self.promoted += u32::from(self.entitled.insert(version));
            }
        }
        if by == By::Operator
            && !matches!(state.phase, Phase::Unsettled { .. })
            && !self.is_entitled(&state.stable.revision)
        {
            let revision = &state.stable.revision;
            self.violated(format!(
                "status calls revision {revision} stable, which never served everyone"
            ));
        }
        if desired(&state).canary().is_none() {
            self.people_asked(&state, false);
        }
        if by == By::Operator {
            self.hooks_agreed(after, &state, rise);
            self.within_budget(&state, rise);
        }
        let judged = state.running();
        self.is_judged = judged.is_some_and(|run| run.plan.on_failure == OnFailure::Rollback);
        if matches!(state.phase, Phase::RollingBack { .. })
            && !self
                .state
                .as_ref()
                .is_some_and(|state| matches!(state.phase, Phase::RollingBack { .. }))
        {
            self.rolled_back += 1;
            self.is_reasonable(&state);
            self.is_guards_cause(&state);
        }
        self.state = Some(state);
    }

    /// Pods that have been Ready all the time are no reason.
    fn is_reasonable(&mut self, state: &State) {
        let (Phase::RollingBack { cause, .. }, Some(run)) = (state.phase, &state.run) else {
            return;
        };
        let late = matches!(cause, Cause::ProgressDeadlineExceeded | Cause::CanaryLost);
        let ready = self.ready_since.get(&run.canary.revision).copied();
        // What was decided on views that were behind is written when it can be.
        let knew = self.now - self.excused_at > 240_000;
        if late && knew && ready.is_some_and(|since| self.now - since > 120_000) {
            self.violated(format!(
                "run {} was rolled back ({cause:?}) though its pods were Ready",
                run.number
            ));
        }
    }

    /// A rollback ends within a lease, whoever is not heard of.
    pub(super) fn rollback_ends(&mut self, excused: bool) {
        if excused {
            self.excused_at = self.now;
        }
        let rolls = self
            .state
            .as_ref()
            .is_some_and(|state| matches!(state.phase, Phase::RollingBack { .. }));
        if !rolls || excused {
            self.rolling_since = None;
            return;
        }
        let since = *self.rolling_since.get_or_insert(self.now);
        if self.now - since > 210_000 {
            self.violated("a rollback has not ended after a lease".to_owned());
        }
    }
}
