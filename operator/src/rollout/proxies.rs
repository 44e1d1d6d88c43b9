//! What the xDS server knows of the proxies, for one rollout: who uses what was sent, and who is waited for.
//!
//! A proxy counts while it has a route of the rollout's Services, and, once its stream is lost, until its weight lease has
//! lapsed. An operator that has just started does not know who had what: for one lease, every sidecar that runs and has no
//! stream counts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rollout_core::time::{Span, Time};
use traffic_core::lease::LEASE;

use super::heard::{Acknowledgement, Laggard};
use super::views::{Sidecar, Views};
use crate::ads::Ads;
use crate::key::Key;

/// How many laggards are named.
const NAMED: usize = 10;

/// Sidecars that run and have no stream: nobody knows what they use. They count for one lease after the start.
pub(super) struct Silent {
    started: Instant,
    pods: BTreeSet<Key>,
}

impl Silent {
    pub(super) fn new(started: Instant) -> Silent {
        Silent {
            started,
            pods: BTreeSet::new(),
        }
    }

    /// Looks at all pods.
    pub(super) fn fill(&mut self, ads: &Ads, views: &Views) {
        for key in views.pods.keys() {
            self.look(ads, views, &key);
        }
    }

    /// Looks at this pod again.
    pub(super) fn look(&mut self, ads: &Ads, views: &Views, key: &Key) {
        if self.left().is_none() {
            self.pods.clear();
            return;
        }
        let runs = views
            .pods
            .get(key)
            .is_some_and(|pod| pod.sidecar == Sidecar::Runs);
        if runs && !ads.is_connected(key) {
            self.pods.insert(key.clone());
        } else {
            self.pods.remove(key);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.pods.len()
    }

    /// How long they still count.
    fn left(&self) -> Option<Duration> {
        LEASE.checked_sub(self.started.elapsed())
    }
}

/// `silent`: those that are waited for besides, if anybody is waited for.
pub(super) fn acknowledgement(
    ads: &Ads,
    rollout: &Key,
    silent: Option<&Silent>,
    now: Time,
) -> Acknowledgement {
    let acks = ads.rollout_acks(&rollout.to_string(), now);
    let mut acknowledgement = Acknowledgement {
        proxies: acks.proxies,
        acknowledged: acks.acknowledged,
        settled: acks.endpoints,
        laggards: acks
            .laggards
            .into_iter()
            .map(|laggard| Laggard {
                pod: laggard.pod,
                until: laggard.until,
            })
            .collect(),
        rejected: acks
            .rejected
            .map(|rejection| format!("{}: {}", rejection.pod, rejection.text)),
    };
    if let Some((silent, left)) = silent.and_then(|silent| Some((silent, silent.left()?))) {
        // Rounded up: at that moment the lease is over.
        let left = i64::try_from(left.as_millis())
            .unwrap_or(0)
            .saturating_add(1);
        add_silent(&mut acknowledgement, silent, now + Span(left));
    }
    acknowledgement
}

fn add_silent(acknowledgement: &mut Acknowledgement, silent: &Silent, until: Time) {
    let counted = |key: &&Key| {
        !acknowledgement
            .laggards
            .iter()
            .any(|each| each.pod == **key)
    };
    let more: Vec<Key> = silent
        .pods
        .iter()
        .filter(counted)
        .take(NAMED)
        .cloned()
        .collect();
    // Those that are counted already are named: there are few of them, or more than enough laggards.
    let twice = acknowledgement
        .laggards
        .iter()
        .filter(|each| silent.pods.contains(&each.pod))
        .count();
    let count = silent.pods.len() - twice;
    acknowledgement.proxies += u32::try_from(count).unwrap_or(u32::MAX);
    for pod in more {
        if acknowledgement.laggards.len() < NAMED {
            acknowledgement.laggards.push(Laggard {
                pod,
                until: Some(until),
            });
        }
    }
}
