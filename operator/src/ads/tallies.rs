//! The tallies of all rollouts, and whom each has to look at again.

use std::collections::{BTreeSet, HashMap};

use aviary_xds::Resources;

use super::acks::Acks;
use super::registry::Registry;
use super::tally::Tally;
use crate::key::Key;

/// The tallies of the rollouts that were asked for.
#[derive(Debug, Default)]
pub(super) struct Tallies(HashMap<String, Doubted>);

#[derive(Debug, Default)]
struct Doubted {
    tally: Tally,
    /// Pods that may stand elsewhere than the tally says.
    pods: BTreeSet<Key>,
}

impl Tallies {
    /// The pod may stand elsewhere with these rollouts.
    pub(super) fn doubt(&mut self, rollouts: &BTreeSet<String>, pod: &Key) {
        for rollout in rollouts {
            if let Some(doubted) = self.0.get_mut(rollout) {
                doubted.pods.insert(pod.clone());
            }
        }
    }

    /// The same, when nobody knows with which rollouts.
    pub(super) fn doubt_everywhere(&mut self, pod: &Key) {
        for doubted in self.0.values_mut() {
            if doubted.tally.counts(pod) {
                doubted.pods.insert(pod.clone());
            }
        }
    }

    /// Something else is served of these rollouts: everybody is counted anew.
    pub(super) fn discard<'a>(&mut self, rollouts: impl IntoIterator<Item = &'a str>) {
        for rollout in rollouts {
            self.0.remove(rollout);
        }
    }

    /// Whether anybody may not have acknowledged what is served of the rollout.
    pub(super) fn may_lag(&self, rollout: &str) -> bool {
        let settled = |it: &Doubted| it.pods.is_empty() && it.tally.is_acknowledged();
        !self.0.get(rollout).is_some_and(settled)
    }

    pub(super) fn acks(
        &mut self,
        rollout: &str,
        registry: &Registry,
        resources: &Resources,
    ) -> Acks {
        let doubted = match self.0.get_mut(rollout) {
            Some(doubted) => doubted,
            None => {
                let tally = registry.tally(rollout, resources);
                if tally.is_empty() {
                    return tally.acks();
                }
                let doubted = Doubted {
                    tally,
                    pods: BTreeSet::new(),
                };
                self.0.entry(rollout.to_owned()).or_insert(doubted)
            }
        };
        for pod in std::mem::take(&mut doubted.pods) {
            let counted = registry.counted(&pod, rollout, resources);
            doubted.tally.put(&pod, counted);
        }
        let acks = doubted.tally.acks();
        if doubted.tally.is_empty() {
            self.0.remove(rollout);
        }
        acks
    }
}
