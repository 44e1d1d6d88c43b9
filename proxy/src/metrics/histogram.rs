//! A latency histogram of plain atomics: recording is a binary search and two relaxed adds, no lock.
//!
//! Steps of about 20 % from 1 ms to 60 s: a p99 read from it is at most a fifth off, and 500 ms, a likely threshold, is a bound.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in microseconds.
const BOUNDS: [u64; 58] = {
    const DECADE: [u64; 12] = [100, 120, 150, 180, 220, 270, 330, 400, 500, 600, 700, 850];
    let mut bounds = [0; 58];
    let (mut i, mut scale) = (0, 10);
    while i < 58 {
        bounds[i] = DECADE[i % 12] * scale;
        if i % 12 == 11 {
            scale *= 10;
        }
        i += 1;
    }
    bounds
};

/// Times, counted by size.
#[derive(Debug)]
pub(super) struct Histogram {
    /// The last one takes what is above every bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// What a histogram held at one moment, as the text format wants it.
pub(super) struct Reading {
    pub seconds: f64,
    pub count: u64,
    /// (upper bound in seconds, times in this bucket alone).
    pub buckets: Vec<(f64, u64)>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BOUNDS.len() + 1],
            micros: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub(super) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|&bound| bound < micros)]
            .fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Reading {
        let bounds = BOUNDS
            .iter()
            .map(|&micros| micros as f64 / 1e6)
            .chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .zip(&self.buckets)
            .map(|(bound, n)| (bound, n.load(Ordering::Relaxed)))
            .collect();
        Reading {
            seconds: self.micros.load(Ordering::Relaxed) as f64 / 1e6,
            // The sum of the buckets, not a counter of its own: the two must agree in every scrape.
            count: buckets.iter().map(|(_, n)| n).sum(),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_by_about_a_fifth_from_a_millisecond_to_a_minute() {
        assert_eq!((BOUNDS[0], BOUNDS[57]), (1_000, 60_000_000));
        assert!(BOUNDS.contains(&500_000));
        for pair in BOUNDS.windows(2) {
            let step = pair[1] as f64 / pair[0] as f64;
            assert!((1.15..=1.26).contains(&step), "{pair:?}");
        }
    }

    #[test]
    fn a_time_lands_in_the_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for micros in [1, 1_000, 1_001, 60_000_000, 60_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let reading = histogram.read();
        let filled: Vec<(f64, u64)> = reading
            .buckets
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect();
        assert_eq!(
            filled,
            [(0.001, 2), (0.0012, 1), (60.0, 1), (f64::INFINITY, 1)]
        );
        assert_eq!(reading.count, 5);
    }
}
