//! The exact split: one canary pick at a random place in each window of `1/weight` requests.
//!
//! Why not a coin per request: at 1 % a coin gives a canary of 1 000 requests anything from 0.4 % to 1.7 %, and a step that
//! needs 100 canary requests takes an unknown time. Why not plain interleaving (every n-th request): requests
//! have patterns, and at 50 % every GET of a GET/POST pair would go to one side.
//!
//! Requests are numbered 0, 1, 2, ... by one atomic counter. On a line where a request is `weight` units long, window `k`
//! is `[k * SCALE, (k + 1) * SCALE)` and holds exactly one mark, at a place that is a hash of (seed, k). A
//! request is picked when a mark falls into it. Two marks may fall into one request that lies across a window's border: then the
//! second one is deferred to the next request, which lies wholly inside the second mark's window (a window is at least two
//! requests long), so deferrals never pile up. Above 50 % the same is done for the stable arm.
//!
//! The bound, after *every* number `n` of requests, not only at the end of windows: the number of picks is `floor(n * weight)`
//! or `ceil(n * weight)`; so the error is below 1 request, and exactly 0 whenever `n * weight` is whole.
//!
//! It is a pure function of (seed, weight, number of the request): any number of workers share one counter without a lock.
//! Requests that say whose they are may follow their users instead: [`sticky`]. Not here: the clamp by revocations (`revoked`).

mod siphash;
pub mod sticky;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::weight::Weight;

const SCALE: u64 = Weight::SCALE as u64;

/// Which way a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    Stable,
    Canary,
}

/// The split of one route in one weight epoch, shared by all workers. A new weight gets a new `Interleaver` with a new seed.
#[derive(Debug)]
pub struct Interleaver {
    weight: Weight,
    seed: u64,
    requests: AtomicU64,
}

impl Interleaver {
    pub fn new(weight: Weight, seed: u64) -> Interleaver {
        Interleaver {
            weight,
            seed,
            requests: AtomicU64::new(0),
        }
    }

    /// Picks for the next request.
    pub fn pick(&self) -> Pick {
        // Relaxed: nothing else is published with the number; only its uniqueness counts.
        pick(
            self.weight,
            self.seed,
            self.requests.fetch_add(1, Ordering::Relaxed),
        )
    }

    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// How many requests were picked for so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// What request number `request` (from 0) of the epoch gets.
pub fn pick(weight: Weight, seed: u64, request: u64) -> Pick {
    let units = u64::from(weight.units());
    let (units, rare, common) = if units * 2 <= SCALE {
        (units, Pick::Canary, Pick::Stable)
    } else {
        (SCALE - units, Pick::Stable, Pick::Canary)
    };
    if units > 0 && is_marked(units, seed, request) {
        rare
    } else {
        common
    }
}

/// Whether `request` is picked at `units` <= SCALE / 2.
fn is_marked(units: u64, seed: u64, request: u64) -> bool {
    let here = marks(units, seed, request);
    // A request has two marks only across a border, and then the one before it cannot have two.
    here > 0 || (request > 0 && marks(units, seed, request - 1) > 1)
}

/// How many marks fall into `request`: 0, 1 or 2.
fn marks(units: u64, seed: u64, request: u64) -> u32 {
    let (window, start) = position(units, request);
    let end = start + units; // exclusive; beyond SCALE it reaches into the next window
    let first = mark(seed, window);
    let mut marks = u32::from(start <= first && first < end);
    if end > SCALE {
        marks += u32::from(mark(seed, window + 1) < end - SCALE);
    }
    marks
}

/// The window in which `request` starts, and where in it: `request * units` divided by SCALE without overflow.
fn position(units: u64, request: u64) -> (u64, u64) {
    let (whole, part) = (request / SCALE, request % SCALE);
    (whole * units + part * units / SCALE, part * units % SCALE)
}

/// The place of a window's mark, uniform in `0..SCALE`.
fn mark(seed: u64, window: u64) -> u64 {
    let hash = mix(seed ^ mix(window));
    ((u128::from(hash) * u128::from(SCALE)) >> 64) as u64
}

/// SplitMix64's finalizer: neighbours and near-equal seeds come out unrelated.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [u64; 4] = [0, 1, 0xdead_beef, u64::MAX];

    fn weight(units: u32) -> Weight {
        Weight::new(units).unwrap()
    }

