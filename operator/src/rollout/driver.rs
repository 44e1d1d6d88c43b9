//! The driver: the one task that knows everybody. It wakes sessions, steps them, and hands what they ask to whoever does it;
//! what comes of that wakes them again.
//!
//! ```text
//!   changes of views, acknowledgements, answers, time -> due -> Session::step -> split    -> proxies, at once
//!                                                                             -> question -> Prometheus, beside
//!                                                                             -> call     -> hook, beside
//!                                                                             -> write    -> API server, beside
//! ```
//!
//! No step waits, so no rollout waits for another, and none for its own writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use rollout_core::judge::Verdict;
use rollout_core::time::{Span, Time};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use traffic_core::spiffe::TrustDomain;

use super::changes::{self, Change};
use super::evidence::{Answer, Question};
use super::heard::Heard;
use super::hooks::{Call, CallError, Called, Caller};
use super::measure;
use super::measure::access::Access;
use super::perform::Performer;
use super::proxies::{self, Silent};
use super::said::tell;
use super::session::{Clock, Session, World};
use super::sessions::Sessions;
use super::shown;
use super::traffic::{Published, Traffic};
use super::views::Views;
use super::write::{Write, WriteError, Written};
use crate::admission::rollout::PrometheusPolicy;
use crate::ads::{Ads, Touched};
use crate::key::Key;
use crate::metrics::Metrics;
use crate::notify::{self, Notifier};
use crate::strict::Demanded;

/// How long changes of endpoints are gathered, at least: for so many times as long as it takes to make what they are about.
const GATHER: Duration = Duration::from_millis(50);
const GATHER_TIMES: u32 = 10;
const GATHER_MOST: Duration = Duration::from_secs(1);
/// Nothing sleeps longer than this: the clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// A request that has not come to an end by then has failed.
const PATIENCE: Duration = Duration::from_secs(12);
/// A rollout that waits for somebody is looked at at least this often.
const AGAIN: Span = Span::seconds(30);
/// Changes that are taken in before anybody is looked at.
const AT_ONCE: usize = 4096;
/// Requests to the API server at the same time.
const WRITES: usize = 16;

pub struct Driver {
    views: Views,
    ads: Ads,
    policy: PrometheusPolicy,
    performer: Performer,
    access: Access,
    caller: Caller,
    metrics: Metrics,
    notifier: Notifier,
    /// Whose condition Stalled is True, and why.
    stalled: HashMap<Key, Option<String>>,
    writes: Arc<Semaphore>,
    traffic: Traffic,
    sessions: Sessions,
    due: BTreeSet<Key>,
    wakes: Wakes,
    work: JoinSet<Done>,
    silent: Silent,
    started: Instant,
}

/// What was done beside the steps.
enum Done {
    /// With the uid of the rollout that asked for it: another one of its name may be there by now.
    Wrote(Key, Option<String>, Written),
    Answered(Key, Answer),
    Called(Key, Option<String>, Called),
}

/// When to look at whom again, by the time that passed since the process started: the time of day may be set, and what is put
/// off until a time of day that was set back would be put off for as long.
#[derive(Default)]
struct Wakes {
    at: BTreeSet<(Time, Key)>,
    of: HashMap<Key, Time>,
}

impl Wakes {
    fn set(&mut self, key: &Key, at: Option<Time>) {
        if let Some(before) = self.of.remove(key) {
            self.at.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.of.insert(key.clone(), at);
            self.at.insert((at, key.clone()));
        }
    }

    fn due(&mut self, now: Time) -> Vec<Key> {
        let due: Vec<Key> = self
            .at
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, key)| key.clone())
            .collect();
        due.iter().for_each(|key| self.set(key, None));
        due
    }

    fn sleep(&self, now: Time) -> Duration {
        let next = self.at.first().map_or(i64::MAX, |(at, _)| (*at - now).0);
        Duration::from_millis(u64::try_from(next).unwrap_or(0)).min(LONGEST_SLEEP)
    }
}

impl Driver {
    pub fn new(
        views: Views,
        ads: Ads,
        policy: PrometheusPolicy,
        performer: Performer,
        access: Access,
        caller: Caller,
        metrics: Metrics,
    ) -> Driver {
        let started = Instant::now();
        Driver {
            views,
            ads,
            policy,
            performer,
            access,
            caller,
            notifier: Notifier::nobody(metrics.clone()),
            stalled: HashMap::new(),
            metrics,
            writes: Arc::new(Semaphore::new(WRITES)),
            traffic: Traffic::default(),
            sessions: Sessions::default(),
            due: BTreeSet::new(),
            wakes: Wakes::default(),
            work: JoinSet::new(),
            silent: Silent::new(started),
            started,
        }
    }

