//! Many requests over some endpoints, in simulated time: what the rules above come to together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::*;

/// How an endpoint answers.
#[derive(Clone, Copy)]
struct Server {
    /// How long a good answer takes, on average.
    millis: u64,
    /// Of a thousand requests.
    fails: u64,
    /// How long a failure takes.
    failing_millis: u64,
}

const GOOD: Server = Server {
    millis: 20,
    fails: 0,
    failing_millis: 0,
};

/// What one endpoint got.
#[derive(Clone, Copy, Default)]
struct Got {
    requests: u64,
    failed: u64,
}

struct Simulation {
    begun: Instant,
    now: Duration,
    loads: Vec<Load>,
    /// When a request ends, at which endpoint, when it began, and whether it fails.
    ends: BinaryHeap<Reverse<(Duration, usize, Duration, bool)>>,
    chance: u64,
}

impl Simulation {
    fn of(count: usize) -> Simulation {
        Simulation {
            begun: Instant::now(),
            now: Duration::ZERO,
            loads: vec![Load::default(); count],
            ends: BinaryHeap::new(),
            chance: 7,
        }
    }

    /// Splitmix64: the same in each run.
    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// So many requests a second, evenly, for so many seconds.
    fn run(&mut self, servers: &[Server], seconds: u64, per_second: u64) -> Vec<Got> {
        let mut got = vec![Got::default(); servers.len()];
        for _ in 0..seconds * per_second {
            self.now += Duration::from_micros(1_000_000 / per_second);
            self.end_what_is_over();
            let now = self.begun + self.now;
            let (random, chance) = (self.random(), self.random());
            let index = pick(self.loads.len(), |at| self.loads[at], random, now).unwrap();
            let server = servers[index];
            let is_failure = chance % 1_000 < server.fails;
            // Between half and one and a half times the average.
            let spread =
                |millis: u64| Duration::from_micros(millis * (500 + (chance >> 32) % 1_000));
            let time = spread(if is_failure {
                server.failing_millis
            } else {
                server.millis
            });
            self.loads[index].start();
            self.ends
                .push(Reverse((self.now + time, index, self.now, is_failure)));
            got[index].requests += 1;
            got[index].failed += u64::from(is_failure);
        }
        got
    }

    fn end_what_is_over(&mut self) {
        while let Some(Reverse((at, index, began, is_failure))) = self.ends.peek().copied()
            && at <= self.now
        {
            self.ends.pop();
            let (time, then) = (at - began, self.begun + at);
            let load = &mut self.loads[index];
            load.finish();
            if is_failure {
                load.observe(Sample::Failed(time), then);
            } else {
                load.observe(Sample::Answered(time), then);
                load.well(then);
            }
        }
    }
}

/// The share of all requests, in thousandths.
fn share(got: &[Got], index: usize) -> u64 {
    let all: u64 = got.iter().map(|each| each.requests).sum();
    got[index].requests * 1_000 / all
}

#[test]
fn among_equals_nobody_gets_much_more_than_others() {
    let got = Simulation::of(4).run(&[GOOD; 4], 60, 500);
    for index in 0..4 {
        let share = share(&got, index);
        assert!((200..=300).contains(&share), "{share}");
    }
}

#[test]
fn a_slower_one_gets_what_it_can_carry() {
    let slow = Server {
        millis: 200,
        ..GOOD
    };
    let got = Simulation::of(4).run(&[slow, GOOD, GOOD, GOOD], 60, 500);
    assert!(share(&got, 0) < 60, "{}", share(&got, 0));
}

/// Without the penalty it would be the fastest one, and get most of the requests.
#[test]
fn one_that_fails_fast_now_and_then_is_avoided_and_not_preferred() {
    for (fails, most) in [(20, 150), (100, 40), (500, 25)] {
        let bad = Server {
            fails,
            failing_millis: 1,
            ..GOOD
        };
        let got = Simulation::of(4).run(&[bad, GOOD, GOOD, GOOD], 120, 500);
        assert!(share(&got, 0) < most, "{fails}: {}", share(&got, 0));
        assert!(got[0].requests > 0, "it is tried again");
    }
}

#[test]
fn one_that_fails_all_of_its_requests_costs_few() {
    let bad = Server {
        fails: 1_000,
        failing_millis: 1,
        ..GOOD
    };
    let got = Simulation::of(4).run(&[bad, GOOD, GOOD, GOOD], 300, 500);
    assert!(got[0].failed < 60, "{} of 150000", got[0].failed);
}

#[test]
fn one_that_is_well_again_has_its_share_again() {
    let bad = Server {
        fails: 300,
        failing_millis: 1,
        ..GOOD
    };
    let mut simulation = Simulation::of(4);
    simulation.run(&[bad, GOOD, GOOD, GOOD], 60, 500);
    // Longer than an outlier is out after this, and an old failure counts.
    simulation.run(&[GOOD; 4], 400, 100);
    let got = simulation.run(&[GOOD; 4], 60, 500);
    let share = share(&got, 0);
    assert!((200..=300).contains(&share), "{share}");
}

#[test]
fn where_all_fail_alike_all_are_asked() {
    let bad = Server {
        fails: 300,
        failing_millis: 1,
        ..GOOD
    };
    let got = Simulation::of(4).run(&[bad; 4], 120, 500);
    for index in 0..4 {
        assert!(share(&got, index) > 120, "{}", share(&got, index));
    }
}
