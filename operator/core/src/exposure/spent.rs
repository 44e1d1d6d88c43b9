//! What a release has spent, and what its requests rule out: sums over its seconds.

use serde::{Deserialize, Serialize};

use super::{Defect, Exposed};
use crate::guard::Counts;
use crate::judge::wilson_upper;
use crate::time::Span;

/// So many seconds without a request are counted between two that have one. Nobody tells of a second without requests, and
/// nobody of those in which the operator was away.
const QUIET: i64 = 60;
/// Millionths of a request.
const MICRO: f64 = 1e6;

/// The first attempts of one release, from its first second to its last: carried over steps and restarts. Integers, below
/// 200 bytes as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spent {
    canary: Counts,
    stable: Counts,
    /// How many of the canary's requests stable would have failed in their seconds, in millionths of a request.
    expected: u64,
    /// How long the requests took to come.
    seconds: u64,
    /// The newest second, since the Unix epoch.
    last: Option<i64>,
}

impl Spent {
    /// Takes in a second. One that was taken in already, or is older than one that was, is ignored.
    pub fn see(&mut self, at: i64, canary: Counts, stable: Counts) {
        if self.last.is_some_and(|last| at <= last) {
            return;
        }
        let since = self.last.map_or(1, |last| at.saturating_sub(last));
        self.last = Some(at);
        self.seconds = self
            .seconds
            .saturating_add(since.clamp(1, QUIET).unsigned_abs());
        let (canary, stable) = (bounded(canary), bounded(stable));
        self.canary = sum(self.canary, canary);
        self.stable = sum(self.stable, stable);
        // Where stable had no request in the same second, its rate so far.
        let beside = if stable.started > 0 {
            stable
        } else {
            self.stable
        };
        let expected = canary.started as f64 * rate(beside) * MICRO;
        self.expected = self.expected.saturating_add(expected.round() as u64);
    }

    pub fn exposed(&self) -> Exposed {
        Exposed {
            defect: self.defect(),
            spent: self.spent(),
        }
    }

    /// First attempts of the canary, and how many of them failed.
    pub fn canary(&self) -> Counts {
        self.canary
    }

    /// The failures of the canary beyond what stable's rate in the same seconds explains, as time in which every request of the
    /// service fails: their share of all requests, times how long those took to come. A canary that fails less than stable
    /// has spent nothing.
    pub fn spent(&self) -> Span {
        let all = self.canary.started.saturating_add(self.stable.started);
        if all == 0 {
            return Span(0);
        }
        let beyond = self.canary.errors as f64 - self.expected as f64 / MICRO;
        let seconds = beyond.max(0.0) / all as f64 * self.seconds as f64;
        Span((seconds * 1000.0).round() as i64)
    }

    /// The increase of the error rate that is not ruled out: the upper end of the one-sided 95 % interval of the difference
    /// of two shares, from the two score intervals (R. G. Newcombe, Statistics in Medicine 17, 1998, method 10). Everything,
    /// before the first request.
    ///
    /// As if requests failed independently of each other, and of how often this is asked: who asks until it is small enough
    /// is wrong more often than in one of twenty releases. It is a plan for what may be lost, and no alarm.
    pub fn defect(&self) -> Defect {
        let requests = self.canary.started as f64;
        if self.canary.started == 0 {
            return Defect::ALL;
        }
        let canary = rate(self.canary);
        let most = wilson_upper(canary, requests);
        // Stable's rate as it was when the canary had its requests.
        let stable = (self.expected as f64 / MICRO / requests).clamp(0.0, 1.0);
        let least = if self.stable.started == 0 {
            0.0
        } else {
            // The lower end of a share is the upper end of what is missing from it.
            1.0 - wilson_upper(1.0 - stable, self.stable.started as f64)
        };
        let spread = (most - canary).hypot(stable - least);
        Defect::of(canary - stable + spread)
    }
}

/// No more errors than requests, and no more requests than the guard reckons with.
fn bounded(of: Counts) -> Counts {
    let started = of.started.min(Counts::MOST);
    Counts::new(started, of.errors.min(started))
}

fn sum(all: Counts, more: Counts) -> Counts {
    Counts::new(
        all.started.saturating_add(more.started),
        all.errors.saturating_add(more.errors),
    )
}

