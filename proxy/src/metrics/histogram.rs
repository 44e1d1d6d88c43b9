//! A latency histogram of plain atomics: recording is a binary search and two relaxed adds, no lock.
//!
//! What a release is held to is a share of requests below a threshold, so the bounds are the numbers that people choose as thresholds: at those the share is
//! exact, and no p99 gate is off by anything. A quantile that is read from the buckets, as `histogram_quantile` does, is within 5 % for latencies that are spread as those of services
//! are; at worst, where times end within a bucket, it is off by the bucket's width, a quarter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// From 1 ms to 60 s.
const COUNT: usize = 63;

/// Upper bounds in microseconds.
const BOUNDS: [u64; COUNT] = {
    const DECADE: [u64; 13] = [
        100, 120, 150, 175, 200, 250, 300, 350, 400, 500, 600, 750, 850,
    ];
    let mut bounds = [0; COUNT];
    let (mut i, mut scale) = (0, 10);
    while i < COUNT {
        bounds[i] = DECADE[i % DECADE.len()] * scale;
        if i % DECADE.len() == DECADE.len() - 1 {
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
    fn bounds_rise_by_a_quarter_at_most_from_a_millisecond_to_a_minute() {
        assert_eq!((BOUNDS[0], BOUNDS[COUNT - 1]), (1_000, 60_000_000));
        for pair in BOUNDS.windows(2) {
            let step = pair[1] as f64 / pair[0] as f64;
            assert!((1.13..=1.25).contains(&step), "{pair:?}");
        }
    }

    /// The share of times at or below a threshold, as the operator reads it: linear inside a bucket.
    fn share_below(reading: &Reading, threshold: f64) -> f64 {
        let (mut below, mut before) = (0.0, 0.0);
        for &(bound, count) in &reading.buckets {
            if bound >= threshold {
                let part = (threshold - before) / (bound - before);
                return (below + count as f64 * part) / reading.count as f64;
            }
            (below, before) = (below + count as f64, bound);
        }
        1.0
    }

    /// As `histogram_quantile` reads it.
    fn quantile(reading: &Reading, q: f64) -> f64 {
        let (rank, mut below, mut before) = (q * reading.count as f64, 0.0, 0.0);
        for &(bound, count) in &reading.buckets {
            let count = count as f64;
            if below + count >= rank {
                return before + (bound - before) * (rank - below) / count;
            }
            (below, before) = (below + count, bound);
        }
        f64::INFINITY
    }

    fn filled(times: &[f64]) -> Reading {
        let histogram = Histogram::default();
        for time in times {
            histogram.record(Duration::from_secs_f64(*time));
        }
        histogram.read()
    }

    #[test]
    fn a_gate_at_a_threshold_that_people_choose_is_exact_wherever_the_times_lie() {
        for millis in [
            1, 2, 5, 10, 20, 25, 50, 75, 100, 150, 200, 250, 300, 350, 400, 500, 600, 750, 1_000,
            1_500, 2_000, 2_500, 3_000, 5_000, 10_000, 30_000, 60_000,
        ] {
            let threshold = f64::from(millis) / 1e3;
            // All just below and just above it: the worst that there is.
            let times = [vec![threshold; 99], vec![threshold * 1.01; 1]].concat();
            assert_eq!(share_below(&filled(&times), threshold), 0.99, "{millis} ms");
        }
    }

    #[test]
    fn a_p99_of_times_as_services_have_them_is_read_within_5_percent() {
        const COUNT: u32 = 20_000;
        let ranks = || (0..COUNT).map(|rank| (f64::from(rank) + 0.5) / f64::from(COUNT));
        type Inverse = fn(f64) -> f64;
        let spreads: [(&str, Inverse); 3] = [
            ("exponential", |rank| -(1.0 - rank).ln()),
            // A heavy tail.
            ("Pareto", |rank| (1.0 - rank).powf(-1.0 / 3.0)),
            ("logistic of the logarithm", |rank| {
                (rank / (1.0 - rank)).powf(0.25)
            }),
        ];
        for (name, inverse) in spreads {
            for scale in [2e-3, 7e-3, 0.021, 0.064, 0.13, 0.41, 1.1, 3.7] {
                let times: Vec<f64> = ranks().map(|rank| scale * inverse(rank)).collect();
                let (read, is) = (quantile(&filled(&times), 0.99), scale * inverse(0.99));
                let off = (read / is - 1.0).abs();
                assert!(off < 0.05, "{name} x {scale}: {read} for {is}");
            }
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
