//! How long a proxy may go on with a canary's weight when it hears nothing more from the control plane.
//!
//! A rollback reaches only proxies that can be reached. So a weight above zero is lent, not given: the control plane renews it
//! every third of its time to live, and a proxy that hears nothing for that long takes the canary's share back to stable by
//! itself. Proxies that lose the control plane at the same moment do not all move at the same moment: each adds a random part
//! of up to a quarter of the time to live.
//!
//! ```text
//!   renewed ── TTL (2 min) ──> lapses ── jitter (0..30 s) ──> canary at weight 0
//!      └───────────────── at most LEASE (2.5 min) ─────────────────┘
//! ```

use std::time::Duration;

use crate::weight::Weight;

/// How long a canary's weight is good for without a renewal, unless the control plane says otherwise.
pub const TTL: Duration = Duration::from_secs(120);
/// Renewals for each time to live: two may be lost.
pub const HEARTBEATS: u32 = 3;
/// The time to live holds this many of the longest jitter.
const JITTERS: u32 = 4;
/// The longest that a decay is put off at random.
pub const DECAY_JITTER: Duration = Duration::from_secs(TTL.as_secs() / JITTERS as u64);
/// The longest that a proxy which nobody can reach may go on with a canary's weight.
pub const LEASE: Duration = Duration::from_secs(TTL.as_secs() + DECAY_JITTER.as_secs());

/// For how long a proxy may use a canary's weight after it last heard from the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lease {
    /// Until it is told otherwise. Weight 0 needs no lease; and while stable is being replaced a proxy must not go back to it by
    /// itself.
    #[default]
    Unlimited,
    /// For this long, and then for a random part of a quarter of it (see [`patience`]).
    Ttl(Duration),
}

impl Lease {
    /// The lease of a weight about which nobody has decided otherwise.
    pub fn for_weight(weight: Weight) -> Lease {
        if weight == Weight::ZERO {
            Lease::Unlimited
        } else {
            Lease::Ttl(TTL)
        }
    }

    pub fn ttl(self) -> Option<Duration> {
        match self {
            Lease::Unlimited => None,
            Lease::Ttl(ttl) => Some(ttl),
        }
    }
}

/// How often a lease of this time to live is renewed.
pub fn heartbeat(ttl: Duration) -> Duration {
    ttl / HEARTBEATS
}

/// How long after the last renewal a lease ends. `chance` is in 0..1.
pub fn patience(ttl: Duration, chance: f64) -> Duration {
    ttl + (ttl / JITTERS).mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_chance_makes_a_lease_longer_than_the_longest() {
        assert_eq!(patience(TTL, 0.0), TTL);
        for hundredths in 0..=100 {
            let patience = patience(TTL, f64::from(hundredths) / 100.0);
            assert!((TTL..=LEASE).contains(&patience), "{patience:?}");
        }
        assert_eq!(patience(TTL, 1.0), LEASE);
    }

    #[test]
    fn two_renewals_may_be_lost() {
        assert!(heartbeat(TTL) * 2 < TTL);
        assert_eq!(heartbeat(TTL), Duration::from_secs(40));
    }
}
