//! A world that can be replayed: the real decision path in a simulated cluster, driven by one seed.
//!
//! ```text
//!   people ──> api ──> watch ──> operator: Session, look, advance, effects, Traffic, mesh::view
//!               ^ controllers        │   ^
//!               └──── writes ────────┘   └── proxies (routes, acknowledgements, leases), Prometheus
//! ```
//!
//! One seed is one history: everything that happens, and when, comes from one generator and a virtual clock. [`check`] looks
//! at every step from outside. A failing seed prints its history and how to play it again:
//!
//! ```text
//!   AVIARY_SIMULATE_SEED=17 cargo test -p aviary-operator --lib simulation -- --nocapture
//!   AVIARY_SIMULATE_SEEDS=100000 make simulate
//! ```
//!
//! Not here: the tasks of the driver, the watches' and xDS streams' own protocol, and the words that people read.

mod agenda;
mod api;
mod check;
mod controllers;
mod events;
mod history;
mod hooks;
mod mischief;
mod mishaps;
mod operator;
mod people;
mod process;
mod prometheus;
mod proxies;
mod reports;
mod requests;
mod rest;
mod seconds;
mod streams;
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use serde_json::json;

use self::agenda::{Agenda, Happening, Process};
use self::api::{Api, Type};
use self::check::Check;
use self::controllers::Pods;
use self::history::History;
use self::hooks::Receiver;
use self::mishaps::Wrong;
use self::operator::Operator;
use self::people::Version;
use self::prometheus::Prometheus;
use self::proxies::Proxy;
use self::watch::Stream;
use super::write::{Write, Written};
use crate::key::Key;
use crate::revision;

/// The time of day at which histories begin.
const EPOCH: i64 = 1_790_000_000_000;

/// Who makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    People,
    Kubernetes,
    Operator,
}

struct Simulation {
    chance: Rng,
    /// Sidecars report, hooks are asked, releases have error budgets.
    surroundings: bool,
    /// Of those with surroundings: every release has a small error budget, half of the guards are off, and half of the versions fail so little that no window minds.
    thrifty: bool,
    /// Chance of those: what else happens is the same without them.
    odds: Rng,
    receiver: Receiver,
    agenda: Agenda,
    history: History,
    api: Api,
    pods: Pods,
    proxies: Vec<Proxy>,
    prometheus: Prometheus,
    operators: Vec<Operator>,
    /// The operator that proxies connect to.
    leader: Option<Process>,
    versions: Vec<Version>,
    failure_limit: u32,
    wrong: Wrong,
    /// The longest pause between two deeds, and between two mishaps.
    pace: (i64, i64),
    /// How late each kind of watch may be, in milliseconds.
    lag: BTreeMap<Stream, i64>,
    controllers_are_due: bool,
    answers: BTreeMap<(Process, u64), Written>,
    /// Requests that were given up and are done later all the same.
    late: BTreeMap<(Process, u64), Write>,
    names: u64,
    calm_since: Option<i64>,
    check: Check,
    /// When somebody last changed anything, and when an operator last wrote.
    last_change: i64,
    last_write: i64,
    /// When something last kept views behind.
    last_excuse: i64,
    /// Rollbacks of which the proxies have heard.
    rollbacks: u32,
}

/// How a history came out.
struct Outcome {
    hash: u64,
    /// Virtual milliseconds.
    length: i64,
    steps: u64,
    violation: Option<String>,
    history: Vec<String>,
    phase: String,
    promoted: u32,
    rolled_back: u32,
}

/// Plays the history of a seed.
fn play(seed: u64, is_kept: bool) -> Outcome {
    let mut simulation = Simulation::new(seed, is_kept);
    simulation.begin();
    while simulation.check.violation.is_none() {
        let Some(happening) = simulation.agenda.next() else {
            break;
        };
        simulation.happens(happening);
        simulation.spread(By::Kubernetes);
        if simulation.is_over() {
            break;
        }
    }
    Outcome {
        hash: simulation.history.hash(),
        length: simulation.agenda.now,
        steps: simulation
            .operators
            .iter()
            .map(|operator| operator.steps)
            .sum(),
        phase: simulation.rollout_status()["phase"]
            .as_str()
            .unwrap_or("none")
            .to_owned(),
        promoted: simulation.check.promoted,
        rolled_back: simulation.check.rolled_back,
        violation: simulation.check.violation,
        history: simulation.history.lines().to_vec(),
    }
}

