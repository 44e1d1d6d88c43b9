//! Which endpoint of a revision: power of two choices over in-flight requests times peak EWMA of the latency.
//!
//! Two endpoints are drawn at random and the cheaper one is taken: near the best choice at the price of two look-ups, and
//! without the herding of "always the least loaded". The cost is `latency * (in flight + 1)`. The latency is a *peak* EWMA: a slower
//! sample counts at once, a faster one gradually, and without samples it decays, so that an endpoint that was slow is tried again. A failure
//! counts as a sample of at least [`PENALTY`]: else the endpoint that fails fastest would look best and draw all traffic.
//!
//! An endpoint without samples is compared by requests in flight alone, so a new one gets its share but no flood. And not all of its share at
//! once: it is cold, so beside older ones it begins with [`COLDEST`] of it, and has all of it after [`WARM`]. Among equally
//! new ones nothing is held back.
//!
//! What fails again and again is out for a while ([`outlier`](crate::outlier)): never more than half of the endpoints. If more would have to
//! be, it is not them; then nobody is out, and only the cost decides.
//! Not here: load seen by other workers or proxies.

use std::time::{Duration, Instant};

use crate::outlier::Outlier;

/// The time in which an old sample loses 63 % of its influence.
const DECAY: Duration = Duration::from_secs(10);
/// What a failed request counts as, at least.
const PENALTY: Duration = Duration::from_secs(1);
/// How long a new endpoint is cold.
pub const WARM: Duration = Duration::from_secs(10);
/// The share that it begins with, of what an older one would get.
pub const COLDEST: f64 = 0.1;

/// How an attempt ended, for the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// An answer's head came after this time.
    Answered(Duration),
    /// No connection, a server error or a reset after this time.
    Failed(Duration),
    /// It has too many requests, and says so at once: it is no worse than others, and must not look better.
    TurnedAway,
}

/// What one worker knows of one endpoint's load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    in_flight: u32,
    latency: Option<Latency>,
    /// Since when it is known; `None`: since ever.
    since: Option<Instant>,
    outlier: Outlier,
}

/// Peak EWMA in seconds.
#[derive(Clone, Copy, Debug)]
struct Latency {
    seconds: f64,
    at: Instant,
}

impl Load {
    /// Of an endpoint that comes now.
    pub fn new(now: Instant) -> Load {
        Load {
            since: Some(now),
            ..Load::default()
        }
    }

    pub fn start(&mut self) {
        self.in_flight += 1;
    }

    pub fn finish(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Learns from an attempt. Says for how long the endpoint is out from now on, if it is because of it.
    pub fn observe(&mut self, sample: Sample, now: Instant) -> Option<Duration> {
        let (seconds, out) = match sample {
            Sample::Answered(time) => (time.as_secs_f64(), None),
            Sample::TurnedAway => (PENALTY.as_secs_f64(), None),
            Sample::Failed(time) => (time.max(PENALTY).as_secs_f64(), self.outlier.failed(now)),
        };
        let seconds = match self.latency {
            Some(old) if seconds < old.seconds => {
                let keep = old.keep(now);
                old.seconds * keep + seconds * (1.0 - keep)
            }
            Some(_) | None => seconds,
        };
        self.latency = Some(Latency { seconds, at: now });
        out
    }

    /// Whether a whole answer would change anything: see [`Load::well`].
    pub fn is_suspect(&self) -> bool {
        self.outlier.is_suspect()
    }

    /// A whole answer came that is no failure.
    pub fn well(&mut self, now: Instant) {
        self.outlier.well(now);
    }

    fn is_out(&self, now: Instant) -> bool {
        self.outlier.is_out(now)
    }

    /// How much of its share it may have.
    fn warmth(&self, now: Instant) -> f64 {
        let Some(since) = self.since else { return 1.0 };
        let age = now.saturating_duration_since(since).as_secs_f64();
        (age / WARM.as_secs_f64()).clamp(COLDEST, 1.0)
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
            let drawn = [(first, load(first)), (second, load(second))];
            if drawn.iter().any(|(_, load)| load.is_out(now)) {
                return among_those_in(count, load, random, now);
            }
            Some(better(drawn, random, now))
        }
    }
}

