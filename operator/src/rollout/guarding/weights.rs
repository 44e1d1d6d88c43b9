//! Which second was under which weight.
//!
//! ```text
//!   sent ──── all proxies acknowledge ───> settled: the first whole second from here on is under the weight
//!     └────── ... or SETTLES has gone by ──────┘
//! ```

use std::collections::VecDeque;

use rollout_core::plan::Percent;
use rollout_core::time::{Span, Time};

/// So long after a weight is sent, proxies that have not acknowledged may still use the one before and be summed: what is told by those
/// who have not acknowledged it counts for nothing ([`crate::outcomes`]), but a second is told after its end.
const SETTLES: Span = Span(500);
/// Weights that are remembered: more than can be sent in the seconds that are open.
const REMEMBERED: usize = 16;

/// Whose seconds are whose. A weight is named by the moment when it was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Weights {
    changes: VecDeque<Change>,
    /// What was sent last, if that is known.
    newest: Option<Option<(u64, Percent)>>,
}

/// Something else was sent.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Time,
    /// From here on nobody uses what was sent before.
    settled: Time,
    /// Of which run; `None`: no weight.
    run: Option<u64>,
}

impl Weights {
    /// What is sent at this moment, and whether every proxy has acknowledged it.
    pub(super) fn note(&mut self, sent: Option<(u64, Percent)>, acknowledged: bool, now: Time) {
        let sent = sent.filter(|(_, weight)| *weight > Percent::ZERO);
        if self.newest != Some(sent) {
            self.newest = Some(sent);
            self.changes.push_back(Change {
                at: now,
                settled: now + SETTLES,
                run: sent.map(|(run, _)| run),
            });
            let surplus = self.changes.len().saturating_sub(REMEMBERED);
            self.changes.drain(..surplus);
        }
        if let Some(newest) = self.changes.back_mut().filter(|_| acknowledged) {
            newest.settled = newest.settled.min(now);
        }
    }

    /// The weight under which all of a second was, if there was one, and it was this run's; else 0.
    pub(super) fn epoch(&self, second: i64, run: u64) -> u64 {
        let (start, end) = (Time(second * 1000), Time((second + 1) * 1000));
        let settles = |change: &Change| change.at < end && change.settled > start;
        if self.changes.iter().any(settles) {
            return 0;
        }
        let last = self.changes.iter().rev().find(|change| change.at < end);
        match last.map(|change| (change.at, change.run)) {
            Some((at, Some(of))) if of == run => u64::try_from(at.0).unwrap_or(0),
            Some((_, Some(_) | None)) | None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(percent: i64) -> Option<(u64, Percent)> {
        Some((7, Percent::new(percent).unwrap()))
    }

    #[test]
    fn a_change_late_in_a_second_leaves_the_next_one_alone_too() {
        let mut weights = Weights::default();
        weights.note(sent(1), false, Time(10_000));
        weights.note(sent(10), false, Time(15_800));
        let epochs = [14, 15, 16, 17].map(|second| weights.epoch(second, 7));
        assert_eq!(epochs, [10_000, 0, 0, 15_800]);
        assert_eq!(weights.epoch(9, 7), 0, "before anything is known");
        weights.note(sent(10), true, Time(18_000));
        let epochs = [15, 16, 17, 18].map(|second| weights.epoch(second, 7));
        assert_eq!(epochs, [0, 0, 15_800, 15_800], "the same weight");
        weights.note(None, false, Time(20_000));
        assert_eq!(weights.epoch(22, 7), 0);
    }

    #[test]
    fn a_second_counts_from_its_start_on_once_every_proxy_has_acknowledged() {
        let mut weights = Weights::default();
        weights.note(sent(1), true, Time(10_000));
        weights.note(sent(10), false, Time(15_800));
        weights.note(sent(10), true, Time(15_990));
        let epochs = [14, 15, 16, 17].map(|second| weights.epoch(second, 7));
        assert_eq!(epochs, [10_000, 0, 15_800, 15_800]);
        // The last one answers in the second that it is about.
        weights.note(sent(50), false, Time(18_900));
        weights.note(sent(50), true, Time(19_001));
        let epochs = [18, 19, 20].map(|second| weights.epoch(second, 7));
        assert_eq!(epochs, [0, 0, 18_900]);
    }
}
