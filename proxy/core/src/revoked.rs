//! Rollbacks outlive the control plane that made them: a proxy remembers every revocation it was told and
//! clamps later routes with it, so a new leader that never saw the rollback, or an old one that wakes up, cannot send traffic back.
//!
//! A revocation names a run. A newer run of the same revision (a `retry`) is allowed again; the same run never is. The memory
//! only grows, to [`REMEMBERED`] revisions of each rollout; beyond that the revocation of the oldest run is forgotten.

use std::collections::BTreeMap;

use crate::config::{Revocation, Route, Signature, SignedRevocation, Split, Weight};

/// Revisions remembered for each rollout.
pub const REMEMBERED: usize = 64;
/// The most revocations that a report to the control plane carries.
pub const REPORTED: usize = 500;

/// Every revocation that this proxy has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationMemory {
    /// By rollout, then revision.
    rollouts: BTreeMap<String, BTreeMap<String, Revoked>>,
}

/// The newest run in which a revision was revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Revoked {
    run: u64,
    signature: Option<Signature>,
}

impl RevocationMemory {
    pub fn learn<'a>(&mut self, revocations: impl IntoIterator<Item = &'a SignedRevocation>) {
        for revocation in revocations {
            self.learn_one(revocation);
        }
    }

    /// Whether `revision` was revoked in `run` or a later one.
    pub fn covers(&self, rollout: &str, revision: &str, run: u64) -> bool {
        self.rollouts
            .get(rollout)
            .and_then(|revisions| revisions.get(revision))
            .is_some_and(|revoked| revoked.run >= run)
    }

    /// Everything remembered, sorted.
    pub fn all(&self) -> Vec<SignedRevocation> {
        let mut all = self.newest_first();
        all.sort();
        all
    }

    /// The first [`REPORTED`], sorted: of every rollout the newest run, then of every rollout the one before, and so on.
    pub fn report(&self) -> Vec<SignedRevocation> {
        let mut report = self.newest_first();
        report.truncate(REPORTED);
        report.sort();
        report
    }

    fn newest_first(&self) -> Vec<SignedRevocation> {
        let mut ranked = Vec::new();
        for (rollout, revisions) in &self.rollouts {
            let mut of_rollout: Vec<_> = revisions.iter().collect();
            of_rollout.sort_by_key(|(_, revoked)| std::cmp::Reverse(revoked.run));
            let signed = of_rollout
                .into_iter()
                .map(|(revision, revoked)| SignedRevocation {
                    revocation: Revocation {
                        rollout: rollout.clone(),
                        revision: revision.clone(),
                        run: revoked.run,
                    },
                    signature: revoked.signature,
                });
            ranked.extend(signed.enumerate());
        }
        ranked.sort();
        ranked.into_iter().map(|(_, signed)| signed).collect()
    }

    fn learn_one(&mut self, learned: &SignedRevocation) {
        let SignedRevocation {
            revocation,
            signature,
        } = learned;
        let revisions = self.rollouts.entry(revocation.rollout.clone()).or_default();
        let known = revisions.entry(revocation.revision.clone()).or_default();
        // Of the same run the newest signature counts: the control plane may have another key.
        if revocation.run >= known.run {
            *known = Revoked {
                run: revocation.run,
                signature: signature.or(known.signature.filter(|_| revocation.run == known.run)),
            };
        }
        if revisions.len() > REMEMBERED {
            let oldest = revisions
                .iter()
                .min_by_key(|(_, revoked)| revoked.run)
                .map(|(revision, _)| revision.clone());
            if let Some(oldest) = oldest {
                revisions.remove(&oldest);
            }
        }
    }
}

