//! The split that is sent, and the copies that are on their way out of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::time::{Span, Time};
use rollout_core::{Carried, Desired, Split, desired};
use traffic_core::lease::LEASE;
use traffic_core::withdrawal;

use super::Session;
use crate::outcomes::Awaited;
use crate::rollout::effects;
use crate::rollout::fuses;
use crate::rollout::look::Look;
use crate::rollout::persisted::permitted;
use crate::rollout::traffic::RolloutSplit;

/// How long a copy that no proxy knows any more may finish what it has.
const DRAIN: Span = Span::seconds(5);

/// Of a copy to which proxies still have long streams that they are ending: how long after the last of them has said so, which each does every second.
const SILENCE: Span = Span::seconds(3);
/// And the longest that it is kept for them, whatever they say.
const STREAMS: Span = Span::seconds(withdrawal::LONGEST.as_secs() as i64 + 5);

/// A copy on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) since: Time,
    /// Since when no proxy knows it.
    pub(super) unused: Option<Time>,
    /// When a proxy said last that it has streams to it.
    pub(super) streams: Option<Time>,
}

impl Leaving {
    pub(super) fn since(now: Time) -> Leaving {
        Leaving {
            since: now,
            unused: None,
            streams: None,
        }
    }
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

    /// A copy may go when no proxy knows it and what was under way had time to end, also the long streams that proxies are ending; or when
    /// every proxy that could still know it has gone back to stable by itself.
    pub(super) fn drain(&mut self, look: &Look) {
        let Some(state) = &self.state else { return };
        let unwanted = effects::unwanted(&desired(state), look);
        let names: BTreeSet<String> = unwanted.iter().map(|copy| copy.name_any()).collect();
        self.leaving.retain(|name, _| names.contains(name));
        for copy in &unwanted {
            let revision = copy.labels().get(aviary_crds::REVISION_LABEL);
            let retired = revision.is_some_and(|r| look.heard.sent.retired.contains(r));
            let leaving = self.leaving.entry(copy.name_any());
            let leaving = leaving.or_insert(Leaving::since(look.now));
            let said = revision.and_then(|revision| look.heard.streams.get(revision));
            leaving.streams = leaving.streams.max(said.copied());
            if retired && look.heard.acks.settled() {
                leaving.unused.get_or_insert(look.now);
            }
        }
    }

    /// Of whose streams the end is awaited.
    pub(super) fn awaits(&self, look: &Look) -> Option<Awaited> {
        let is_leaving = |copy: &&Arc<DynamicObject>| self.leaving.contains_key(&copy.name_any());
        let leaving = look.copies.iter().filter(is_leaving);
        let revisions: BTreeSet<String> = leaving
            .filter_map(|copy| copy.labels().get(aviary_crds::REVISION_LABEL).cloned())
            .collect();
        let service = self.key.beside(&self.rollout.spec.service.name);
        (!revisions.is_empty()).then_some(Awaited { service, revisions })
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
    let Some(unused) = leaving.unused else {
        return lapsed;
    };
    let streams = leaving.streams.map(|said| said + SILENCE);
    let ended = streams.map_or(unused, |ended| ended.min(unused + STREAMS));
    (unused + DRAIN).max(ended).min(lapsed)
}

/// Copies of these revisions get nothing any more.
pub(super) fn retired(desired: &Desired, look: &Look) -> BTreeSet<String> {
    effects::unwanted(desired, look)
        .iter()
        .filter_map(|copy| copy.labels().get(aviary_crds::REVISION_LABEL).cloned())
        .collect()
}