    /// Whom it tells what happens to releases.
    #[must_use]
    pub fn telling(self, notifier: Notifier) -> Driver {
        Driver { notifier, ..self }
    }

    /// Which trust domain pods have their names of; without it they have none.
    #[must_use]
    pub fn naming(mut self, trust_domain: TrustDomain) -> Driver {
        self.traffic.naming(trust_domain);
        self
    }

    /// Which namespaces refuse plaintext, and where they have their names of (after [`Driver::naming`]).
    #[must_use]
    pub fn demanding(mut self, demanded: &Demanded) -> Driver {
        self.traffic.demanding(demanded);
        self
    }

    /// Every rollout that is known says its split, then the world is served: a restart must not look like a rollback.
    pub fn open(&mut self) {
        self.silent.fill(&self.ads, &self.views);
        self.changed(&Change::Everything);
        let clock = self.clock();
        for key in self.due.clone() {
            self.sessions.refresh(&self.views, &key, clock.now);
            let world = World {
                views: &self.views,
                policy: &self.policy,
            };
            let session = self.sessions.get(&key);
            let split = session.and_then(|session| session.resume(world, clock.now));
            self.traffic.set(&key, split);
        }
        // Nobody is served yet: what is wrong with it is put right before anybody is.
        self.publish();
        while self.step_due() {
            self.publish();
        }
    }

    /// Until `stop`.
    pub async fn run(
        mut self,
        mut changes: mpsc::UnboundedReceiver<Change>,
        stop: CancellationToken,
    ) {
        let mut acknowledged = self.ads.changes();
        let mut gathered: Option<tokio::time::Instant> = None;
        let mut gather = GATHER;
        let mut changed = Vec::new();
        let outcomes = self.ads.outcomes().clone();
        let mut judged: Option<tokio::time::Instant> = None;
        loop {
            let due = self.wakes.due(self.passed());
            self.due.extend(due);
            while self.step_due() {
                gathered = None;
                self.publish();
            }
            let sleep = self.wakes.sleep(self.passed());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(done) = self.work.join_next() => {
                    // A task that was cancelled belongs to a process that ends.
                    if let Ok(done) = done {
                        self.done(done);
                    }
                }
                () = outcomes.opened(), if judged.is_none() => {
                    judged = self.judges_at();
                }
                () = until(judged) => {
                    self.close();
                    judged = self.judges_at();
                }
                changed = acknowledged.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if self.heard_of() {
                        gathered.get_or_insert_with(|| tokio::time::Instant::now() + gather);
                    }
                }
                count = changes.recv_many(&mut changed, AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    for change in changed.drain(..) {
                        if self.changed(&change) {
                            gathered.get_or_insert_with(|| tokio::time::Instant::now() + gather);
                        }
                    }
                }
                () = until(gathered) => {
                    gathered = None;
                    let begun = Instant::now();
                    self.publish();
                    gather = (begun.elapsed() * GATHER_TIMES).clamp(GATHER, GATHER_MOST);
                }
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Steps those who are due, until the traffic of one is to go another way: that waits for nobody.
    fn step_due(&mut self) -> bool {
        while let Some(key) = self.due.pop_first() {
            if self.step(&key) {
                return true;
            }
        }
        false
    }

    /// Notes whom a change wakes; says whether the world may be another one.
    fn changed(&mut self, change: &Change) -> bool {
        self.due.extend(changes::woken(&self.views, change));
        match change {
            Change::Everything => {
                self.due.extend(self.sessions.keys().cloned());
                self.traffic.identities.fill(&self.ads, &self.views);
            }
            Change::Pod(pod) => {
                self.silent.look(&self.ads, &self.views, pod);
                self.traffic.identities.look(&self.ads, &self.views, pod);
            }
            _ => {}
        }
        self.traffic.touch(&self.views, change)
    }

    /// Wakes those who wait for the proxies of which there are news; says whether the world may be another one.
    fn heard_of(&mut self) -> bool {
        let Touched { rollouts, pods } = self.ads.take_touched();
        let before = self.silent.count();
        for pod in &pods {
            self.silent.look(&self.ads, &self.views, pod);
        }
        if before != self.silent.count() {
            // Everybody who waits waits for those that nobody has heard of.
            self.due.extend(self.sessions.waiting().cloned());
        }
        for rollout in rollouts {
            let key = Key::read(&rollout);
            let waits = |key: &Key| self.sessions.get(key).is_some_and(Session::waits);
            self.due.extend(key.filter(waits));
        }
        let mut other = false;
        for pod in pods {
            if self.traffic.identities.look(&self.ads, &self.views, &pod) {
                other |= self.traffic.touch(&self.views, &Change::Pod(pod));
            }
        }
        other
    }

    /// When a second may be over.
    fn judges_at(&self) -> Option<tokio::time::Instant> {
        let now = now().0;
        let wait = self.ads.outcomes().due(now)? - now;
        let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
        Some(tokio::time::Instant::now() + wait)
    }

    /// Hands out the seconds that are over.
    fn close(&mut self) {
        for (key, seconds) in self.ads.outcomes().close(now().0) {
            if let Some(session) = self.sessions.get_mut(&key)
                && session.closed(&seconds)
            {
                self.due.insert(key);
            }
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Wrote(key, uid, written) => {
                let clock = self.clock();
                let session = self.sessions.get_mut(&key);
                if let Some(session) = session.filter(|session| session.uid() == uid) {
                    let notes = session.wrote(written, clock);
                    tell(&self.metrics, &key, &notes);
                    self.notifier.notes(&key, &notes);
                    self.due.insert(key);
                }
            }
            Done::Answered(key, answer) => {
                let verdict = answer.outcome.as_ref().map(|outcome| outcome.verdict);
                self.metrics.judged(match verdict {
                    Some(Verdict::Pass) => "Pass",
                    Some(Verdict::Fail) => "Fail",
                    Some(Verdict::NoEvidence) | None => "NoEvidence",
                });
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.answered(answer);
                    self.due.insert(key);
                }
            }
            Done::Called(key, uid, called) => {
                let error = called.result.as_ref().err();
                self.metrics.called(error.map(CallError::category));
                let clock = self.clock();
                let session = self.sessions.get_mut(&key);
                if let Some(session) = session.filter(|session| session.uid() == uid) {
                    let notes = session.called(&called, clock);
                    tell(&self.metrics, &key, &notes);
                    self.notifier.notes(&key, &notes);
                    self.due.insert(key);
                }
            }
        }
    }