    /// Every percentage, and weights that share no factor with the scale or are finer than a percent.
    fn weights() -> Vec<Weight> {
        let odd = [
            1, 2, 3, 7, 333, 1_001, 33_333, 33_334, 49_999, 50_001, 66_667, 99_001, 99_998, 99_999,
        ];
        (0..=100)
            .map(|p| Weight::percent(p).unwrap())
            .chain(odd.map(weight))
            .collect()
    }

    #[test]
    fn picks_are_the_exact_share_rounded_after_every_single_request() {
        for weight in weights() {
            for seed in SEEDS {
                let mut picks = 0u64;
                for request in 0..(2 * SCALE + 1_000) {
                    picks += u64::from(pick(weight, seed, request) == Pick::Canary);
                    let exact = (request + 1) * u64::from(weight.units());
                    let (floor, ceil) = (exact / SCALE, exact.div_ceil(SCALE));
                    assert!(
                        (floor..=ceil).contains(&picks),
                        "weight {weight}, seed {seed}: {picks} picks after {} requests, not in {floor}..={ceil}",
                        request + 1
                    );
                }
            }
        }
    }

    #[test]
    fn zero_never_picks_the_canary_and_all_always_does() {
        for request in (0..1_000).chain([u64::MAX - 1, u64::MAX]) {
            assert_eq!(pick(Weight::ZERO, 7, request), Pick::Stable);
            assert_eq!(pick(Weight::ALL, 7, request), Pick::Canary);
        }
    }

    #[test]
    fn neither_arm_of_a_half_split_aligns_with_get_post_pairs() {
        let half = Weight::percent(50).unwrap();
        for seed in SEEDS {
            let even = (0..10_000)
                .filter(|n| pick(half, seed, n * 2) == Pick::Canary)
                .count();
            assert!(
                (4_700..5_300).contains(&even),
                "seed {seed}: {even} of 10000 even requests went to the canary"
            );
        }
    }

    #[test]
    fn no_period_up_to_a_hundred_requests_explains_the_picks() {
        for percent in [1, 10, 25, 50, 75, 90, 99] {
            let weight = Weight::percent(percent).unwrap();
            let picks: Vec<bool> = (0..20_000)
                .map(|n| pick(weight, 42, n) == Pick::Canary)
                .collect();
            let rare = picks.iter().filter(|&&p| p == (percent <= 50)).count();
            for period in 1..=100 {
                let repeated = picks
                    .windows(period + 1)
                    .filter(|w| w[0] == w[period] && w[0] == (percent <= 50))
                    .count();
                assert!(
                    repeated * 10 < rare * 9,
                    "{percent} %: {repeated} of {rare} rare picks repeat after {period} requests"
                );
            }
        }
    }

    #[test]
    fn every_place_in_a_window_is_taken_about_equally_often() {
        let weight = Weight::percent(10).unwrap();
        let mut places = [0u32; 10];
        for window in 0..10_000u64 {
            for place in 0..10u64 {
                if pick(weight, 3, window * 10 + place) == Pick::Canary {
                    places[place as usize] += 1;
                }
            }
        }
        assert_eq!(places.iter().sum::<u32>(), 10_000);
        assert!(
            places.iter().all(|n| (850..1_150).contains(n)),
            "{places:?}"
        );
    }

    #[test]
    fn seeds_give_different_places() {
        let weight = Weight::percent(10).unwrap();
        let places = |seed| {
            (0..1_000)
                .map(|n| pick(weight, seed, n))
                .collect::<Vec<_>>()
        };
        assert_ne!(places(1), places(2));
    }

    #[test]
    fn the_split_holds_at_the_far_end_of_the_counter() {
        let weight = weight(33_333);
        let start = u64::MAX - SCALE;
        let picks = (start..start + SCALE)
            .filter(|&n| pick(weight, 9, n) == Pick::Canary)
            .count();
        assert!((33_332..=33_334).contains(&picks), "{picks}");
    }

    #[test]
    fn workers_that_share_a_route_share_its_split() {
        let shared = Interleaver::new(Weight::percent(7).unwrap(), 5);
        let picks: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..25_000)
                            .filter(|_| shared.pick() == Pick::Canary)
                            .count()
                    })
                })
                .collect();
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert_eq!((picks, shared.requests()), (7_000, 100_000));
    }
}
