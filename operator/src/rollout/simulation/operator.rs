//! One operator process: it plays the driver's part, with the real sessions, traffic and view of the mesh. Whom it wakes, and
//! in which order, the seed says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rollout_core::time::{Span, Time};
use traffic_core::lease::LEASE;

use super::proxies::{Links, millis};
use super::reports::Report;
use super::watch::{Pending, Stream, Watches};
use crate::admission::rollout::PrometheusPolicy;
use crate::key::Key;
use crate::mesh::World as MeshWorld;
use crate::outcomes::Subject;
use crate::rollout::changes::{self, Change};
use crate::rollout::evidence::Question;
use crate::rollout::heard::{Acknowledgement, Heard, Laggard};
use crate::rollout::hooks::Call;
use crate::rollout::session::{Clock, Session, Step, World};
use crate::rollout::sessions::Sessions;
use crate::rollout::traffic::{Published, Traffic};
use crate::rollout::views::{Sidecar, Views};
use crate::rollout::write::Write;

/// Nothing sleeps longer than this: the clock may be set meanwhile.
const LONGEST_SLEEP: i64 = 30_000;
/// How long changes of endpoints are gathered.
const GATHER: i64 = 50;

/// The rollout that a request is for: its name, and which of that name.
pub(super) type Asker = (Key, Option<String>);

pub(super) struct Operator {
    pub(super) alive: bool,
    /// It stands still until then: a machine that is overloaded, or a process that was stopped.
    pub(super) stands_until: i64,
    pub(super) watches: Watches,
    pub(super) pending: BTreeMap<Stream, Pending>,
    pub(super) views: Views,
    pub(super) traffic: Traffic,
    pub(super) sessions: Sessions,
    pub(super) due: BTreeSet<Key>,
    /// By the time that passed. Nothing covers a wake that was missed, as the driver's second look would.
    wakes: BTreeMap<Key, i64>,
    pub(super) gathered: Option<i64>,
    pub(super) started: i64,
    /// How far its clock is from the true one.
    pub(super) clock: i64,
    pub(super) requests: BTreeMap<u64, (Asker, Write)>,
    /// With the clock as it was when they were asked.
    pub(super) questions: BTreeMap<u64, (Key, Question, i64)>,
    /// Of hooks, under way.
    pub(super) calls: BTreeMap<u64, (Key, Call)>,
    /// Whose requests its sessions follow.
    pub(super) follows: BTreeMap<Key, Subject>,
    /// Seconds on their way to it.
    pub(super) reports: VecDeque<Report>,
    pub(super) links: Links,
    pub(super) world: Arc<MeshWorld>,
    /// When it runs next.
    pub(super) runs_at: Option<i64>,
    policy: PrometheusPolicy,
    pub(super) steps: u64,
}

impl Operator {
    pub(super) fn new(now: i64) -> Operator {
        let watches = Watches::new();
        Operator {
            alive: true,
            stands_until: 0,
            views: watches.views(),
            watches,
            pending: Stream::ALL
                .map(|stream| (stream, Pending::default()))
                .into(),
            traffic: Traffic::default(),
            sessions: Sessions::default(),
            due: BTreeSet::new(),
            wakes: BTreeMap::new(),
            gathered: None,
            started: now,
            clock: 0,
            requests: BTreeMap::new(),
            questions: BTreeMap::new(),
            calls: BTreeMap::new(),
            follows: BTreeMap::new(),
            reports: VecDeque::new(),
            links: Links::default(),
            world: Arc::default(),
            runs_at: None,
            policy: PrometheusPolicy {
                default: Some("http://prometheus".to_owned()),
                allowed: Vec::new(),
            },
            steps: 0,
        }
    }

    pub(super) fn clock(&self, now: i64) -> Clock {
        Clock {
            now: Time(super::EPOCH + now + self.clock),
            passed: Span(now - self.started),
        }
    }

    /// Notes whom a change wakes; says whether the world may be another one.
    pub(super) fn changed(&mut self, change: &Change) -> bool {
        self.due.extend(changes::woken(&self.views, change));
        if *change == Change::Everything {
            self.due.extend(self.sessions.keys().cloned());
        }
        self.traffic.touch(&self.views, change)
    }

