//! Latencies of one second, in buckets that are 9 % wide.

use serde::{Deserialize, Serialize};

/// How many requests took how long.
///
/// Bucket `i` holds what took at most `2^(i/8)` milliseconds and did not fit into the one before; the first one holds
/// everything up to 1 ms, the last one everything above 60 s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Sparse", into = "Sparse")]
pub struct Sketch([u32; Sketch::BUCKETS]);

impl Sketch {
    pub const BUCKETS: usize = 128;
    /// Buckets of one doubling.
    const OCTAVE: f64 = 8.0;

    /// The bucket of a latency.
    pub fn bucket(micros: u64) -> usize {
        let octaves = (micros.max(1) as f64 / 1000.0).log2();
        // A bound is in its own bucket, whichever way the logarithm was rounded.
        let bucket = (octaves * Sketch::OCTAVE - 1e-9).ceil().max(0.0) as usize;
        bucket.min(Sketch::BUCKETS - 1)
    }

    /// The upper bound of a bucket, microseconds; of the last one too, though it has none.
    pub fn bound(bucket: usize) -> u64 {
        let bucket = bucket.min(Sketch::BUCKETS - 1) as f64;
        (1000.0 * (bucket / Sketch::OCTAVE).exp2()).round() as u64
    }

    pub fn add(&mut self, micros: u64, requests: u32) {
        self.add_to(Sketch::bucket(micros), requests);
    }

    /// To a bucket by its number; what is beyond the last one is in it.
    pub fn add_to(&mut self, bucket: usize, requests: u32) {
        let count = &mut self.0[bucket.min(Sketch::BUCKETS - 1)];
        *count = count.saturating_add(requests);
    }

    pub fn merge(&mut self, other: &Sketch) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }

    pub fn total(&self) -> u64 {
        self.0.iter().copied().map(u64::from).sum()
    }

    /// How many were in a higher bucket than this.
    pub fn above(&self, bucket: usize) -> u64 {
        self.0
            .iter()
            .skip(bucket.saturating_add(1))
            .copied()
            .map(u64::from)
            .sum()
    }

    /// The lowest bucket that at most this many are above.
    pub(super) fn with_above(&self, most: u64) -> usize {
        let mut above = 0;
        for (bucket, count) in self.0.iter().enumerate().rev() {
            above += u64::from(*count);
            if above > most {
                return bucket;
            }
        }
        0
    }

    /// The same distribution with a total of at most `most`: what is above each bound is scaled and rounded, so that a
    /// thin tail is not lost, as it would be if each bucket were.
    pub(super) fn scaled(&self, most: u64) -> Sketch {
        let total = self.total();
        if total <= most {
            return *self;
        }
        let mut scaled = [0; Sketch::BUCKETS];
        let (mut above, mut given) = (0_u64, 0);
        for (count, to) in self.0.iter().zip(&mut scaled).rev() {
            above += u64::from(*count);
            let share = above as f64 / total as f64;
            let upto = (share * most as f64).round() as u32;
            *to = upto.saturating_sub(given);
            given = given.max(upto);
        }
        Sketch(scaled)
    }
}

impl Default for Sketch {
    fn default() -> Sketch {
        Sketch([0; Sketch::BUCKETS])
    }
}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let buckets = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        f.debug_map()
            .entries(buckets.map(|(bucket, count)| (Sketch::bound(bucket), count)))
            .finish()
    }
}

/// As it is stored: the first bucket that is not empty, and the counts from there to the last one.
#[derive(Serialize, Deserialize)]
struct Sparse(usize, Vec<u32>);

impl From<Sketch> for Sparse {
    fn from(sketch: Sketch) -> Sparse {
        let first = sketch.0.iter().position(|count| *count > 0).unwrap_or(0);
        let end = sketch.0.iter().rposition(|count| *count > 0);
        let counts = end.map_or(Vec::new(), |end| sketch.0[first..=end].to_vec());
        Sparse(first, counts)
    }
}

impl From<Sparse> for Sketch {
    fn from(Sparse(first, counts): Sparse) -> Sketch {
        let mut sketch = Sketch::default();
        for (at, count) in counts.into_iter().take(Sketch::BUCKETS).enumerate() {
            sketch.add_to(first.saturating_add(at), count);
        }
        sketch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_in_the_bucket_that_its_bound_names() {
        for bucket in 0..Sketch::BUCKETS - 1 {
            let bound = Sketch::bound(bucket);
            assert!(Sketch::bucket(bound.saturating_sub(1)) <= bucket, "{bound}");
            assert!(Sketch::bucket(bound + 2) > bucket, "{bound}");
        }
        assert_eq!(Sketch::bucket(0), 0);
        assert_eq!(Sketch::bucket(1000), 0);
        assert_eq!(Sketch::bucket(2000), 8);
        assert_eq!(Sketch::bucket(u64::MAX), Sketch::BUCKETS - 1);
        assert_eq!(Sketch::bound(usize::MAX), Sketch::bound(127));
    }

    #[test]
    fn what_is_above_a_bucket_is_counted_whole() {
        let mut sketch = Sketch::default();
        sketch.add(1_000, 90);
        sketch.add(2_000, 9);
        sketch.add(100_000, 1);
        assert_eq!(sketch.total(), 100);
        assert_eq!(sketch.above(8), 1);
        assert_eq!(sketch.above(7), 10);
        assert_eq!(sketch.with_above(1), 8);
        assert_eq!(sketch.with_above(0), Sketch::bucket(100_000));
        assert_eq!(sketch.with_above(100), 0);
        assert_eq!(sketch.above(usize::MAX), 0);
    }

    #[test]
    fn a_thin_tail_survives_being_scaled() {
        let mut sketch = Sketch::default();
        sketch.add_to(10, 9_900);
        for bucket in 20..120 {
            sketch.add_to(bucket, 1);
        }
        let scaled = sketch.scaled(1000);
        assert_eq!(scaled.total(), 1000);
        assert_eq!(scaled.above(10), 10);
        assert_eq!(scaled.above(69), 5);
        assert_eq!(sketch.scaled(10_000), sketch);
    }

    #[test]
    fn a_stored_sketch_is_the_same_and_one_that_is_too_long_is_cut() {
        let mut sketch = Sketch::default();
        assert_eq!(serde_json::to_string(&sketch).unwrap(), "[0,[]]");
        sketch.add_to(3, 1);
        sketch.add_to(5, u32::MAX);
        let text = serde_json::to_string(&sketch).unwrap();
        assert_eq!(text, "[3,[1,0,4294967295]]");
        assert_eq!(serde_json::from_str::<Sketch>(&text).unwrap(), sketch);
        let long = format!("[126,{:?}]", vec![1; 500]);
        let cut: Sketch = serde_json::from_str(&long).unwrap();
        assert_eq!(cut.total(), 128);
    }
}
