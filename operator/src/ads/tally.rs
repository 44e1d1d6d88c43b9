//! Where the proxies stand with one rollout, counted as they move: an acknowledgement costs one pod, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollout_core::time::Time;

use super::acks::{Acks, Laggard, Rejection};
use crate::key::Key;

/// How many laggards are named.
const NAMED: usize = 10;

/// One proxy that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) acknowledged: bool,
    pub(super) endpoints: bool,
    /// Its stream is lost: when it counts no more.
    pub(super) until: Option<Time>,
    /// Its newest NACK about what is served now, and the order of NACKs.
    pub(super) rejection: Option<(u64, Arc<str>)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    counted: BTreeMap<Key, Counted>,
    acknowledged: u32,
    endpoints: u32,
    lagging: BTreeSet<Key>,
    lapses: BTreeSet<(Time, Key)>,
    /// By the order of NACKs.
    rejections: BTreeMap<u64, Key>,
}

impl Tally {
    /// `None`: it does not count.
    pub(super) fn put(&mut self, key: &Key, now: Option<Counted>) {
        if let Some(before) = self.counted.remove(key) {
            self.acknowledged -= u32::from(before.acknowledged);
            self.endpoints -= u32::from(before.endpoints);
            self.lagging.remove(key);
            if let Some(until) = before.until {
                self.lapses.remove(&(until, key.clone()));
            }
            if let Some((order, _)) = before.rejection {
                self.rejections.remove(&order);
            }
        }
        let Some(now) = now else { return };
        self.acknowledged += u32::from(now.acknowledged);
        self.endpoints += u32::from(now.endpoints);
        if !now.acknowledged {
            self.lagging.insert(key.clone());
        }
        if let Some(until) = now.until {
            self.lapses.insert((until, key.clone()));
        }
        if let Some((order, _)) = now.rejection {
            self.rejections.insert(order, key.clone());
        }
        self.counted.insert(key.clone(), now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    pub(super) fn is_acknowledged(&self) -> bool {
        self.lagging.is_empty()
    }

    pub(super) fn counts(&self, key: &Key) -> bool {
        self.counted.contains_key(key)
    }

    pub(super) fn acks(&self) -> Acks {
        let newest = self.rejections.values().next_back();
        let rejected = newest.and_then(|pod| {
            let (_, text) = self.counted.get(pod)?.rejection.as_ref()?;
            Some(Rejection {
                pod: pod.clone(),
                text: Arc::clone(text),
            })
        });
        Acks {
            proxies: u32::try_from(self.counted.len()).unwrap_or(u32::MAX),
            acknowledged: self.acknowledged,
            endpoints: self.endpoints,
            laggards: self
                .lagging
                .iter()
                .take(NAMED)
                .map(|pod| self.laggard(pod))
                .collect(),
            next_lapse: self.lapses.first().map(|(until, _)| *until),
            rejected,
        }
    }

    fn laggard(&self, pod: &Key) -> Laggard {
        Laggard {
            pod: pod.clone(),
            until: self.counted.get(pod).and_then(|counted| counted.until),
        }
    }
}