/// The same where somebody is out.
fn among_those_in(
    count: usize,
    load: impl Fn(usize) -> Load,
    random: u64,
    now: Instant,
) -> Option<usize> {
    let all = || 0..count;
    let is_in = |index: &usize| !load(*index).is_out(now);
    let left = all().filter(is_in).count();
    if left * 2 < count {
        let (first, second) = two(count, random);
        return Some(better(
            [first, second].map(|at| (at, load(at))),
            random,
            now,
        ));
    }
    if left < 2 {
        return all().find(is_in);
    }
    let (first, second) = two(left, random);
    let first = all().filter(is_in).nth(first)?;
    let second = all().filter(is_in).nth(second)?;
    Some(better(
        [first, second].map(|at| (at, load(at))),
        random,
        now,
    ))
}

/// The cheaper of two, as long as it is not too cold beside the other.
fn better([(first, one), (second, other)]: [(usize, Load); 2], random: u64, now: Instant) -> usize {
    let (chosen, by, instead, than) = if is_cheaper(other, one, now) {
        (second, other, first, one)
    } else {
        (first, one, second, other)
    };
    let (warmth, others) = (by.warmth(now), than.warmth(now));
    if warmth < others && chance(random) * others >= warmth {
        instead
    } else {
        chosen
    }
}

/// In 0..1. Other bits than those that the two were drawn by.
fn chance(random: u64) -> f64 {
    let mixed = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) as f64 / 2f64.powi(64)
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
mod simulation;

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

    /// Fails until it is out.
    fn out(now: Instant) -> Load {
        let mut load = Load::default();
        while load.observe(Sample::Failed(Duration::ZERO), now).is_none() {}
        assert!(load.is_out(now));
        load
    }

    #[test]
    fn at_most_half_are_out_and_the_others_share_what_they_would_get() {
        let now = Instant::now();
        for count in 1..12 {
            for bad in 0..=count {
                // Cost must not decide here: only who is out.
                let mut loads = vec![answered(10, now); count];
                for load in loads.iter_mut().take(bad) {
                    let outlier = out(now).outlier;
                    *load = Load { outlier, ..*load };
                }
                let shares = shares(&loads, now);
                let nobody = bad * 2 > count;
                let left = if nobody { count } else { count - bad };
                for (index, share) in shares.iter().enumerate() {
                    let expected = if nobody || index >= bad {
                        10_000 / left
                    } else {
                        0
                    };
                    assert!(
                        share.abs_diff(expected) <= expected / 4,
                        "{bad} of {count} fail: {shares:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_last_one_is_never_out() {
        let now = Instant::now();
        assert_eq!(shares(&[out(now)], now), [10_000]);
        assert_eq!(shares(&[out(now), answered(10, now)], now), [0, 10_000]);
        assert!(
            shares(&[out(now), out(now)], now)
                .iter()
                .all(|n| *n > 4_000)
        );
    }

    #[test]
    fn who_was_out_is_tried_again() {
        let now = Instant::now();
        let loads = [out(now), answered(10, now)];
        let later = now + crate::outlier::SHORTEST;
        assert!(!loads[0].is_out(later));
        let forgiven = now + Duration::from_secs(90);
        let other = answered(100, forgiven);
        assert_eq!(shares(&[loads[0], other], forgiven), [10_000, 0]);
    }

    #[test]
    fn a_new_endpoint_gets_its_share_little_by_little() {
        let now = Instant::now();
        let old = Load::default();
        let mut before = 0;
        for tenth in 0..=10 {
            let at = now + WARM * tenth / 10;
            let shares = shares(&[Load::new(now), old, old, old], at);
            let (share, full) = (shares[0], 2_500);
            assert!(
                share + 100 >= before,
                "it only grows: {share} after {before}"
            );
            before = share;
            match tenth {
                0 | 1 => assert!(share < full / 4, "{shares:?}"),
                10 => assert!(share.abs_diff(full) < 300, "{shares:?}"),
                _ => {}
            }
        }
    }

    #[test]
    fn among_endpoints_that_are_all_new_nothing_is_held_back() {
        let now = Instant::now();
        let shares = shares(&[Load::new(now); 4], now);
        assert!(
            shares.iter().all(|n| (2_200..2_800).contains(n)),
            "{shares:?}"
        );
        // And one that is alone gets everything.
        assert_eq!(pick(1, |_| Load::new(now), 7, now), Some(0));
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
