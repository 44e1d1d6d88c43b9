//! Long streams that are still open to revisions that get nothing any more, as the calling sidecars say each second while they end them
//! (`traffic_core::withdrawal`): the pods at their other end are waited for.
//!
//! Only when somebody said so last is kept. A sidecar that says it without end holds nothing up for longer than streams may last.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::board::Name;
use crate::key::Key;

/// Revisions on their way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    pub service: Key,
    pub revisions: BTreeSet<String>,
}

#[derive(Default)]
pub(super) struct Lingering {
    by_rollout: HashMap<Key, (Awaited, LastSaid)>,
    /// By `<namespace>/<service>`.
    by_service: HashMap<String, BTreeSet<Key>>,
}

/// When somebody said last that streams are open, by revision, in milliseconds since the Unix epoch.
type LastSaid = BTreeMap<String, i64>;

impl Lingering {
    /// What is awaited for a rollout from now on; `None`: nothing.
    pub(super) fn wait_for(&mut self, rollout: &Key, awaited: Option<&Awaited>) {
        let known = self.by_rollout.get(rollout).map(|(known, _)| known);
        if known == awaited {
            return;
        }
        let before = self.by_rollout.remove(rollout);
        if let Some((before, _)) = &before
            && let Some(rollouts) = self.by_service.get_mut(&before.service.to_string())
        {
            rollouts.remove(rollout);
            if rollouts.is_empty() {
                self.by_service.remove(&before.service.to_string());
            }
        }
        if let Some(awaited) = awaited {
            let mut said = before.map(|(_, said)| said).unwrap_or_default();
            said.retain(|revision, _| awaited.revisions.contains(revision));
            let rollouts = self.by_service.entry(awaited.service.to_string());
            rollouts.or_default().insert(rollout.clone());
            self.by_rollout
                .insert(rollout.clone(), (awaited.clone(), said));
        }
    }

    pub(super) fn is_awaited(&self, name: &Name<'_>) -> bool {
        let rollouts = self.by_service.get(name.service).into_iter().flatten();
        let mut awaited = rollouts.filter_map(|rollout| self.by_rollout.get(rollout));
        awaited.any(|(awaited, _)| awaited.revisions.contains(name.revision))
    }

    /// Somebody says that streams to it are open.
    pub(super) fn said(&mut self, name: &Name<'_>, now: i64) {
        for rollout in self.by_service.get(name.service).into_iter().flatten() {
            if let Some((awaited, said)) = self.by_rollout.get_mut(rollout)
                && awaited.revisions.contains(name.revision)
            {
                said.insert(name.revision.to_owned(), now);
            }
        }
    }

    pub(super) fn of(&self, rollout: &Key) -> LastSaid {
        let known = self.by_rollout.get(rollout);
        known.map(|(_, said)| said.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awaited(revision: &str) -> Awaited {
        Awaited {
            service: Key::new("shop", "web"),
            revisions: BTreeSet::from([revision.to_owned()]),
        }
    }

    fn say(lingering: &mut Lingering, cluster: &str, now: i64) {
        let name = Name::read(cluster).unwrap();
        lingering.said(&name, now);
    }

    #[test]
    fn what_is_said_of_an_awaited_revision_is_kept_and_nothing_else() {
        let (mut lingering, rollout) = (Lingering::default(), Key::new("shop", "release"));
        say(&mut lingering, "shop/web/80/v2", 1);
        assert!(lingering.of(&rollout).is_empty());
        lingering.wait_for(&rollout, Some(&awaited("v2")));
        assert!(lingering.is_awaited(&Name::read("shop/web/81/v2").unwrap()));
        assert!(!lingering.is_awaited(&Name::read("shop/web/80/v1").unwrap()));
        assert!(!lingering.is_awaited(&Name::read("shop/api/80/v2").unwrap()));
        for (cluster, now) in [
            ("shop/web/80/v2", 2),
            ("shop/web/81/v2", 3),
            ("shop/web/80/v1", 4),
            ("shop/api/80/v2", 5),
        ] {
            say(&mut lingering, cluster, now);
        }
        let said = BTreeMap::from([("v2".to_owned(), 3)]);
        assert_eq!(lingering.of(&rollout), said);
        // The same again changes nothing.
        lingering.wait_for(&rollout, Some(&awaited("v2")));
        assert_eq!(lingering.of(&rollout), said);
        lingering.wait_for(&rollout, Some(&awaited("v3")));
        assert!(lingering.of(&rollout).is_empty());
        lingering.wait_for(&rollout, None);
        assert!(lingering.by_service.is_empty() && lingering.by_rollout.is_empty());
    }
}
