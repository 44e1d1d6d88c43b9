//! What is only lent: versions of routes that carry a canary's weight, each until its lease ends.
//!
//! A lease is of a version, not of a route: the version that is shown and the one that waits for its clusters end each at its own
//! time. One that has ended stays known as long as its version is held, and is shown with the canary at weight 0.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use traffic_core::config::{Route, Weight};
use traffic_core::lease::{self, Lease};

/// Name and version of a route.
pub(super) type Version = (String, String);

#[derive(Debug, Default)]
pub(super) struct Leases {
    lent: BTreeMap<Version, Lent>,
    /// This proxy's place in the jitter, 0..1: not all proxies decay at the same moment.
    chance: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lent {
    Until(Instant),
    /// The canary is at weight 0 until the control plane is heard again.
    Lapsed,
}

impl Leases {
    pub(super) fn with_chance(chance: f64) -> Leases {
        Leases {
            chance,
            ..Leases::default()
        }
    }

    /// A version has arrived in full.
    pub(super) fn begin(&mut self, version: Version, ttl: Option<Duration>, now: Instant) {
        match ttl {
            Some(ttl) => drop(self.lent.insert(version, self.until(ttl, now))),
            None => drop(self.lent.remove(&version)),
        }
    }

    /// A heartbeat. One for a version that is not held, or not lent, changes nothing.
    pub(super) fn renew(&mut self, version: &Version, ttl: Duration, now: Instant) {
        let until = self.until(ttl, now);
        if let Some(lent) = self.lent.get_mut(version) {
            *lent = until;
        }
    }

    fn until(&self, ttl: Duration, now: Instant) -> Lent {
        Lent::Until(now + lease::patience(ttl, self.chance))
    }

    /// When the next lease ends.
    pub(super) fn next(&self) -> Option<Instant> {
        let ends = self.lent.values().filter_map(|lent| match lent {
            Lent::Until(end) => Some(*end),
            Lent::Lapsed => None,
        });
        ends.min()
    }

    /// Ends those whose time is over.
    pub(super) fn lapse(&mut self, now: Instant) -> Vec<Version> {
        let mut lapsed = Vec::new();
        for (version, lent) in &mut self.lent {
            match lent {
                Lent::Until(end) if *end <= now => {
                    *lent = Lent::Lapsed;
                    lapsed.push(version.clone());
                }
                Lent::Until(_) | Lent::Lapsed => {}
            }
        }
        lapsed
    }

    pub(super) fn has_lapsed(&self, name: &str, version: &str) -> bool {
        let version = (name.to_owned(), version.to_owned());
        self.lent.get(&version) == Some(&Lent::Lapsed)
    }

    /// Forgets versions that are not held any more.
    pub(super) fn retain(&mut self, is_held: impl Fn(&Version) -> bool) {
        self.lent.retain(|version, _| is_held(version));
    }
}

/// The route without its canary's weight; the arms stay, with their connections and endpoints.
pub(super) fn decayed(route: &Route) -> Route {
    let mut route = route.clone();
    if let Some(canary) = &mut route.split.canary {
        canary.weight = Weight::ZERO;
        canary.lease = Lease::Unlimited;
    }
    route
}
