//! What each happening does.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aviary_crds::REVISION_LABEL;
use serde_json::Value;
use traffic_core::config::Weight;

use super::agenda::{Happening, Process, Turn};
use super::api::{Change, Type, key};
use super::controllers;
use super::mishaps::Mishap;
use super::operator::Operator;
use super::prometheus::Count;
use super::proxies::{Link, LinkState, Served};
use super::watch::{self, Seen, Stream};
use super::{By, EPOCH, Simulation};
use crate::key::Key;
use crate::rollout::write::{Verb, Write, WriteError, Written};

/// A request that has no answer by then has failed.
const PATIENCE: i64 = 12_000;
/// Requests of one proxy in a second.
const REQUESTS: f64 = 40.0;
/// More steps at one moment are a loop.
const BUSY: u32 = 300;

impl Simulation {
    pub(super) fn happens(&mut self, happening: Happening) {
        let now = self.agenda.now;
        self.api.now = EPOCH + now;
        self.check.at(now);
        match happening {
            Happening::Second => self.second(),
            Happening::Arrives { process, request } => self.arrives(process, request),
            Happening::Answers { process, request } => self.answers(process, request),
            Happening::Watched { process, stream } => self.watched(process, stream),
            Happening::Runs { process } => self.runs(process),
            Happening::Judged { process, question } => self.judged(process, question),
            Happening::Controllers => self.controllers(),
            Happening::Pod { uid, turn } => self.pod(&uid, turn),
            Happening::Hears { proxy, link } => self.hears(proxy, link),
            Happening::Acknowledges { proxy, link } => self.acknowledges(proxy, link),
            Happening::Connects { proxy } => self.connects(proxy),
            Happening::Person => {
                if self.calm_since.is_none() {
                    self.person();
                    self.spread(By::People);
                    let delay = self.chance.i64(1_000..self.pace.0);
                    self.agenda.put(delay, Happening::Person);
                }
            }
            Happening::Mishap => {
                if self.calm_since.is_none() {
                    self.mishap();
                    let delay = self.chance.i64(1_000..self.pace.1);
                    self.agenda.put(delay, Happening::Mishap);
                }
            }
            Happening::Mends { mishap } => self.mend(mishap),
            Happening::Starts => self.starts(),
            Happening::Ends { process } => self.ends(process),
            Happening::Calm => self.calm(),
        }
    }

    fn controllers(&mut self) {
        self.controllers_are_due = false;
        if self.wrong.has(Mishap::ControllersAway) {
            self.controllers_are_due = true;
            self.agenda.put(1000, Happening::Controllers);
            return;
        }
        let quota = self.wrong.has(Mishap::Quota).then_some(6);
        #[allow(clippy::if_same_then_else)] // not the same: the order differs
        let retry = if self.chance.bool() {
            controllers::deployments(&mut self.api)
                | controllers::others(&mut self.api, &mut self.pods, quota)
        } else {
            controllers::others(&mut self.api, &mut self.pods, quota)
                | controllers::deployments(&mut self.api)
        };
        if retry || quota.is_some() {
            self.controllers_are_due = true;
            let delay = self.chance.i64(1..400);
            self.agenda
                .put(if retry { delay } else { 2000 }, Happening::Controllers);
        }
    }

    /// A pod that was made starts; one that is to end does.
    pub(super) fn follow_pod(&mut self, change: &Change) {
        let (Type::Pod, Some(after)) = (change.kind, &change.after) else {
            return;
        };
        let ends = |pod: &Value| pod["metadata"].get("deletionTimestamp").is_some();
        let uid = after["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match &change.before {
            None => {
                let starts = self
                    .version_of(&controllers::image(&after["spec"]))
                    .and_then(|version| version.starts);
                if let Some(starts) = starts {
                    let delay = starts + self.chance.i64(0..500);
                    self.agenda.put(
                        delay,
                        Happening::Pod {
                            uid,
                            turn: Turn::Ready,
                        },
                    );
                }
            }
            Some(before) if !ends(before) && ends(after) => {
                let delay = self.chance.i64(500..20_000);
                self.agenda.put(
                    delay,
                    Happening::Pod {
                        uid,
                        turn: Turn::Ends,
                    },
                );
            }
            Some(_) => {}
        }
    }

    fn pod(&mut self, uid: &str, turn: Turn) {
        let pod = self
            .api
            .list(Type::Pod)
            .find(|pod| pod["metadata"]["uid"] == uid);
        let Some(pod) = pod.map(|pod| key(pod)) else {
            return;
        };
        match turn {
            Turn::Ready => controllers::set_ready(&mut self.api, &pod, true),
            Turn::Ends => self.api.remove(Type::Pod, &pod),
        }
    }

