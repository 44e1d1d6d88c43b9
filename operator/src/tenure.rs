//! Which replica decides. Webhooks and certificates are on every one of them; rollouts, what proxies are sent and what they report are of one brain: of the
//! replica that holds the Lease `aviary-operator`.
//!
//! ```text
//!   the others: watch the Lease ── it was given back, or was not renewed for 5 s ──> Keeper::acquire
//!   the holder: Keeper::keep renews it every second ──> Tenure: whether it still may write
//!                                                       Holder::announce: proxies find it (EndpointSlice of aviary-xds)
//! ```
//!
//! A holder stops before anybody else may begin: it writes nothing, and lends no weight for longer, once its last renewal is 4 s old, by a clock that runs on while the
//! process stands still. And what it wrote too late all the same is refused by the API server, since every write that counts names the version that it was decided
//! on. It goes on serving proxies, and lowers weights, until it sees that another replica has the Lease: with the API server away, nobody has, and a bad release has
//! to go all the same.
//!
//! The rules are those of client-go's leader election: whether a Lease has run out is told by when this process saw it change last, never by the times that
//! somebody else's clock has written into it.

mod claim;
mod holder;
mod keeper;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use holder::Holder;
pub use keeper::Keeper;

/// Whether this process still holds the Lease. Clones are the same.
#[derive(Clone, Debug)]
pub struct Tenure(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    since: Instant,
    /// Milliseconds since then until which it holds.
    until: AtomicU64,
}

impl Tenure {
    /// Of a process that is alone in the world: for tests.
    pub fn unlimited() -> Tenure {
        Tenure(Arc::new(Inner {
            since: Instant::now(),
            until: AtomicU64::new(u64::MAX),
        }))
    }

    fn until(at: Instant) -> Tenure {
        let tenure = Tenure(Arc::new(Inner {
            since: Instant::now(),
            until: AtomicU64::new(0),
        }));
        tenure.extend(at);
        tenure
    }

    pub fn holds(&self) -> bool {
        let passed = self.0.since.elapsed().as_millis();
        passed < u128::from(self.0.until.load(Ordering::Acquire))
    }

    fn extend(&self, to: Instant) {
        let until = to.saturating_duration_since(self.0.since);
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.0.until.store(until, Ordering::Release);
    }

    /// Nothing is written any more.
    pub fn end(&self) {
        self.0.until.store(0, Ordering::Release);
    }

    /// For how long it holds yet.
    fn left(&self) -> Duration {
        let until = Duration::from_millis(self.0.until.load(Ordering::Acquire));
        until.saturating_sub(self.0.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_until_its_time_and_no_longer_than_it_was_ended() {
        let begun = Instant::now();
        assert!(!Tenure::until(begun).holds());
        let tenure = Tenure::until(begun + Duration::from_secs(3600));
        assert!(tenure.holds());
        assert!(tenure.left() > Duration::from_secs(3000));
        let other = tenure.clone();
        other.end();
        assert!(!tenure.holds());
        assert_eq!(tenure.left(), Duration::ZERO);
        assert!(Tenure::unlimited().holds());
    }
}
