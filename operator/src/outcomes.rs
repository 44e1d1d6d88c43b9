//! What became of the requests: first attempts, second by second, as the calling sidecars report them.
//!
//! ```text
//!   load reports ── Clock: whose second is whose ── Share: how much one proxy may say ──> Board: sums ── close ──> sessions
//! ```
//!
//! Only what somebody follows is kept: the two revisions of a release that is under way, for the few seconds until they are
//! judged. A second is closed, in its order, when everything that started in it has ended, or when nobody says more of it
//! (a proxy tells a second three times); what comes after that counts for nothing, in either arm.
//!
//! Not here: what a second means (the guard), and who is on a stream (`ads`).

mod board;
mod clock;
mod lingering;
mod share;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aviary_xds::load::Report;
use tokio::sync::Notify;

use crate::key::Key;

pub use board::{Closed, Subject};
pub use lingering::Awaited;

use board::{Added, Board, Name};
use clock::Clock;
use lingering::Lingering;
use share::Share;

/// The handle. Clones are the same.
#[derive(Clone, Default)]
pub struct Outcomes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    board: Mutex<Board>,
    lingering: Mutex<Lingering>,
    /// There is something to close where there was nothing.
    news: Notify,
    counters: Mutex<Counters>,
}

/// Reports by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub counted: u64,
    /// Nobody follows the cluster.
    pub unfollowed: u64,
    /// Of a second that is closed, or to come.
    pub untimely: u64,
    /// The proxy had said more of that second than one proxy may.
    pub capped: u64,
    /// The proxy still splits by an older weight.
    pub behind: u64,
    /// A policy lets nobody of its ServiceAccount call.
    pub strangers: u64,
}

/// What a proxy's word is worth for a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Counts,
    /// It goes by an older weight.
    Behind,
    /// It may not call the rollout's pods: whatever it says of them, it has not heard it from them.
    Stranger,
}

/// What is known of one proxy's stream.
#[derive(Default)]
pub struct Speaker {
    clock: Clock,
    share: Share,
}

impl Outcomes {
    /// Of which requests something is to be kept for this rollout; `None`: of none.
    pub fn follow(&self, rollout: &Key, subject: Option<&Subject>) {
        self.board().follow(rollout, subject);
    }

    /// Whether anybody wants to hear of this cluster: what nobody does need not be read.
    pub fn is_followed(&self, cluster: &str) -> bool {
        Name::read(cluster).is_some_and(|name| {
            self.board().is_followed(&name) || lock(&self.0.lingering).is_awaited(&name)
        })
    }

    /// Of which revisions' streams the end is awaited for this rollout; `None`: of none.
    pub fn wait_for(&self, rollout: &Key, awaited: Option<&Awaited>) {
        lock(&self.0.lingering).wait_for(rollout, awaited);
    }

    /// When a sidecar said last that streams to a revision are open that is awaited for this rollout, in milliseconds since the Unix epoch.
    pub fn streams(&self, rollout: &Key) -> BTreeMap<String, i64> {
        lock(&self.0.lingering).of(rollout)
    }

    /// So many reports were not read, since nobody follows their clusters.
    pub fn unread(&self, reports: usize) {
        self.count(Counters {
            unfollowed: reports.try_into().unwrap_or(u64::MAX),
            ..Counters::default()
        });
    }

    /// What one proxy says. `now`: milliseconds since the Unix epoch.
    ///
    /// What it says counts for no rollout by whose `word` it does not. Callers with an old weight are left out, too: callers differ: were those with an old weight and those with the new
    /// one summed, a revision would be blamed for whose requests it gets (`make bench-judge`, "alone with the new weight").
    pub fn take(
        &self,
        speaker: &mut Speaker,
        reports: &[Report],
        now: i64,
        word: &dyn Fn(&Key) -> Word,
    ) {
        let Some(newest) = reports.iter().map(|report| report.second).max() else {
            return;
        };
        let second = now.div_euclid(1000);
        let ahead = speaker.clock.heard(newest, second);
        speaker.share.forget_before(second - 8);
        let mut counters = Counters::default();
        let mut board = self.board();
        let was_open = board.is_open();
        for report in reports {
            let at = i64::try_from(report.second).unwrap_or(i64::MAX);
            let at = at.saturating_sub(ahead);
            let name = Name::read(&report.cluster);
            let has_streams = report.counts.open > 0;
            if let Some(name) = name.as_ref().filter(|_| has_streams) {
                lock(&self.0.lingering).said(name, now);
            }
            let Some(name) = name.filter(|name| board.is_followed(name)) else {
                counters.unfollowed += u64::from(!has_streams);
                continue;
            };
            if !board.may_come(at, second) {
                counters.untimely += 1;
                continue;
            }
            let mut counts = report.counts.clone();
            if speaker.share.limit(&name, at, &mut counts) {
                counters.capped += 1;
            }
            match board.add(&name, at, &counts, second, word) {
                Added::Counted => counters.counted += 1,
                Added::Behind => counters.behind += 1,
                Added::Stranger => counters.strangers += 1,
                Added::Closed => counters.untimely += 1,
                Added::Unfollowed => counters.unfollowed += 1,
            }
        }
        let opened = !was_open && board.is_open();
        drop(board);
        self.count(counters);
        if opened {
            self.0.news.notify_one();
        }
    }

    /// The seconds that are over now, oldest first, of each rollout that has any.
    pub fn close(&self, now: i64) -> Vec<(Key, Vec<Closed>)> {
        self.board().close(now)
    }

    /// When there may be something to close, in milliseconds since the Unix epoch; `None`: when something is told.
    pub fn due(&self, now: i64) -> Option<i64> {
        self.board().due(now)
    }

    /// Waits until [`Outcomes::due`] may have become another one than `None`.
    pub async fn opened(&self) {
        self.0.news.notified().await;
    }

    pub fn counters(&self) -> Counters {
        *lock(&self.0.counters)
    }

    fn count(&self, more: Counters) {
        let mut counters = lock(&self.0.counters);
        counters.counted += more.counted;
        counters.unfollowed += more.unfollowed;
        counters.untimely += more.untimely;
        counters.capped += more.capped;
        counters.behind += more.behind;
        counters.strangers += more.strangers;
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.0.board)
    }
}

/// Nothing panics with one of these locks held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
