//! What has to hold at every step, looked at from outside: the objects of the API server, the worlds that are published, what
//! the proxies use, and the answers of Prometheus.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use aviary_crds::REVISION_LABEL;
use aviary_crds::status::Machine;
use rollout_core::judge::Verdict;
use rollout_core::plan::Percent;
use rollout_core::state::{Cause, Phase, State};
use rollout_core::{Lease, desired};
use serde_json::Value;
use traffic_core::config::Weight;

use super::By;
use super::agenda::Process;
use super::api::{Change, Type};
use super::controllers::{image, is_copy};
use super::people::Version;
use super::proxies::{Proxy, Served};
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
    bad_since: Option<i64>,
    writes: VecDeque<i64>,
    /// Since when all pods of a copy are Ready.
    ready_since: BTreeMap<String, i64>,
    rolling_since: Option<i64>,
    alone_since: BTreeMap<usize, i64>,
    over_since: BTreeMap<usize, i64>,
    then_advances: bool,
    pub(super) promoted: u32,
    pub(super) rolled_back: u32,
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
        let Some(after) = &change.after else { return };
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
            let name = after["metadata"]["labels"][REVISION_LABEL]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if count("/status/readyReplicas") < count("/spec/replicas") || before.is_none() {
                self.ready_since.remove(&name);
            } else {
                self.ready_since.entry(name).or_insert(self.now);
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
                if promoting {
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
        let machine = Machine(after["status"]["machine"].clone());
        let Ok(memory) = machine::read(&machine) else {
            self.state = None;
            return;
        };
        let state = memory.state;
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
            if canary.weight == Percent::ZERO {
                // It begins again, or has not begun: every step is earned anew.
                self.raised.remove(&run);
            } else {
                self.raise(&run, u32::from(canary.weight.get()));
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
        if matches!(state.phase, Phase::RollingBack { .. })
            && !self
                .state
                .as_ref()
                .is_some_and(|state| matches!(state.phase, Phase::RollingBack { .. }))
        {
            self.rolled_back += 1;
            self.is_reasonable(&state);
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
        if late && ready.is_some_and(|since| self.now - since > 120_000) {
            self.violated(format!(
                "run {} was rolled back ({cause:?}) though its pods were Ready",
                run.number
            ));
        }
    }

    /// A rollback ends within a lease, whoever is not heard of.
    pub(super) fn rollback_ends(&mut self, excused: bool) {
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

    /// An operator serves another world. `behind`: who is behind the Service, as this operator knows it.
    pub(super) fn published(
        &mut self,
        process: Process,
        served: &Served,
        copies: &BTreeMap<IpAddr, String>,
    ) {
        let split = &served.route.split;
        for revoked in &served.route.revoked {
            let revocation = &revoked.revocation;
            self.took_down
                .insert((process, (revocation.revision.clone(), revocation.run)));
        }
        let stable = served.healthy(&split.stable.cluster);
        if let Some(canary) = &split.canary {
            let run = (canary.arm.revision.clone(), canary.run);
            let weight = canary.weight.units() / (Weight::SCALE / 100);
            self.is_permitted("published", &run, weight);
            let there = served.healthy(&canary.arm.cluster);
            if weight > 0 && there.is_empty() {
                self.violated("a canary without endpoints has weight".to_owned());
            }
            if weight < 100 && stable.is_empty() && !there.is_empty() {
                self.violated(
                    "the stable arm has no endpoints, and the canary has some".to_owned(),
                );
            }
            if weight > 0
                && self
                    .took_down
                    .iter()
                    .any(|(by, down)| *by == process && down.0 == run.0 && down.1 >= run.1)
            {
                self.violated(format!(
                    "run {} of revision {} was taken down and has weight {weight} again",
                    run.1, run.0
                ));
            }
        }
        // Pods of a copy answer for stable only when nobody else can.
        let (lent, own): (Vec<_>, Vec<_>) = stable.iter().copied().partition(|address: &IpAddr| {
            copies
                .get(address)
                .is_some_and(|revision| !self.is_entitled(revision))
        });
        if !lent.is_empty() && !own.is_empty() {
            self.violated(format!(
                "pods of a canary serve in the stable arm: {lent:?} beside {own:?}"
            ));
        }
    }

    fn is_permitted(&mut self, what: &str, run: &Run, weight: u32) {
        let most = self.permitted.get(run).copied().unwrap_or(0);
        if i64::from(weight) > most {
            self.violated(format!(
                "{what} weight {weight} for run {} of revision {}, of which {most} was written",
                run.1, run.0
            ));
        }
    }

    /// Every step above one that was written is earned by a window of its soak.
    fn raise(&mut self, run: &Run, weight: u32) {
        let raised = self.raised.entry(run.clone()).or_default();
        if weight <= raised.to {
            return;
        }
        let Raised {
            to: from, passed, ..
        } = *raised;
        *raised = Raised {
            to: weight,
            since: self.now,
            passed: false,
        };
        if from > 0 && !passed && !self.then_advances {
            self.violated(format!(
                "run {} of revision {} rose from {from} to {weight} without a passed window",
                run.1, run.0
            ));
        }
    }

    /// A question was answered. `judged_until`: what the operator has judged before.
    pub(super) fn answered(
        &mut self,
        process: Process,
        answer: &Answer,
        state: Option<&State>,
        canary: &str,
        clock: i64,
    ) {
        let Some(outcome) = &answer.outcome else {
            return;
        };
        let Some(run) = state
            .and_then(State::running)
            .filter(|run| run.number == answer.run)
        else {
            return;
        };
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
            && let Some(raised) = self.raised.get_mut(&(canary.to_owned(), answer.run))
            && self.now - (clock - answer.start.0) >= raised.since
        {
            raised.passed = true;
        }
    }

    /// After one failed window too many nothing is published, in this very step.
    pub(super) fn too_many(
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

    /// What was counted is not what another process, or another clock, has counted.
    pub(super) fn forget_fails(&mut self, process: Process) {
        self.fails.retain(|(of, _), _| *of != process);
        self.bad_since = None;
    }

    /// A bad version with weight that everybody could know of. `bad`: it is so now.
    pub(super) fn bad(&mut self, bad: bool, most: i64, now: i64) {
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

    pub(super) fn installed(&mut self, number: usize, proxy: &Proxy) {
        if let Some(served) = &proxy.installed {
            for revoked in &served.route.revoked {
                let revocation = &revoked.revocation;
                self.given_up
                    .insert((number, (revocation.revision.clone(), revocation.run)));
            }
        }
    }

    /// One second of one proxy's requests. `answering`: what really answers.
    pub(super) fn requests(
        &mut self,
        number: usize,
        proxy: &Proxy,
        answering: &BTreeMap<IpAddr, String>,
        excused: bool,
        now: i64,
    ) {
        let (Some(split), Some(served)) = (proxy.split(), &proxy.installed) else {
            return;
        };
        let stable = served.healthy(&split.stable.cluster);
        let mut arms = vec![(split.stable.cluster.clone(), 100)];
        if let Some(canary) = &split.canary {
            let weight = canary.weight.units() / (Weight::SCALE / 100);
            arms = vec![
                (split.stable.cluster.clone(), 100 - weight),
                (canary.arm.cluster.clone(), weight),
            ];
            let run = (canary.arm.revision.clone(), canary.run);
            if weight > 0 {
                self.is_permitted("a proxy uses", &run, weight);
                if self.given_up.contains(&(number, run.clone())) {
                    self.violated(format!(
                        "proxy {number} had given up run {} of revision {} and uses it again",
                        run.1, run.0
                    ));
                }
            }
            let there = served.healthy(&canary.arm.cluster);
            // A lease that lapses gives the canary's share to what there is.
            if !proxy.lapsed
                && ((weight < 100 && stable.is_empty() && !there.is_empty())
                    || (weight > 0 && there.is_empty() && !stable.is_empty()))
            {
                self.violated(format!("proxy {number} sends requests to an arm without endpoints while another has some"));
            }
        }
        // The share of each version that was not released to everyone.
        let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
        let mut dead = false;
        for (cluster, weight) in &arms {
            let endpoints = served.healthy(cluster);
            if *weight > 0
                && !endpoints
                    .iter()
                    .any(|address| answering.contains_key(address))
            {
                dead = true;
            }
            for address in &endpoints {
                if let Some(revision) = answering.get(address) {
                    #[allow(clippy::cast_precision_loss)] // a handful of endpoints
                    let share = f64::from(*weight) / endpoints.len() as f64;
                    *shares.entry(revision).or_default() += share;
                }
            }
        }
        let stable_answers = answering
            .values()
            .any(|revision| self.is_entitled(revision));
        if dead && stable_answers && !excused {
            let since = *self.alone_since.entry(number).or_insert(now);
            if now - since > 60_000 {
                self.violated(format!("proxy {number} has sent requests where nobody answers for a minute, and others answer"));
            }
        } else {
            self.alone_since.remove(&number);
        }
        let over = shares.iter().find_map(|(revision, share)| {
            let version = self.number(revision)?;
            let of_it = self.permitted.iter().filter(|((of, _), _)| self.number(of) == Some(version));
            let most = of_it.map(|(_, most)| *most).max().unwrap_or(0);
            #[allow(clippy::cast_precision_loss)] // a percentage
            let is_over = *share > most as f64 + 0.001;
            (is_over && !self.entitled.contains(&version)).then(|| format!("revision {revision} gets {share} % of the requests of proxy {number}, and {most} was written"))
        });
        match over.filter(|_| stable_answers && !excused) {
            Some(text) => {
                // Endpoints that came or went are on their way to the proxy.
                let since = *self.over_since.entry(number).or_insert(now);
                if now - since > 15_000 {
                    self.violated(text);
                }
            }
            None => {
                self.over_since.remove(&number);
            }
        }
    }
}

/// A change in one line.
pub(super) fn describe(change: &Change, by: By) -> String {
    let object = change.after.as_ref().or(change.before.as_ref());
    let Some(object) = object else {
        return String::new();
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let verb = match (&change.before, &change.after) {
        (None, _) => "makes",
        (Some(_), Some(_)) => "changes",
        (Some(_), None) => "ends",
    };
    let version = object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let (spec, status) = (&object["spec"], &object["status"]);
    let detail = match change.kind {
        Type::Deployment => format!(
            "{} replicas {} paused {} ready {}/{} updated {}",
            image(&spec["template"]["spec"]),
            spec["replicas"],
            spec["paused"],
            status["readyReplicas"],
            status["replicas"],
            status["updatedReplicas"]
        ),
        Type::ReplicaSet => format!(
            "{} wants {} has {} ready {}",
            image(&spec["template"]["spec"]),
            spec["replicas"],
            status["replicas"],
            status["readyReplicas"]
        ),
        Type::CanaryRollout => format!(
            "{} stable {} canary {} weight {} run {}: {}",
            status["phase"],
            status["stable"]["revision"],
            status["canary"]["revision"],
            status["weight"],
            status["machine"]["state"]["run"]["number"],
            status["message"]
                .as_str()
                .unwrap_or_default()
                .chars()
                .take(90)
                .collect::<String>()
        ),
        Type::Pod => format!(
            "{} ends {}",
            status["conditions"][0]["status"],
            object["metadata"].get("deletionTimestamp").is_some()
        ),
        Type::EndpointSlice => {
            let endpoints = object["endpoints"].as_array().map_or(0, Vec::len);
            format!("{endpoints} endpoints")
        }
        Type::ControllerRevision | Type::Service | Type::ConfigMap => String::new(),
    };
    format!("{by:?} {verb} {:?} {name} {version} {detail}", change.kind)
}