    // --- the operator

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

    fn run_soon(&mut self, process: Process) {
        let delay = self.chance.i64(0..15);
        self.run_at(process, self.agenda.now + delay);
    }

    fn run_at(&mut self, process: Process, at: i64) {
        let operator = &mut self.operators[process];
        if operator.runs_at.is_none_or(|before| before > at) {
            operator.runs_at = Some(at);
            self.agenda
                .put(at - self.agenda.now, Happening::Runs { process });
        }
    }

    fn runs(&mut self, process: Process) {
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

    fn steps(&mut self, process: Process) {
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

    fn any_due(&mut self, process: Process) -> Option<Key> {
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

    fn step(&mut self, process: Process, rollout: &Key) {
        let now = self.agenda.now;
        let Some((step, other_way)) = self.operators[process].step(rollout, now) else {
            return;
        };
        for note in &step.happened {
            self.say(format!("operator {process}: {} {}", note.reason, note.text));
        }
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
            self.operators[process]
                .questions
                .insert(name, (rollout.clone(), question));
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
        let published = self.published(process);
        let run = self.operators[process]
            .sessions
            .get(rollout)
            .and_then(|session| session.state()?.run.as_ref().map(|run| run.number));
        if let Some(run) = run {
            self.check
                .too_many(process, run, self.failure_limit, published);
        }
    }

    fn write(&mut self, process: Process, rollout: &Key, write: Write) {
        let session = self.operators[process].sessions.get(rollout);
        let uid = session.and_then(crate::rollout::session::Session::uid);
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

    fn arrives(&mut self, process: Process, request: u64) {
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

    fn perform(&mut self, process: Process, request: u64, write: &Write) -> Written {
        let written = self.api.perform(write);
        let outcome = match &written {
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        self.say(format!("{request} of operator {process}: {outcome}"));
        self.spread(By::Operator);
        written
    }

    fn answer_in(&mut self, delay: i64, process: Process, request: u64, written: Written) {
        self.answers.insert((process, request), written);
        self.agenda
            .put(delay, Happening::Answers { process, request });
    }

    fn answers(&mut self, process: Process, request: u64) {
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
        let clock = operator.clock(now).now;
        if let Some(session) = operator
            .sessions
            .get_mut(&rollout)
            .filter(|session| session.uid() == uid)
            .filter(|session| session.uid() == uid)
        {
            let notes = session.wrote(written, clock);
            operator.due.insert(rollout);
            for note in notes {
                self.history.say(
                    now,
                    format!("operator {process}: {} {}", note.reason, note.text),
                );
            }
        }
        self.run_soon(process);
    }

    fn watched(&mut self, process: Process, stream: Stream) {
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
        let change = operator.watches.take(stream, &seen);
        if let (Stream::Pods, Seen::Deleted(pod)) = (stream, &seen) {
            operator.links.of.remove(&key(pod));
        }
        let now = self.agenda.now;
        if let Some(change) = change
            && operator.changed(change)
        {
            operator.gather(now);
        }
        self.run_soon(process);
    }

    fn judged(&mut self, process: Process, question: u64) {
        let now = self.agenda.now;
        let operator = &mut self.operators[process];
        let Some((rollout, question)) = operator.questions.remove(&question) else {
            return;
        };
        if !operator.alive {
            return;
        }
        let answer = self.prometheus.answer(&question, now);
        let clock = operator.clock(now).now.0;
        let Some(session) = operator.sessions.get_mut(&rollout) else {
            return;
        };
        let verdict = answer
            .outcome
            .as_ref()
            .map(|outcome| (outcome.verdict, outcome.requests));
        self.check.answered(
            process,
            &answer,
            session.state(),
            &question.scope.canary,
            clock,
        );
        session.answered(answer);
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

    fn publish(&mut self, process: Process) {
        if !self.operators[process].publish() {
            return;
        }
        let operator = &self.operators[process];
        let Some(served) = Served::of(&operator.world) else {
            return;
        };
        let labelled = operator.views.pods.state_filter(|pod| {
            pod.metadata
                .labels
                .as_ref()
                .is_some_and(|labels| labels.contains_key(REVISION_LABEL))
        });
        let copies: BTreeMap<IpAddr, String> = labelled
            .iter()
            .filter_map(|pod| {
                let address = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
                Some((
                    address,
                    pod.metadata.labels.as_ref()?.get(REVISION_LABEL)?.clone(),
                ))
            })
            .collect();
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

    // --- the proxies

    fn send(&mut self, proxy: usize, link: u64) {
        let Some((process, _)) = self.proxies[proxy].link else {
            return;
        };
        let operator = &mut self.operators[process];
        if let (Some(served), Some(known)) = (
            Served::of(&operator.world),
            operator.links.of.get_mut(&self.proxies[proxy].pod),
        ) {
            known.uses.insert(served.route.rollout);
            known.rejected = false;
        }
        if !self.proxies[proxy].hears {
            self.proxies[proxy].hears = true;
            let delay = self.chance.i64(1..100);
            self.agenda.put(delay, Happening::Hears { proxy, link });
        }
    }

    fn connects(&mut self, number: usize) {
        let now = self.agenda.now;
        if !self.proxies[number].there || self.proxies[number].link.is_some() {
            return;
        }
        let leader = self.leader.filter(|leader| {
            self.operators[*leader].alive && self.operators[*leader].stands_until <= now
        });
        let Some(process) = leader else {
            let delay = self.chance.i64(1_000..5_000);
            self.agenda
                .put(delay, Happening::Connects { proxy: number });
            return;
        };
        let stream = self.name();
        let proxy = &mut self.proxies[number];
        proxy.link = Some((process, stream));
        proxy.hears = false;
        let operator = &mut self.operators[process];
        operator.links.revoked.extend(
            proxy
                .memory
                .all()
                .into_iter()
                .map(|signed| signed.revocation),
        );
        // What it uses is what it will say first.
        let uses = proxy
            .installed
            .iter()
            .map(|served| served.route.rollout.clone())
            .collect();
        let link = Link {
            stream,
            state: LinkState::Open,
            accepted: None,
            uses,
            rejected: false,
        };
        operator.links.of.insert(proxy.pod.clone(), link);
        operator.wake_running();
        self.say(format!("proxy {number} connects to operator {process}"));
        self.run_soon(process);
        self.send(number, stream);
    }

    fn hears(&mut self, number: usize, link: u64) {
        let now = self.agenda.now;
        let proxy = &mut self.proxies[number];
        let Some((process, stream)) = proxy.link.filter(|(_, stream)| *stream == link) else {
            return;
        };
        if proxy.lags_until > now {
            let delay = proxy.lags_until - now;
            self.agenda.put(
                delay,
                Happening::Hears {
                    proxy: number,
                    link,
                },
            );
            return;
        }
        proxy.hears = false;
        let Some(served) = Served::of(&self.operators[process].world) else {
            return;
        };
        if proxy.refuses_until > now {
            if let Some(known) = self.operators[process].links.of.get_mut(&proxy.pod) {
                known.rejected = true;
            }
            // It is sent again with the next version only; here, when it refuses no more.
            let delay = proxy.refuses_until - now + 1;
            proxy.hears = true;
            self.agenda.put(
                delay,
                Happening::Hears {
                    proxy: number,
                    link,
                },
            );
            self.operators[process].wake_running();
            self.run_soon(process);
            return;
        }
        let chance = self.chance.f64();
        proxy.install(served, now, chance);
        proxy.says.push_back(proxy.installed.clone());
        self.check.installed(number, &self.proxies[number]);
        let delay = self.chance.i64(1..100);
        self.agenda.put(
            delay,
            Happening::Acknowledges {
                proxy: number,
                link: stream,
            },
        );
    }

    fn acknowledges(&mut self, number: usize, link: u64) {
        let proxy = &mut self.proxies[number];
        let said = proxy.says.pop_front().flatten();
        let Some((process, _)) = proxy.link.filter(|(_, stream)| *stream == link) else {
            return;
        };
        let operator = &mut self.operators[process];
        if !operator.alive {
            return;
        }
        if let (Some(known), Some(said)) = (operator.links.of.get_mut(&proxy.pod), said) {
            let served = Served::of(&operator.world).map(|served| served.route.rollout);
            known.uses = [said.route.rollout.clone()]
                .into_iter()
                .chain(served)
                .collect();
            known.accepted = Some(said);
            known.rejected = false;
        }
        operator.wake_running();
        self.run_soon(process);
    }

    pub(super) fn lose_stream(&mut self, number: usize) {
        let now = self.agenda.now;
        let proxy = &mut self.proxies[number];
        let Some((process, stream)) = proxy.link.take() else {
            return;
        };
        proxy.hears = false;
        let clock = self.operators[process].clock(now).now;
        self.operators[process]
            .links
            .lose(&proxy.pod, stream, clock);
        self.operators[process].wake_running();
        if self.operators[process].alive {
            self.run_soon(process);
        }
        let delay = self.chance.i64(500..10_000);
        self.agenda
            .put(delay, Happening::Connects { proxy: number });
    }

    // --- every second

    fn second(&mut self) {
        let now = self.agenda.now;
        let answering = self.answering();
        let mut counts: BTreeMap<String, Count> = BTreeMap::new();
        let excused = self.is_excused();
        for number in 0..self.proxies.len() {
            let proxy = &mut self.proxies[number];
            if !proxy.there {
                continue;
            }
            if let Some((process, _)) = proxy.link
                && self.operators[process].alive
                && self.operators[process].stands_until <= now
                && proxy.lags_until <= now
            {
                proxy.renew(now);
            }
            proxy.tick(now);
            let proxy = &self.proxies[number];
            let late = excused
                || proxy.link.is_none()
                || proxy.lags_until + 5_000 > now
                || proxy.refuses_until + 5_000 > now;
            self.check.requests(number, proxy, &answering, late, now);
            if let (Some(split), Some(served)) = (proxy.split(), &proxy.installed)
                && let Some(canary) = &split.canary
            {
                let share = f64::from(canary.weight.units()) / f64::from(Weight::SCALE);
                let endpoints = served.healthy(&canary.arm.cluster);
                let count = counts.entry(canary.arm.revision.clone()).or_default();
                count.requests += REQUESTS * share;
                for address in &endpoints {
                    let fails = answering
                        .get(address)
                        .is_none_or(|revision| self.is_bad(revision));
                    #[allow(clippy::cast_precision_loss)] // a handful of endpoints
                    let part = REQUESTS * share / endpoints.len() as f64;
                    count.failed += if fails { part / 2.0 } else { 0.0 };
                }
            }
        }
        self.prometheus.record(now, counts);
        self.watch_for_bad_versions();
        let written_to = self.wrong.now.is_empty() && self.alive().len() == 1;
        self.check.rollback_ends(excused || !written_to);
        if self.calm_since.is_some() {
            self.look_for_rest();
        }
        self.agenda.put(1000, Happening::Second);
    }

    fn is_bad(&self, revision: &str) -> bool {
        let number = self.check.number(revision);
        let version = self
            .versions
            .iter()
            .find(|version| Some(version.number) == number || version.revision == revision);
        version.is_some_and(|version| version.bad_from.is_some_and(|from| from <= self.agenda.now))
    }

    /// Views, or those who make them, may be behind.
    fn is_excused(&self) -> bool {
        let leader = self.leader.map(|leader| &self.operators[leader]);
        let present = leader.is_some_and(|leader| {
            leader.alive
                && leader.stands_until <= self.agenda.now
                && self.agenda.now - leader.started > 20_000
        });
        let behind = self.wrong.now.iter().any(|(_, mishap)| {
            matches!(
                mishap,
                Mishap::ApiAway
                    | Mishap::Stuck(_)
                    | Mishap::ControllersAway
                    | Mishap::Crash
                    | Mishap::Standstill
            )
        });
        !present || behind || self.is_illegible() || self.agenda.now - self.last_excuse < 30_000
    }

    /// A bad version is taken away in time, whatever the API server does.
    fn watch_for_bad_versions(&mut self) {
        let now = self.agenda.now;
        let interval = 10_000;
        let most = i64::from(self.failure_limit + 3) * (interval + 2_000) + 10_000;
        let bad = self.leader.is_some_and(|process| {
            let operator = &self.operators[process];
            let Some((run, weight)) = self.published(process).filter(|(_, weight)| *weight > 0)
            else {
                return false;
            };
            let state = operator
                .sessions
                .get(&self.rollout_key())
                .and_then(|session| session.state());
            let Some(running) = state
                .and_then(rollout_core::State::running)
                .filter(|running| running.number == run)
            else {
                return false;
            };
            let asks = self
                .proxies
                .iter()
                .filter(|proxy| proxy.there && proxy.uses().is_some())
                .count();
            #[allow(clippy::cast_precision_loss)] // a handful of proxies
            let requests = REQUESTS * 10.0 * asks as f64 * f64::from(weight) / 100.0;
            operator.alive
                && operator.stands_until <= now
                && self.prometheus.prompt(now)
                && requests > 10.0
                && self.is_bad(&running.canary.revision)
        });
        self.check.bad(bad, most, now);
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
        Verb::Delete { .. } => "deletes".to_owned(),
        Verb::Tell { note, .. } => format!("tells {} {}", note.reason, note.text),
    };
    format!("{what} {kind:?} {key}")
}
