//! What a proxy tells the control plane every second, and how much of it there may be: whoever can start a pod can tell
//! anything, so what is heard is bounded. No honest proxy comes near these bounds.

use std::sync::Arc;
use std::time::Duration;

use super::counts::Counts;
use super::ledger::Second;

/// The most entries in one message; a proxy that has more sends several.
pub const MOST_ENTRIES: usize = 100;
/// The most bytes of a cluster's name: the longest takes about 200.
pub const LONGEST_NAME: usize = 300;
/// The most of any number in an entry.
pub const MOST_COUNTED: u64 = 10_000_000;
/// How old a second may be when it is told, from its beginning.
pub const OLDEST: Duration = Duration::from_secs(8);

/// What is new of one second of one revision of one Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `<namespace>/<service>/<port>/<revision>`.
    pub cluster: Arc<str>,
    /// By the proxy's clock.
    pub second: Second,
    /// How long before the telling the second began.
    pub age: Duration,
    pub counts: Counts,
}

/// What is new at one moment.
pub type Report = Vec<Entry>;

/// What the control plane wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub clusters: Clusters,
    /// How often.
    pub interval: Duration,
}

/// Of which clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clusters {
    All,
    /// Sorted.
    Named(Vec<String>),
}

impl Clusters {
    pub fn contains(&self, cluster: &str) -> bool {
        match self {
            Clusters::All => true,
            Clusters::Named(names) => names
                .binary_search_by(|name| name.as_str().cmp(cluster))
                .is_ok(),
        }
    }
}