    /// Steps one rollout. Says whether its traffic is to go another way.
    fn step(&mut self, key: &Key) -> bool {
        let begun = Instant::now();
        let other_way = self.look(key);
        self.metrics.looked(begun.elapsed(), self.due.len());
        other_way
    }

    fn look(&mut self, key: &Key) -> bool {
        let clock = self.clock();
        self.sessions.refresh(&self.views, key, clock.now);
        let heard = self.heard(key, clock.now);
        let Some(session) = self.sessions.get_mut(key) else {
            self.wakes.set(key, None);
            self.metrics.show(key, None);
            self.stalled.remove(key);
            return self.traffic.set(key, None);
        };
        let seen = heard.clone();
        let world = World {
            views: &self.views,
            policy: &self.policy,
        };
        let step = session.step(world, heard, clock);
        let shown = shown::of(session, &seen);
        let message = session.status().and_then(|status| status.message.as_ref());
        let before = self.stalled.insert(key.clone(), shown.stalled.clone());
        if let Some(stalled) = notify::stalled(key, before, &shown, message, clock.now) {
            self.notifier.offer(&stalled);
        }
        self.metrics.show(key, Some(shown));
        tell(&self.metrics, key, &step.happened);
        self.notifier.notes(key, &step.happened);
        let other_way = self.traffic.set(key, step.split);
        self.ads.outcomes().follow(key, step.follows.as_ref());
        self.ads.outcomes().wait_for(key, step.awaits.as_ref());
        // A wake that was missed costs no more than this.
        let again = session.waits().then_some(clock.now + AGAIN);
        let wake = step.wake.into_iter().chain(again).min();
        let passed = Time(clock.passed.0);
        self.wakes
            .set(key, wake.map(|at| passed + (at - clock.now)));
        if let Some(question) = step.question {
            self.ask(key.clone(), question);
        }
        for call in step.calls {
            self.call(key.clone(), call);
        }
        if let Some(write) = step.write {
            self.write(key.clone(), write);
        }
        if step.over {
            self.sessions.remove(key);
            self.ads.forget_rollout(&key.to_string());
            self.ads.outcomes().follow(key, None);
            self.ads.outcomes().wait_for(key, None);
            self.metrics.show(key, None);
            self.stalled.remove(key);
            self.wakes.set(key, None);
        }
        other_way
    }

