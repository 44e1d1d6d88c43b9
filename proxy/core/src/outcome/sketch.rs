//! Latencies, counted by size: a sparse sketch with buckets that are the same everywhere, so that sketches add up.
//!
//! Each power of two of microseconds is cut into 16 equal parts, as HdrHistogram does: a bucket is between 3.1 % and 6.3 % as
//! wide as its times are long, and finding it takes a shift and no logarithm. [`Bucket::FIRST`] has what is below 64 us,
//! [`Bucket::LAST`] what took 8.4 s or longer, and whatever nobody has seen an answer of.
//!
//! Buckets are ordered as their times are: "slower than a quantile" needs nothing but the order.

use std::time::Duration;

/// Parts of a power of two, as a power of two.
const PARTS: u32 = 4;
/// The shortest time that is told from shorter ones: 2^6 us.
const SHORTEST: u32 = 6;
/// The first time that is not told from longer ones: 2^23 us.
const LONGEST: u32 = 23;
/// How many buckets there are.
const COUNT: u16 = ((LONGEST - SHORTEST) << PARTS) as u16 + 2;

/// A range of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

/// A number of no bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no latency bucket {0}: they go from 0 to {max}", max = COUNT - 1)]
pub struct NoBucket(pub u64);

impl Bucket {
    /// Below 64 us.
    pub const FIRST: Bucket = Bucket(0);
    /// 8.4 s and longer, or never seen.
    pub const LAST: Bucket = Bucket(COUNT - 1);

    /// The bucket that a time is in.
    pub fn of(time: Duration) -> Bucket {
        Bucket::of_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    fn of_micros(micros: u64) -> Bucket {
        let Some(power) = micros.checked_ilog2().filter(|power| *power >= SHORTEST) else {
            return Bucket::FIRST;
        };
        if power >= LONGEST {
            return Bucket::LAST;
        }
        let part = (micros >> (power - PARTS)) & ((1 << PARTS) - 1);
        let before = (power - SHORTEST) << PARTS;
        // Below COUNT, since the power is below LONGEST.
        Bucket(1 + before as u16 + part as u16)
    }

    /// The shortest time in it, in microseconds.
    fn floor(self) -> u64 {
        let Some(index) = self.0.checked_sub(1) else {
            return 0;
        };
        let (power, part) = (
            SHORTEST + u32::from(index >> PARTS),
            u64::from(index & ((1 << PARTS) - 1)),
        );
        (1 << power) + (part << (power - PARTS))
    }

    /// A time in the middle of it: what stands for its times where one number has to. The last one's is its shortest.
    pub fn middle(self) -> Duration {
        let floor = self.floor();
        let end = match self {
            Bucket::LAST => floor,
            Bucket(index) => Bucket(index + 1).floor(),
        };
        Duration::from_micros(floor.midpoint(end))
    }

    /// Its place among all, from 0.
    pub fn index(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for Bucket {
    type Error = NoBucket;

    fn try_from(index: u64) -> Result<Bucket, NoBucket> {
        let known = u16::try_from(index).ok().filter(|index| *index < COUNT);
        known.map(Bucket).ok_or(NoBucket(index))
    }
}

/// How many times are in which bucket: sorted by bucket, no bucket twice, none that is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch(Vec<(Bucket, u32)>);

impl Sketch {
    /// Counts `times` more in a bucket; a full one stays full.
    pub fn add(&mut self, bucket: Bucket, times: u32) {
        if times == 0 {
            return;
        }
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(times),
            Err(at) => self.0.insert(at, (bucket, times)),
        }
    }

    pub fn merge(&mut self, other: &Sketch) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (bucket, times) in other.buckets() {
            self.add(bucket, times);
        }
    }

    /// The buckets with something in them, in their order.
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = (Bucket, u32)> + '_ {
        self.0.iter().copied()
    }

    /// All times.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, times)| u64::from(*times)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Bucket, u32)> for Sketch {
    fn from_iter<I: IntoIterator<Item = (Bucket, u32)>>(buckets: I) -> Sketch {
        let mut sketch = Sketch::default();
        for (bucket, times) in buckets {
            sketch.add(bucket, times);
        }
        sketch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Bucket> {
        (0..COUNT).map(Bucket)
    }

    #[test]
    fn every_time_is_in_the_bucket_whose_bounds_enclose_it() {
        for bucket in all().skip(1) {
            let floor = bucket.floor();
            assert_eq!(Bucket::of_micros(floor), bucket);
            assert_eq!(Bucket::of_micros(floor - 1).0, bucket.0 - 1);
        }
        assert_eq!(Bucket::of(Duration::ZERO), Bucket::FIRST);
        assert_eq!(Bucket::of(Duration::MAX), Bucket::LAST);
        assert_eq!(Bucket::LAST.floor(), 8_388_608);
    }

    #[test]
    fn buckets_are_about_a_twentieth_wide() {
        for bucket in all().skip(1).filter(|bucket| *bucket != Bucket::LAST) {
            let width = Bucket(bucket.0 + 1).floor() - bucket.floor();
            let share = width as f64 / bucket.floor() as f64;
            assert!((0.03..=0.0625).contains(&share), "{bucket:?}: {share}");
        }
    }

    #[test]
    fn the_middle_of_a_bucket_is_in_it_and_a_number_of_none_is_refused() {
        for bucket in all() {
            assert_eq!(Bucket::of(bucket.middle()), bucket);
            assert_eq!(Bucket::try_from(u64::from(bucket.index())), Ok(bucket));
        }
        for index in [u64::from(COUNT), 65_536, u64::MAX] {
            assert_eq!(Bucket::try_from(index), Err(NoBucket(index)));
        }
    }

    #[test]
    fn sketches_add_up() {
        let of = |micros: &[u64]| -> Sketch {
            let buckets = micros.iter().map(|micros| (Bucket::of_micros(*micros), 1));
            buckets.collect()
        };
        let mut sum = of(&[5_000, 70]);
        sum.merge(&of(&[9_000, 70, 1]));
        sum.merge(&Sketch::default());
        assert_eq!(sum, of(&[1, 70, 70, 5_000, 9_000]));
        assert_eq!((sum.count(), sum.buckets().len()), (5, 4));
        sum.add(Bucket::FIRST, u32::MAX);
        assert_eq!(sum.buckets().next(), Some((Bucket::FIRST, u32::MAX)));
    }
}