/// The split that a proxy applies: the route's own, with a revoked canary at weight 0.
pub fn effective(route: &Route, memory: &RevocationMemory) -> Split {
    let mut split = route.split.clone();
    if let Some(canary) = &mut split.canary
        && memory.covers(&route.rollout, &canary.arm.revision, canary.run)
    {
        canary.weight = Weight::ZERO;
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Bounds;
    use crate::config::{Arm, CanaryArm, Protocol};
    use crate::lease::Lease;

    fn of(rollout: &str, revision: &str, run: u64) -> SignedRevocation {
        let revocation = Revocation {
            rollout: rollout.into(),
            revision: revision.into(),
            run,
        };
        SignedRevocation {
            revocation,
            signature: Some(Signature([1; 32])),
        }
    }

    fn revocation(revision: &str, run: u64) -> SignedRevocation {
        of("shop/payment", revision, run)
    }

    fn arm(revision: &str) -> Arm {
        Arm {
            cluster: format!("shop/payment/80/{revision}"),
            revision: revision.into(),
        }
    }

    fn route(revision: &str, run: u64, percent: u32) -> Route {
        Route {
            name: "shop/payment/80".into(),
            namespace: "shop".into(),
            service: "payment".into(),
            port: 80,
            protocol: Protocol::Detect,
            rollout: "shop/payment".into(),
            split: Split {
                stable: arm("v1"),
                canary: Some(CanaryArm {
                    arm: arm(revision),
                    weight: Weight::percent(percent).unwrap(),
                    run,
                    lease: Lease::Unlimited,
                    fuse: None,
                    sticky: None,
                }),
            },
            bounds: Bounds::default(),
            revoked: vec![],
        }
    }

    fn weight(route: &Route, memory: &RevocationMemory) -> Weight {
        effective(route, memory).canary.unwrap().weight
    }

    #[test]
    fn a_revoked_run_stays_at_zero_and_a_newer_run_is_allowed() {
        let mut memory = RevocationMemory::default();
        memory.learn(&[revocation("v2", 3)]);
        for percent in 0..=100 {
            for run in 0..=3 {
                assert_eq!(weight(&route("v2", run, percent), &memory), Weight::ZERO);
            }
            assert_eq!(
                weight(&route("v2", 4, percent), &memory),
                Weight::percent(percent).unwrap()
            );
        }
    }

    #[test]
    fn other_revisions_and_rollouts_are_not_touched() {
        let mut memory = RevocationMemory::default();
        memory.learn(&[revocation("v2", 3), of("shop/other", "v3", 9)]);
        assert_eq!(
            weight(&route("v3", 1, 10), &memory),
            Weight::percent(10).unwrap()
        );
    }

    #[test]
    fn a_revocation_is_not_forgotten_when_the_route_no_longer_names_it_nor_replaced_by_an_older_one()
     {
        let mut memory = RevocationMemory::default();
        memory.learn(&[revocation("v2", 3)]);
        memory.learn(&[]);
        memory.learn(&[revocation("v2", 1)]);
        assert_eq!(memory.all(), [revocation("v2", 3)]);
    }

    #[test]
    fn the_memory_keeps_the_newest_runs_of_each_rollout() {
        let mut memory = RevocationMemory::default();
        for run in (1..=200).rev() {
            memory.learn(&[revocation(&format!("r{run}"), run)]);
        }
        let runs: Vec<u64> = memory
            .all()
            .iter()
            .map(|each| each.revocation.run)
            .collect();
        assert_eq!(runs.len(), REMEMBERED);
        assert!(runs.iter().all(|&run| run > 200 - REMEMBERED as u64));
    }

    #[test]
    fn a_clamped_route_keeps_its_arms() {
        let mut memory = RevocationMemory::default();
        memory.learn(&[revocation("v2", 3)]);
        let split = effective(&route("v2", 3, 50), &memory);
        assert_eq!(
            (split.stable, split.canary.unwrap().arm),
            (arm("v1"), arm("v2"))
        );
    }

    #[test]
    fn a_signature_is_kept_with_its_run_and_replaced_by_a_newer_one() {
        let signed = |run: u64, signature: Option<u8>| SignedRevocation {
            signature: signature.map(|byte| Signature([byte; 32])),
            ..revocation("v2", run)
        };
        let mut memory = RevocationMemory::default();
        for (learned, kept) in [
            (signed(3, None), signed(3, None)),
            (signed(3, Some(1)), signed(3, Some(1))),
            (signed(3, None), signed(3, Some(1))),
            (signed(3, Some(2)), signed(3, Some(2))),
            (signed(2, Some(9)), signed(3, Some(2))),
            (signed(4, None), signed(4, None)),
        ] {
            memory.learn(&[learned]);
            assert_eq!(memory.all(), [kept]);
        }
    }

    #[test]
    fn a_report_has_the_newest_runs_of_every_rollout() {
        let mut memory = RevocationMemory::default();
        for rollout in 0..100 {
            for run in 1..=50 {
                memory.learn(&[of(&format!("shop/{rollout}"), &format!("r{run}"), run)]);
            }
        }
        let report = memory.report();
        assert_eq!((memory.all().len(), report.len()), (5000, REPORTED));
        assert!(report.iter().all(|each| each.revocation.run > 45));
    }
}