impl Simulation {
    fn new(seed: u64, is_kept: bool) -> Simulation {
        let mut chance = Rng::with_seed(seed);
        let lags = [5, 50, 300, 2000, 8000];
        let slowest = chance.usize(1..=lags.len());
        let lag = Stream::CHANCY
            .iter()
            .map(|stream| (*stream, lags[chance.usize(..slowest)]))
            .collect();
        let paces = [30_000, 90_000, 300_000];
        let pace = (paces[chance.usize(..3)], paces[chance.usize(..3)]);
        Simulation {
            pace,
            failure_limit: chance.u32(..3),
            chance,
            surroundings: seed.is_multiple_of(3),
            thrifty: seed % 9 == 3, // each a multiple of 3
            odds: Rng::with_seed(!seed),
            receiver: Receiver::default(),
            agenda: Agenda::default(),
            history: History::new(is_kept),
            api: Api::default(),
            pods: Pods::default(),
            proxies: Vec::new(),
            prometheus: Prometheus::default(),
            operators: Vec::new(),
            leader: None,
            versions: Vec::new(),
            wrong: Wrong { now: Vec::new() },
            lag,
            controllers_are_due: false,
            answers: BTreeMap::new(),
            late: BTreeMap::new(),
            names: 0,
            calm_since: None,
            check: Check::default(),
            last_change: 0,
            last_write: 0,
            last_excuse: 0,
            rollbacks: 0,
        }
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn say(&mut self, line: String) {
        self.history.say(self.agenda.now, line);
    }

    /// What is there before anything happens.
    fn begin(&mut self) {
        self.api.now = EPOCH;
        self.versions.push(Version {
            number: 1,
            revision: revision::revision(&people::template(1, 0)),
            starts: Some(1000),
            fails_in_place: false,
            bad_from: None,
            fails: 0.0,
        });
        let labels = json!({"app": "payment"});
        let history_limit = [0, 1, 10][self.chance.usize(..3)];
        let replicas = self.chance.u32(1..5);
        let surge = self.chance.u32(0..3);
        let unavailable = if surge == 0 { 1 } else { self.chance.u32(0..2) };
        let objects = [
            (
                Type::Service,
                json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "payment", "namespace": "shop"},
                    "spec": {"clusterIP": "10.96.0.1", "selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
                }),
            ),
            (
                Type::Deployment,
                json!({
                    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "payment", "namespace": "shop", "labels": labels},
                    "spec": {
                        "replicas": replicas, "selector": {"matchLabels": labels}, "template": people::template(1, 0),
                        "revisionHistoryLimit": history_limit,
                        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
                    },
                }),
            ),
        ];
        for (kind, object) in objects {
            let _ = self.api.create(kind, object);
        }
        for number in 0..self.chance.usize(1..4) {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {
                    "name": format!("web-{number}"), "namespace": "front",
                    "annotations": {crate::names::INJECTION_ANNOTATION: crate::names::INJECTION.to_string()},
                },
                "spec": {"containers": [{"name": "web"}], "initContainers": [{"name": crate::names::PROXY_CONTAINER}]},
                "status": {"initContainerStatuses": [{"name": crate::names::PROXY_CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0, "started": true}]},
            });
            let _ = self.api.create(Type::Pod, pod);
            self.proxies
                .push(Proxy::new(Key::new("front", format!("web-{number}"))));
            let delay = self.chance.i64(1000..5000);
            self.agenda
                .put(delay, Happening::Connects { proxy: number });
        }
        self.make_rollout();
        self.spread(By::People);
        self.agenda.put(0, Happening::Starts);
        self.agenda.put(1000, Happening::Second);
        self.agenda
            .put(self.chance.i64(5_000..20_000), Happening::Person);
        if self.chance.u8(..5) > 0 {
            self.agenda
                .put(self.chance.i64(5_000..60_000), Happening::Mishap);
        }
        self.agenda
            .put(self.chance.i64(120_000..900_000), Happening::Calm);
    }

    /// Tells everybody what was changed.
    fn spread(&mut self, by: By) {
        for change in std::mem::take(&mut self.api.changes) {
            self.last_change = self.agenda.now;
            if self.history.is_kept || change.kind != Type::EndpointSlice {
                let line = check::describe(&change, by);
                self.history.say(self.agenda.now, line);
            }
            self.check.changed(&change, by, &self.versions);
            for process in 0..self.operators.len() {
                if self.operators[process].alive {
                    self.watch(process, &change);
                }
            }
            self.follow_pod(&change);
            let gets_on = change.kind == Type::CanaryRollout && by == By::Operator;
            if gets_on && self.chance.u8(..40) == 0 {
                let most = [60, 8_000][self.chance.usize(..2)];
                let delay = self.chance.i64(0..most);
                self.agenda.put(delay, Happening::Timely);
            }
            if !self.controllers_are_due {
                self.controllers_are_due = true;
                let delay = self.chance.i64(1..400);
                self.agenda.put(delay, Happening::Controllers);
            }
        }
    }

    fn watch(&mut self, process: Process, change: &api::Change) {
        for stream in Stream::ALL {
            let Some(seen) = stream.sees(change) else {
                continue;
            };
            let delay = match stream {
                Stream::Unadopted => self.lag[&Stream::Originals],
                chancy => self.chance.i64(1..=self.lag[&chancy]),
            };
            let operator = &mut self.operators[process];
            let Some(pending) = operator.pending.get_mut(&stream) else {
                continue;
            };
            let at = (self.agenda.now + delay).max(pending.not_before);
            pending.not_before = at;
            pending.queue.push_back(seen);
            self.agenda
                .put(at - self.agenda.now, Happening::Watched { process, stream });
        }
    }

    fn is_over(&self) -> bool {
        self.check.is_at_rest
    }

    /// Pods of the shop's Service that can answer: their addresses, and the revision that each runs.
    fn answering(&self) -> BTreeMap<std::net::IpAddr, String> {
        let ready = self.api.list(Type::Pod).filter(|pod| {
            controllers::is_ready(pod) && pod["metadata"].get("deletionTimestamp").is_none()
        });
        ready
            .filter_map(|pod| {
                let address = pod["status"]["podIP"].as_str()?.parse().ok()?;
                let version = self.version_of(&controllers::image(&pod["spec"]))?;
                Some((address, version.revision.clone()))
            })
            .collect()
    }

    /// Addresses of pods that are of no copy.
    fn own_addresses(&self) -> BTreeSet<std::net::IpAddr> {
        let own = self.api.list(Type::Pod).filter(|pod| {
            let labels = &pod["metadata"]["labels"];
            labels.get(aviary_crds::REVISION_LABEL).is_none()
        });
        own.filter_map(|pod| pod["status"]["podIP"].as_str()?.parse().ok())
            .collect()
    }

    fn alive(&self) -> BTreeSet<Process> {
        let all = self.operators.iter().enumerate();
        all.filter(|(_, operator)| operator.alive)
            .map(|(process, _)| process)
            .collect()
    }
}