    pub(super) fn wake_everything(&mut self) {
        self.changed(&Change::Everything);
    }

    pub(super) fn wake_running(&mut self) {
        self.due.extend(self.sessions.waiting().cloned());
    }

    /// What the time has made due.
    pub(super) fn wake_by_time(&mut self, now: i64) {
        let due: Vec<Key> = self
            .wakes
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.wakes.remove(&key);
            self.due.insert(key);
        }
    }

    /// When it has to look at the clock again.
    pub(super) fn sleeps(&self, now: i64) -> i64 {
        let next = self
            .wakes
            .values()
            .min()
            .map_or(LONGEST_SLEEP, |at| at - now);
        let gathered = self.gathered.map_or(LONGEST_SLEEP, |at| at - now);
        next.min(gathered).clamp(0, LONGEST_SLEEP)
    }

    pub(super) fn gather(&mut self, now: i64) {
        self.gathered.get_or_insert(now + GATHER);
    }

    /// Steps one rollout. Says what it asks for, and whether its traffic is to go another way.
    pub(super) fn step(&mut self, key: &Key, now: i64) -> Option<(Step, bool)> {
        self.steps += 1;
        let clock = self.clock(now);
        self.sessions.refresh(&self.views, key, clock.now);
        let heard = self.heard(key, clock.now, now);
        let Some(session) = self.sessions.get_mut(key) else {
            self.wakes.remove(key);
            let other_way = self.traffic.set(key, None);
            return Some((Step::default(), other_way));
        };
        let world = World {
            views: &self.views,
            policy: &self.policy,
        };
        let mut step = session.step(world, heard, clock);
        let other_way = self.traffic.set(key, step.split.take());
        self.wakes.remove(key);
        if let Some(wake) = step.wake {
            self.wakes
                .insert(key.clone(), now.saturating_add((wake - clock.now).0));
        }
        if step.over {
            self.sessions.remove(key);
            self.wakes.remove(key);
        }
        Some((step, other_way))
    }

    fn heard(&mut self, key: &Key, clock: Time, now: i64) -> Heard {
        let waits = self.sessions.get(key).is_some_and(Session::waits);
        let mut acks = self.links.acknowledgement(key, &self.world, clock);
        let left = self.started + millis(LEASE) - now;
        if waits && left > 0 {
            self.add_silent(&mut acks, clock + Span(left), now);
        }
        let rollout = key.to_string();
        let revoked = self
            .links
            .revoked
            .iter()
            .filter(|each| each.rollout == rollout);
        Heard {
            sent: self.traffic.sent(key),
            acks,
            revoked: revoked
                .map(|each| (each.revision.clone(), each.run))
                .collect(),
            streams: BTreeMap::new(),
        }
    }

    /// Sidecars that run and have no stream: nobody knows what they use. Those of the pods that are called come back at once.
    fn add_silent(&self, acks: &mut Acknowledgement, until: Time, now: i64) {
        let connected = self.links.open();
        let called_are_back = now - self.started > 10_000;
        let mut pods = self.views.pods.state();
        pods.sort_by(|a, b| a.key.cmp(&b.key));
        for pod in pods {
            let key = pod.key.clone();
            let counted = acks.laggards.iter().any(|each| each.pod == key);
            let called = key.namespace == "shop";
            if counted
                || connected.contains(&key)
                || pod.sidecar != Sidecar::Runs
                || (called && called_are_back)
            {
                continue;
            }
            acks.proxies += 1;
            if acks.laggards.len() < 10 {
                acks.laggards.push(Laggard {
                    pod: key,
                    until: Some(until),
                });
            }
        }
    }

    /// What is served from now on. Says whether that is another world.
    pub(super) fn publish(&mut self) -> bool {
        self.gathered = None;
        let Published { change, told } = self.traffic.publish(&self.views);
        self.due.extend(told);
        let other = Arc::make_mut(&mut self.world).apply(change);
        assert_eq!(
            *self.world,
            self.traffic.afresh(&self.views),
            "a change was not taken for what it is about"
        );
        other
    }
}