fn rate(of: Counts) -> f64 {
    if of.started == 0 {
        return 0.0;
    }
    of.errors.min(of.started) as f64 / of.started as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many equal seconds of canary and stable, requests and errors.
    fn seconds(of: &mut Spent, count: i64, canary: (u64, u64), stable: (u64, u64)) {
        let from = of.last.unwrap_or(0) + 1;
        for at in from..from + count {
            of.see(at, canary.into(), stable.into());
        }
    }

    #[test]
    fn what_is_spent_is_weight_times_defect_times_time() {
        let mut spent = Spent::default();
        // 10 % of the requests, half of which fail, for two minutes.
        seconds(&mut spent, 120, (10, 5), (90, 0));
        assert_eq!(spent.spent(), Span(6_000));
        // A minute in which nothing fails takes nothing back.
        seconds(&mut spent, 60, (10, 0), (90, 0));
        assert_eq!(spent.spent(), Span(6_000));
    }

    #[test]
    fn what_stable_fails_in_the_same_seconds_is_spent_by_nobody() {
        let mut spent = Spent::default();
        seconds(&mut spent, 100, (2, 0), (98, 0));
        // Everybody fails, while the canary has much more of the requests than before.
        seconds(&mut spent, 60, (50, 10), (50, 10));
        assert_eq!(spent.spent(), Span(0));
        assert!(spent.defect() < Defect::of(0.03), "{}", spent.defect());
        // Beside nobody, stable's rate so far is what would have been.
        let mut alone = Spent::default();
        seconds(&mut alone, 100, (0, 0), (100, 10));
        seconds(&mut alone, 100, (100, 10), (0, 0));
        assert_eq!(alone.spent(), Span(0));
        seconds(&mut alone, 10, (100, 60), (0, 0));
        assert_eq!(alone.spent(), Span(5_000));
    }

    #[test]
    fn quiet_seconds_count_and_an_operator_that_was_away_counts_for_a_minute() {
        let mut spent = Spent::default();
        for at in [0, 10, 20, 30] {
            spent.see(at, Counts::new(1, 1), Counts::new(1, 0));
        }
        // Every other request of 31 seconds.
        assert_eq!(spent.spent(), Span(15_500));
        spent.see(100_000, Counts::new(0, 0), Counts::new(92, 0));
        assert_eq!(spent.seconds, 91);
        let before = spent;
        spent.see(100_000, Counts::new(9, 9), Counts::new(0, 0));
        spent.see(99, Counts::new(9, 9), Counts::new(0, 0));
        assert_eq!(spent, before, "seen already");
    }

    #[test]
    fn requests_that_succeed_rule_out_more_and_more() {
        assert_eq!(Spent::default().defect(), Defect::ALL);
        let after = |requests: u64, errors: u64| {
            let mut spent = Spent::default();
            spent.see(0, Counts::new(requests, errors), Counts::new(10_000, 0));
            f64::from(spent.defect().millionths()) / 1e4
        };
        // z^2 / (n + z^2), in percent.
        for (requests, percent) in [(1, 73.0), (30, 8.27), (300, 0.89), (3000, 0.09)] {
            let defect = after(requests, 0);
            assert!(
                (defect / percent - 1.0).abs() < 0.02,
                "{requests}: {defect}"
            );
        }
        assert!(after(300, 30) > 10.0, "what is seen is not ruled out");
        assert!(after(300, 30) < 14.0);
        assert_eq!(after(300, 300), 100.0);
    }

    /// A canary whose defect is the bound itself is within it in about 19 of 20 releases.
    #[test]
    fn the_defect_is_an_upper_bound_in_nineteen_of_twenty_releases() {
        // Deterministic: xorshift with a fixed seed.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |share: f64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) as f64 / (1_u64 << 53) as f64 <= share
        };
        for (canary, stable, requests) in [(0.05, 0.01, 400), (0.3, 0.1, 50), (0.02, 0.0, 300)] {
            let releases = 2000;
            let missed = (0..releases).filter(|_| {
                let mut draw = |count: u64, share: f64| {
                    Counts::new(count, (0..count).filter(|_| below(share)).count() as u64)
                };
                let (canary_counts, stable_counts) =
                    (draw(requests, canary), draw(10 * requests, stable));
                let mut spent = Spent::default();
                spent.see(0, canary_counts, stable_counts);
                spent.defect() < Defect::of(canary - stable)
            });
            let missed = missed.count() as f64 / f64::from(releases);
            assert!(missed < 0.08, "{canary} {stable} {requests}: {missed}");
        }
    }

    #[test]
    fn no_numbers_break_it() {
        let mut spent = Spent::default();
        let most = Counts::new(u64::MAX, u64::MAX);
        for at in [i64::MIN, 0, i64::MAX] {
            spent.see(at, most, Counts::default());
            spent.see(at, Counts::default(), most);
        }
        let broken: Spent = serde_json::from_str(
            r#"{"canary":[1,18446744073709551615],"stable":[0,9],"expected":18446744073709551615,"seconds":18446744073709551615,"last":-9223372036854775808}"#,
        )
        .unwrap();
        for mut spent in [spent, broken] {
            spent.see(i64::MAX, most, most);
            let _ = spent.exposed();
            let text = serde_json::to_string(&spent).unwrap();
            assert!(text.len() < 200, "{text}");
            assert_eq!(serde_json::from_str::<Spent>(&text).unwrap(), spent);
        }
    }
}
