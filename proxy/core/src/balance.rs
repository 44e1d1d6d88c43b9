//! Which endpoint of a revision: power of two choices over in-flight requests times peak EWMA of the latency.
//!
//! Two endpoints are drawn at random and the cheaper one is taken: near the best choice at the price of two look-ups, and
//! without the herding of "always the least loaded". The cost is `latency * (in flight + 1)`. The latency is a *peak* EWMA: a slower
//! sample counts at once, a faster one gradually, and without samples it decays, so that an endpoint that was slow is tried again. A failure
//! counts as a sample of at least [`PENALTY`]: else the endpoint that fails fastest would look best and draw all traffic.
//!
//! An endpoint without samples is compared by requests in flight alone, so a new one gets its share but no flood.
//! Not here: slow start, outlier ejection, load seen by other workers or proxies.

use std::time::{Duration, Instant};

/// The time in which an old sample loses 63 % of its influence.
const DECAY: Duration = Duration::from_secs(10);
/// What a failed request counts as, at least.
const PENALTY: Duration = Duration::from_secs(1);

/// How an attempt ended, for the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// An answer's head came after this time.
    Answered(Duration),
    /// No connection, a server error or a reset after this time.
    Failed(Duration),
}

/// What one worker knows of one endpoint's load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    in_flight: u32,
    latency: Option<Latency>,
}

/// Peak EWMA in seconds.
#[derive(Clone, Copy, Debug)]
struct Latency {
    seconds: f64,
    at: Instant,
}

impl Load {
    pub fn start(&mut self) {
        self.in_flight += 1;
    }

    pub fn finish(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Learns from an attempt.
    pub fn observe(&mut self, sample: Sample, now: Instant) {
        let seconds = match sample {
            Sample::Answered(time) => time.as_secs_f64(),
            Sample::Failed(time) => time.max(PENALTY).as_secs_f64(),
        };
        let seconds = match self.latency {
            Some(old) if seconds < old.seconds => {
                let keep = old.keep(now);
                old.seconds * keep + seconds * (1.0 - keep)
            }
            Some(_) | None => seconds,
        };
        self.latency = Some(Latency { seconds, at: now });
    }

    /// The latency as it counts at `now`, if there ever was a sample.
    fn latency(&self, now: Instant) -> Option<f64> {
        self.latency
            .map(|latency| latency.seconds * latency.keep(now))
    }
}

impl Latency {
    /// How much of this value is left at `now`.
    fn keep(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

/// The index of the endpoint to use among `count`, or `None` if there is none. `random` is any 64 random bits.
pub fn pick(
    count: usize,
    load: impl Fn(usize) -> Load,
    random: u64,
    now: Instant,
) -> Option<usize> {
    match count {
        0 => None,
        1 => Some(0),
        _ => {
            let (first, second) = two(count, random);
            Some(if is_cheaper(load(second), load(first), now) {
                second
            } else {
                first
            })
        }
    }
}

/// Two different indices below `count` (at least 2).
fn two(count: usize, random: u64) -> (usize, usize) {
    let (high, low) = ((random >> 32) as usize, (random & 0xffff_ffff) as usize);
    let first = high % count;
    let second = low % (count - 1);
    (first, if second >= first { second + 1 } else { second })
}

fn is_cheaper(this: Load, that: Load, now: Instant) -> bool {
    let cost = |latency: f64, load: Load| latency * (f64::from(load.in_flight) + 1.0);
    match (this.latency(now), that.latency(now)) {
        (Some(a), Some(b)) => cost(a, this) < cost(b, that),
        (None, _) | (_, None) => this.in_flight < that.in_flight,
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to count from"
)]
mod tests {
    use super::*;

    fn random(seed: &mut u64) -> u64 {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *seed ^ (*seed >> 29)
    }

    /// How often each endpoint is taken in 10 000 picks.
    fn shares(loads: &[Load], now: Instant) -> Vec<usize> {
        let mut taken = vec![0; loads.len()];
        let mut seed = 1;
        for _ in 0..10_000 {
            taken[pick(loads.len(), |i| loads[i], random(&mut seed), now).unwrap()] += 1;
        }
        taken
    }

    fn answered(millis: u64, at: Instant) -> Load {
        let mut load = Load::default();
        load.observe(Sample::Answered(Duration::from_millis(millis)), at);
        load
    }

    #[test]
    fn nobody_is_picked_among_none_and_one_always_among_one() {
        let now = Instant::now();
        assert_eq!(pick(0, |_| Load::default(), 1, now), None);
        assert_eq!(pick(1, |_| Load::default(), u64::MAX, now), Some(0));
    }

    #[test]
    fn two_choices_are_always_different_and_reach_everyone() {
        for count in 2..20 {
            let mut seed = 9;
            let mut seen = vec![false; count];
            for _ in 0..1_000 {
                let (first, second) = two(count, random(&mut seed));
                assert!(first != second && first < count && second < count);
                seen[second] = true;
            }
            assert!(seen.iter().all(|&s| s), "{count}");
        }
    }

    #[test]
    fn equal_endpoints_get_equal_shares() {
        let shares = shares(&[Load::default(); 4], Instant::now());
        assert!(
            shares.iter().all(|n| (2_200..2_800).contains(n)),
            "{shares:?}"
        );
    }

    #[test]
    fn the_busier_of_two_is_never_taken() {
        let mut busy = Load::default();
        busy.start();
        assert_eq!(
            shares(&[busy, Load::default()], Instant::now()),
            [0, 10_000]
        );
        busy.finish();
        assert_eq!(busy.in_flight(), 0);
    }

    #[test]
    fn a_slow_endpoint_yields_until_the_others_are_as_busy() {
        let now = Instant::now();
        let (slow, mut fast) = (answered(30, now), answered(10, now));
        assert_eq!(shares(&[slow, fast], now), [0, 10_000]);
        (0..3).for_each(|_| fast.start());
        assert_eq!(shares(&[slow, fast], now), [10_000, 0]);
    }

    #[test]
    fn failing_fast_is_not_rewarded_and_is_forgiven_in_time() {
        let now = Instant::now();
        let mut failing = Load::default();
        failing.observe(Sample::Failed(Duration::from_micros(50)), now);
        assert_eq!(shares(&[failing, answered(100, now)], now), [0, 10_000]);
        let later = now + Duration::from_secs(60);
        assert_eq!(shares(&[failing, answered(100, later)], later), [10_000, 0]);
    }

    #[test]
    fn a_slow_sample_counts_at_once_and_a_fast_one_gradually() {
        let now = Instant::now();
        let mut load = answered(10, now);
        load.observe(Sample::Answered(Duration::from_millis(200)), now);
        assert_eq!(load.latency(now), Some(0.2));
        load.observe(
            Sample::Answered(Duration::from_millis(10)),
            now + Duration::from_secs(1),
        );
        let after = load.latency(now + Duration::from_secs(1)).unwrap();
        assert!(after > 0.15 && after < 0.2, "{after}");
    }
}