    fn heard(&self, key: &Key, now: Time) -> Heard {
        let waits = self.sessions.get(key).is_some_and(Session::waits);
        let silent = waits.then_some(&self.silent);
        Heard {
            sent: self.traffic.sent(key),
            acks: proxies::acknowledgement(&self.ads, key, silent, now),
            revoked: self.ads.revoked_of(&key.to_string()),
            streams: self.streams(key),
        }
    }

    fn streams(&self, key: &Key) -> BTreeMap<String, Time> {
        let said = self.ads.outcomes().streams(key).into_iter();
        said.map(|(revision, at)| (revision, Time(at))).collect()
    }

    fn publish(&mut self) {
        let Published { change, told } = self.traffic.publish(&self.views);
        self.ads.apply(change);
        // What was sent is a part of what they look at.
        self.due.extend(told);
    }

    fn ask(&mut self, key: Key, question: Question) {
        let access = self.access.clone();
        self.work.spawn(async move {
            let asking = async {
                let (namespace, address) = (&question.scope.namespace, &question.address);
                let auth = question.auth.as_ref();
                let prometheus = access.to(namespace, address.as_deref(), auth).await;
                measure::judge_window(prometheus, &question.scope, &question.checks).await
            };
            let outcome = AssertUnwindSafe(asking).catch_unwind().await.ok();
            Done::Answered(
                key,
                Answer {
                    run: question.run,
                    start: question.start,
                    end: question.end,
                    outcome,
                },
            )
        });
    }

    /// A rollout has at most one that it waits for, and one that tells; neither holds anything else up.
    fn call(&mut self, key: Key, call: Call) {
        let caller = self.caller.clone();
        let uid = self.sessions.get(&key).and_then(Session::uid);
        self.work.spawn(async move {
            let calling = AssertUnwindSafe(caller.call(&key.namespace, &call)).catch_unwind();
            let result = calling.await.unwrap_or(Err(CallError::Ended));
            let called = Called {
                id: call.id,
                result,
            };
            Done::Called(key, uid, called)
        });
    }

    fn write(&mut self, key: Key, write: Write) {
        let (performer, writes) = (self.performer.clone(), Arc::clone(&self.writes));
        let uid = self.sessions.get(&key).and_then(Session::uid);
        let (metrics, decided) = (self.metrics.clone(), Instant::now());
        metrics.writing();
        self.work.spawn(async move {
            // The semaphore is never closed.
            let _permit = writes.acquire().await;
            let performing = AssertUnwindSafe(performer.perform(write)).catch_unwind();
            let written = match tokio::time::timeout(PATIENCE, performing).await {
                Ok(Ok(written)) => written,
                Ok(Err(_)) => Err(WriteError::Unavailable("the request panicked".to_owned())),
                Err(_) => Err(WriteError::Unavailable("no answer in time".to_owned())),
            };
            let error = written.as_ref().err().map(WriteError::category);
            metrics.wrote(decided.elapsed(), error);
            Done::Wrote(key, uid, written)
        });
    }

    fn passed(&self) -> Time {
        Time(self.clock().passed.0)
    }

    fn clock(&self) -> Clock {
        let passed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Clock {
            now: now(),
            passed: Span(passed),
        }
    }
}

fn now() -> Time {
    Time(Timestamp::now().as_millisecond())
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("shop", name)
    }

    #[test]
    fn whoever_is_due_is_woken_once_and_the_newest_time_counts() {
        let mut wakes = Wakes::default();
        wakes.set(&key("a"), Some(Time(10)));
        wakes.set(&key("b"), Some(Time(20)));
        wakes.set(&key("a"), Some(Time(30)));
        assert_eq!(wakes.due(Time(19)), []);
        assert_eq!(wakes.due(Time(30)), [key("b"), key("a")]);
        assert_eq!(wakes.due(Time(99)), []);
        wakes.set(&key("a"), Some(Time(100)));
        wakes.set(&key("a"), None);
        assert_eq!(wakes.due(Time(200)), []);
    }

    #[test]
    fn a_sleep_ends_with_the_next_wake_and_is_never_long() {
        let mut wakes = Wakes::default();
        assert_eq!(wakes.sleep(Time(0)), LONGEST_SLEEP);
        wakes.set(&key("a"), Some(Time(1500)));
        assert_eq!(wakes.sleep(Time(500)), Duration::from_secs(1));
        assert_eq!(wakes.sleep(Time(9000)), Duration::ZERO);
        wakes.set(&key("a"), Some(Time(10_000_000)));
        assert_eq!(wakes.sleep(Time(0)), LONGEST_SLEEP);
    }
}
