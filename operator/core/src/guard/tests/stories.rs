//! Releases, second by second: what is found, how fast, and what is not taken for a fault.

use super::chance::Chance;
use super::*;

/// So many requests a second, of stable one in 1000 fails.
struct Service {
    guard: Guard,
    chance: Chance,
    at: i64,
    requests: u64,
}

impl Service {
    fn new(seed: u64, requests: u64) -> Service {
        let mut service = Service {
            guard: Guard::new(limits()),
            chance: Chance(seed),
            at: 1_700_000_000,
            requests,
        };
        service.run(300, 0, 0, (0.0, 0.001));
        service
    }

    /// Seconds at a weight and with error rates of canary and stable; how many went by until the alarm.
    fn run(&mut self, seconds: i64, epoch: u64, weight: u64, rates: (f64, f64)) -> Option<i64> {
        let before = self.at;
        for _ in 0..seconds {
            self.at += 1;
            let n_c = self.requests * weight / 100;
            let n_s = self.requests - n_c;
            let canary = (n_c, self.chance.errors(n_c, rates.0));
            let stable = (n_s, self.chance.errors(n_s, rates.1));
            self.guard.see(&second(self.at, epoch, canary, stable));
        }
        self.guard.alarm().map(|alarm| alarm.at - before)
    }
}

#[test]
fn a_canary_that_fails_every_request_is_found_in_three_to_five_seconds() {
    for seed in 0..50 {
        let mut service = Service::new(seed, 500);
        let found = service.run(10, 1, 1, (1.0, 0.001)).unwrap();
        assert!((3..=5).contains(&found), "seed {seed}: {found} s");
        assert_eq!(service.guard.alarm().unwrap().by, Budget::Errors);
    }
}

#[test]
fn a_fault_after_minutes_of_good_seconds_is_found_as_fast() {
    let mut found: Vec<i64> = (0..50)
        .map(|seed| {
            let mut service = Service::new(seed, 500);
            assert_eq!(service.run(240, 1, 10, (0.001, 0.001)), None);
            service.run(20, 1, 10, (0.5, 0.001)).unwrap()
        })
        .collect();
    found.sort_unstable();
    assert!((3..=5).contains(&found[25]), "{found:?}");
    // Where stable's few errors came together by chance, its dispersion holds the guard back.
    assert!(found[49] <= 8, "{found:?}");
}

#[test]
fn an_incident_of_both_raises_nothing() {
    for seed in 0..50 {
        let mut service = Service::new(seed, 500);
        assert_eq!(service.run(60, 1, 10, (0.001, 0.001)), None);
        assert_eq!(service.run(60, 1, 10, (0.2, 0.2)), None, "seed {seed}");
        assert_eq!(service.run(60, 1, 10, (1.0, 1.0)), None, "seed {seed}");
        assert_eq!(service.run(120, 2, 50, (0.001, 0.001)), None, "seed {seed}");
    }
}

#[test]
fn a_good_release_through_all_steps_raises_nothing() {
    for seed in 0..50 {
        let mut service = Service::new(seed, 100);
        for (epoch, weight, seconds) in [(1, 1, 60), (2, 10, 120), (3, 50, 300), (4, 100, 60)] {
            let alarm = service.run(seconds, epoch, weight, (0.001, 0.001));
            assert_eq!(alarm, None, "seed {seed} at {weight} %");
        }
        assert!(service.guard.wealth() < 0.0, "it looks no worse");
    }
}

/// An increase below the margin was asked to be let through.
#[test]
fn an_increase_within_the_margin_raises_nothing() {
    for seed in 0..20 {
        let mut service = Service::new(seed, 500);
        assert_eq!(service.run(300, 1, 50, (0.004, 0.001)), None, "seed {seed}");
    }
}

#[test]
fn once_alarmed_it_stays_alarmed() {
    let mut service = Service::new(1, 500);
    service.run(10, 1, 10, (1.0, 0.001));
    let alarm = service.guard.alarm();
    assert!(alarm.is_some());
    service.run(600, 1, 10, (0.0, 0.001));
    assert_eq!(service.guard.alarm(), alarm);
}

/// Latency of both: the canary's requests take `factor` times as long.
fn latencies(seed: u64, factor: f64, seconds: i64) -> (Guard, Option<i64>) {
    let mut guard = Guard::new(limits());
    let mut chance = Chance(seed);
    let begin = 1_700_000_300;
    for at in begin - 300..begin + seconds {
        let epoch = u64::from(at >= begin);
        let n_c = 50 * epoch;
        let mut this = second(at, epoch, (n_c, 0), (500 - n_c, 0));
        // Exponential above 5 ms, as many services are: the 99th percentile is at 51 ms.
        let mut time = || 5_000.0 - 10_000.0 * (1.0 - chance.share()).ln();
        for _ in 0..n_c {
            this.canary.latency.add((time() * factor) as u64, 1);
        }
        for _ in n_c..500 {
            this.stable.latency.add(time() as u64, 1);
        }
        guard.see(&this);
    }
    let found = guard.alarm().map(|alarm| alarm.at + 1 - begin);
    (guard, found)
}

#[test]
fn a_canary_that_is_slower_is_found_by_its_latency() {
    for seed in 0..10 {
        let (guard, found) = latencies(seed, 3.0, 60);
        assert!(found.is_some_and(|s| s <= 8), "seed {seed}: {found:?}");
        assert_eq!(guard.alarm().unwrap().by, Budget::Latency);
        let slow = guard.slow_above().unwrap();
        assert!((46_000..64_000).contains(&slow), "{slow} us");
        let size = serde_json::to_string(&guard).unwrap().len();
        assert!(size < 1400, "{size} bytes");
        assert_eq!(latencies(seed, 1.0, 300).1, None, "seed {seed}");
    }
}
