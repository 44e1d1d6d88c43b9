//! What "slow" means: above the 99th percentile of stable, as it was before the second that is judged.

use serde::{Deserialize, Serialize};

use super::second::Counts;
use super::sketch::Sketch;

/// Fewer of stable's requests say nothing of their 99th percentile.
const ENOUGH: u64 = 100;
/// A second weighs no more than this many requests: a rush is not the whole past.
const SECOND: u64 = 256;
/// The past is halved every 120 s, and the threshold is read anew every 30 s.
const HALF_LIFE: u8 = 120;
const PERIOD: u8 = 30;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Threshold {
    /// Stable's past: never more than twice what 120 s weigh.
    past: Sketch,
    /// Seconds with requests since the past was halved.
    since: u8,
    /// Who is in a higher bucket is slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bucket: Option<u8>,
}

impl Threshold {
    pub(super) fn bucket(&self) -> Option<usize> {
        self.bucket.map(usize::from)
    }

    /// Of an arm's requests, those that were slow.
    pub(super) fn counts(&self, latency: &Sketch) -> Option<Counts> {
        let slow = latency.above(self.bucket()?);
        Some(Counts::new(latency.total(), slow))
    }

    /// Learns from a second of stable that has been judged. Silence teaches nothing, nor does it age the past.
    pub(super) fn see(&mut self, stable: &Sketch) {
        if stable.total() == 0 {
            return;
        }
        self.past.merge(&stable.scaled(SECOND));
        self.since = self.since.saturating_add(1);
        if self.since >= HALF_LIFE {
            self.past = self.past.scaled(self.past.total().div_ceil(2));
            self.since = 0;
        }
        if self.bucket.is_none() || self.since.is_multiple_of(PERIOD) {
            self.read();
        }
    }

    fn read(&mut self) {
        let total = self.past.total();
        if total >= ENOUGH {
            self.bucket = u8::try_from(self.past.with_above(total / 100)).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1000 requests: 5 % in 64 ms, 1 % above that.
    fn second(slowest: u64) -> Sketch {
        let mut sketch = Sketch::default();
        sketch.add(8_000, 940);
        sketch.add(64_000, 50);
        sketch.add(slowest, 10);
        sketch
    }

    #[test]
    fn slow_is_what_is_above_the_99th_percentile_of_stables_past() {
        let mut threshold = Threshold::default();
        assert_eq!(threshold.counts(&second(500_000)), None, "nothing is known");
        for _ in 0..300 {
            threshold.see(&second(500_000));
        }
        // 1 % of the scaled past is rounded: the threshold is at the 64 ms or at the bucket of the slowest.
        let bucket = threshold.bucket().unwrap();
        assert!((48..=Sketch::bucket(500_000)).contains(&bucket), "{bucket}");
        let slow = threshold.counts(&second(2_000_000)).unwrap();
        assert_eq!(slow, Counts::new(1000, 10));
    }

    #[test]
    fn it_follows_stable_within_minutes_and_stays_between() {
        let mut threshold = Threshold::default();
        let all = |micros| {
            let mut sketch = Sketch::default();
            sketch.add(micros, 100);
            sketch
        };
        threshold.see(&all(10_000));
        assert_eq!(threshold.bucket(), Some(Sketch::bucket(10_000)));
        for _ in 0..28 {
            threshold.see(&all(80_000));
            assert_eq!(threshold.bucket(), Some(Sketch::bucket(10_000)), "30 s");
        }
        threshold.see(&all(80_000));
        assert_eq!(threshold.bucket(), Some(Sketch::bucket(80_000)));
        let back = (0..1200)
            .take_while(|_| {
                threshold.see(&all(10_000));
                threshold.bucket() == Some(Sketch::bucket(80_000))
            })
            .count();
        assert!((300..1100).contains(&back), "{back} s");
        for _ in 0..5000 {
            threshold.see(&Sketch::default());
        }
        assert_eq!(threshold.bucket(), Some(Sketch::bucket(10_000)));
    }

    #[test]
    fn the_past_is_bounded() {
        let mut threshold = Threshold::default();
        for _ in 0..2000 {
            let mut huge = Sketch::default();
            for bucket in 0..Sketch::BUCKETS {
                huge.add_to(bucket, u32::MAX);
            }
            threshold.see(&huge);
        }
        assert!(threshold.past.total() <= 2 * SECOND * u64::from(HALF_LIFE));
    }
}
