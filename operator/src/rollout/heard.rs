//! What the proxies say about one rollout, and what they were sent.

use std::collections::{BTreeMap, BTreeSet};

use rollout_core::plan::Percent;
use rollout_core::time::Time;

use crate::key::Key;

/// Everything that a look needs to know of the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub sent: Sent,
    pub acks: Acknowledgement,
    /// Revisions and runs that proxies report as revoked.
    pub revoked: Vec<(String, u64)>,
    /// When a proxy said last that it has long streams to a revision on its way out.
    pub streams: BTreeMap<String, Time>,
}

/// What is in the world that was published last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub routes: usize,
    /// The canary's run and effective weight.
    pub canary: Option<(u64, Percent)>,
    /// Copies of these revisions are in no cluster any more.
    pub retired: BTreeSet<String>,
    /// Endpoints of the rollout's Services that are of none of its revisions: they serve in the stable arm.
    pub strangers: Vec<String>,
}

/// Who has acknowledged what was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledgement {
    pub proxies: u32,
    pub acknowledged: u32,
    /// Proxies that use the newest endpoints too.
    pub settled: u32,
    /// The first of those that have not acknowledged.
    pub laggards: Vec<Laggard>,
    /// The newest refusal, with who refuses.
    pub rejected: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laggard {
    pub pod: Key,
    /// When it is waited for no longer: its weight has lapsed by then. `None` for one that is connected.
    pub until: Option<Time>,
}

impl Acknowledgement {
    pub fn complete(&self) -> bool {
        self.acknowledged == self.proxies
    }

    /// No proxy knows endpoints that are on their way out.
    pub fn settled(&self) -> bool {
        self.complete() && self.settled == self.proxies
    }

    /// The next moment at which somebody is waited for no longer.
    pub fn next_excuse(&self) -> Option<Time> {
        self.laggards.iter().filter_map(|each| each.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_counts_and_the_first_to_be_excused_is_known() {
        let mut acks = Acknowledgement {
            proxies: 3,
            acknowledged: 3,
            settled: 2,
            ..Acknowledgement::default()
        };
        assert!(acks.complete() && !acks.settled());
        acks.settled = 3;
        assert!(acks.settled());
        acks.acknowledged = 1;
        assert!(!acks.complete() && !acks.settled());
        assert_eq!(acks.next_excuse(), None);
        acks.laggards = [None, Some(Time(9)), Some(Time(5))]
            .map(|until| Laggard {
                pod: Key::new("shop", "a"),
                until,
            })
            .into();
        assert_eq!(acks.next_excuse(), Some(Time(5)));
    }
}
