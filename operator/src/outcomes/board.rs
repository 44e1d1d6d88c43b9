//! The sums over all proxies: by rollout and second, the canary beside stable.

use std::collections::{BTreeMap, HashMap};

use traffic_core::outcome::{Class, Counts};

use super::Word;
use crate::key::Key;

/// A second of which everything has ended is closed this long after its end: proxies tell it within 0.3 s, and what they say takes its way.
const SOON: i64 = 500;
/// Any other is closed then: the third and last time that it is told.
const LATEST: i64 = 2_750;
/// How often a second is looked at that could be closed, but for what has not ended in it.
const AGAIN: i64 = 100;
/// Seconds before the present one that something may still be said of.
const OPEN: i64 = 4;

/// Whose requests are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub service: Key,
    /// Empty: all of them.
    pub ports: Vec<u16>,
    pub stable: String,
    pub canary: String,
}

/// A second of which nothing more is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Since the Unix epoch.
    pub at: i64,
    pub canary: Counts,
    pub stable: Counts,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Added {
    /// Nobody follows its revision or port.
    Unfollowed,
    /// Its second is closed.
    Closed,
    /// The proxy may not call.
    Stranger,
    /// The proxy goes by an older weight.
    Behind,
    Counted,
}

#[derive(Default)]
pub(super) struct Board {
    followed: HashMap<Key, Followed>,
    /// Who follows a Service, by `<namespace>/<service>`.
    by_service: HashMap<String, Vec<Key>>,
}

struct Followed {
    subject: Subject,
    open: BTreeMap<i64, Arms>,
    /// Nothing is counted before this second any more.
    from: i64,
}

#[derive(Default)]
struct Arms {
    canary: Counts,
    stable: Counts,
}

impl Arms {
    fn has_ended(&self) -> bool {
        let ended = |counts: &Counts| counts.ended.total() >= counts.started;
        ended(&self.canary) && ended(&self.stable)
    }
}

/// `<namespace>/<service>/<port>/<revision>`
pub(super) struct Name<'a> {
    /// `<namespace>/<service>`
    pub(super) service: &'a str,
    port: u16,
    pub(super) revision: &'a str,
}

impl<'a> Name<'a> {
    pub(super) fn read(cluster: &'a str) -> Option<Name<'a>> {
        let mut parts = cluster.splitn(4, '/');
        let (namespace, service) = (parts.next()?, parts.next()?);
        Some(Name {
            service: &cluster[..namespace.len() + 1 + service.len()],
            port: parts.next()?.parse().ok()?,
            revision: parts.next()?,
        })
    }
}

impl Board {
    pub(super) fn follow(&mut self, rollout: &Key, subject: Option<&Subject>) {
        let before = self.followed.get(rollout).map(|it| &it.subject);
        if before == subject {
            return;
        }
        if let Some(before) = self.followed.remove(rollout)
            && let Some(followers) = self.by_service.get_mut(&before.service())
        {
            followers.retain(|each| each != rollout);
            if followers.is_empty() {
                self.by_service.remove(&before.service());
            }
        }
        if let Some(subject) = subject {
            let service = subject.service.to_string();
            let followers = self.by_service.entry(service).or_default();
            followers.push(rollout.clone());
            let followed = Followed {
                subject: subject.clone(),
                open: BTreeMap::new(),
                from: i64::MIN,
            };
            self.followed.insert(rollout.clone(), followed);
        }
    }

    pub(super) fn is_followed(&self, name: &Name<'_>) -> bool {
        let followers = self.by_service.get(name.service).into_iter().flatten();
        let mut subjects = followers.filter_map(|rollout| self.followed.get(rollout));
        subjects.any(|followed| followed.arm(name).is_some())
    }

    /// Whether a second may still be spoken of, in the present one.
    pub(super) fn may_come(&self, at: i64, now: i64) -> bool {
        (now - OPEN..=now).contains(&at)
    }

    pub(super) fn add(
        &mut self,
        name: &Name<'_>,
        at: i64,
        counts: &Counts,
        now: i64,
        word: &dyn Fn(&Key) -> Word,
    ) -> Added {
        let mut added = Added::Unfollowed;
        for rollout in self.by_service.get(name.service).into_iter().flatten() {
            let Some(followed) = self.followed.get_mut(rollout) else {
                continue;
            };
            if followed.arm(name).is_none() {
                continue;
            }
            let one = match word(rollout) {
                Word::Counts => followed.add(name, at, counts, now),
                Word::Behind => Added::Behind,
                Word::Stranger => Added::Stranger,
            };
            added = added.max(one);
        }
        added
    }

    pub(super) fn is_open(&self) -> bool {
        self.followed.values().any(|it| !it.open.is_empty())
    }

    /// When there may be something to close.
    pub(super) fn due(&self, now: i64) -> Option<i64> {
        let due = |followed: &Followed| {
            let (at, _) = followed.open.first_key_value()?;
            let end = (at + 1) * 1000;
            let first = end + SOON;
            let again = (now + AGAIN).min(end + LATEST);
            // A second to come is one of before the clock was set back: others will be told meanwhile.
            Some(if now < first { first } else { again }.min(now + 1000 + SOON))
        };
        self.followed.values().filter_map(due).min()
    }

    pub(super) fn close(&mut self, now: i64) -> Vec<(Key, Vec<Closed>)> {
        let closed = self.followed.iter_mut().filter_map(|(rollout, followed)| {
            let closed = followed.close(now);
            (!closed.is_empty()).then(|| (rollout.clone(), closed))
        });
        closed.collect()
    }
}

impl Followed {
    fn service(&self) -> String {
        self.subject.service.to_string()
    }

    /// Which of the two sums is its.
    fn arm(&self, name: &Name<'_>) -> Option<fn(&mut Arms) -> &mut Counts> {
        let Subject {
            ports,
            stable,
            canary,
            ..
        } = &self.subject;
        let is_asked = ports.is_empty() || ports.contains(&name.port);
        match name.revision {
            revision if is_asked && revision == canary => Some(|arms| &mut arms.canary),
            revision if is_asked && revision == stable => Some(|arms| &mut arms.stable),
            _ => None,
        }
    }

    fn add(&mut self, name: &Name<'_>, at: i64, counts: &Counts, now: i64) -> Added {
        let Some(arm) = self.arm(name) else {
            return Added::Unfollowed;
        };
        // A clock that was set back must not leave us deaf until it shows the same time again.
        if self.from > now + 1 {
            self.from = now - OPEN;
        }
        if at < self.from {
            return Added::Closed;
        }
        arm(self.open.entry(at).or_default()).merge(counts);
        Added::Counted
    }

    fn close(&mut self, now: i64) -> Vec<Closed> {
        let mut closed = Vec::new();
        while let Some(oldest) = self.open.first_entry() {
            let since = now - (oldest.key() + 1) * 1000;
            let is_over = since >= LATEST || (since >= SOON && oldest.get().has_ended());
            if !is_over {
                break;
            }
            let (at, arms) = oldest.remove_entry();
            self.from = at + 1;
            closed.push(Closed {
                at,
                canary: arms.canary,
                stable: arms.stable,
            });
        }
        closed
    }
}

/// First attempts that say something about the revision, and how many of them speak against it. Whose caller went away first
/// says nothing.
impl Closed {
    pub fn counts(of: &Counts) -> (u64, u64) {
        let started = of.started.saturating_sub(of.ended[Class::ClientClosed]);
        (started, of.ended.errors().min(started))
    }
}
