//! The split that is sent, and the copies that are on their way out of it.

use std::collections::BTreeSet;

use kube::ResourceExt;
use rollout_core::time::{Span, Time};
use rollout_core::{Carried, Desired, Split, desired};
use traffic_core::lease::LEASE;

use super::Session;
use crate::rollout::effects;
use crate::rollout::fuses;
use crate::rollout::look::Look;
use crate::rollout::persisted::permitted;
use crate::rollout::traffic::RolloutSplit;

/// How long a copy that no proxy knows any more may finish what it has.
const DRAIN: Span = Span::seconds(5);

/// A copy on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) since: Time,
    /// Since when no proxy knows it.
    pub(super) unused: Option<Time>,
}

impl Session {
    /// `carried`: what was sent before, and since when there could be more.
    pub(super) fn split(&self, look: &Look, carried: &mut Carried) -> Option<RolloutSplit> {
        let state = self.state.as_ref()?;
        let deployment = look.target.deployment()?;
        let desired = desired(state);
        let mut split = permitted(state, self.persisted.as_ref());
        if let Split::Canary(wanted) = &mut split {
            let can = look.carried(state, wanted).weight;
            wanted.weight = carried.follow(wanted.run, wanted.weight, can, look.now);
        }
        let limits = self.guarding.limits(state);
        let split = RolloutSplit::of(deployment, state, split, retired(&desired, look));
        let sticky = self.parsed.as_ref().and_then(|it| it.sticky.clone());
        let split = split.with_fuse(fuses::tolerance(state, limits));
        Some(split.with_sticky(sticky))
    }

    /// A copy may go when no proxy knows it and what was under way had time to end; or when every proxy that could still
    /// know it has gone back to stable by itself.
    pub(super) fn drain(&mut self, look: &Look) {
        let Some(state) = &self.state else { return };
        let unwanted = effects::unwanted(&desired(state), look);
        let names: BTreeSet<String> = unwanted.iter().map(|copy| copy.name_any()).collect();
        self.leaving.retain(|name, _| names.contains(name));
        for copy in &unwanted {
            let revision = copy.labels().get(aviary_crds::REVISION_LABEL);
            let retired = revision.is_some_and(|r| look.heard.sent.retired.contains(r));
            let leaving = self.leaving.entry(copy.name_any()).or_insert(Leaving {
                since: look.now,
                unused: None,
            });
            if retired && look.heard.acks.settled() {
                leaving.unused.get_or_insert(look.now);
            }
        }
    }

    pub(super) fn drained(&self, now: Time) -> BTreeSet<String> {
        self.leaving
            .iter()
            .filter(|(_, leaving)| gone_at(leaving) <= now)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// When a copy on its way out may be deleted.
pub(super) fn gone_at(leaving: &Leaving) -> Time {
    let lease = Span(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX));
    let lapsed = leaving.since + lease;
    leaving
        .unused
        .map_or(lapsed, |unused| (unused + DRAIN).min(lapsed))
}

/// Copies of these revisions get nothing any more.
pub(super) fn retired(desired: &Desired, look: &Look) -> BTreeSet<String> {
    effects::unwanted(desired, look)
        .iter()
        .filter_map(|copy| copy.labels().get(aviary_crds::REVISION_LABEL).cloned())
        .collect()
}
