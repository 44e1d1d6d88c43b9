use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Any moment.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no other way to have one; what counts is the time between two"
)]
fn moment() -> Instant {
    Instant::now()
}

/// A proxy that sends requests at a steady pace, and whose time is its own.
struct Proxy {
    fuse: Fuse,
    now: Instant,
    random: fastrand::Rng,
}

/// What came of some requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    canary: u64,
    failed: u64,
    withheld: u64,
    opened: u64,
    closed: u64,
}

struct Traffic {
    per_second: u32,
    /// Of 1,000.
    weight: u32,
    /// Of 1,000 that fail.
    canary: u32,
    stable: u32,
}

impl Proxy {
    fn new(seed: u64) -> Proxy {
        let now = moment();
        Proxy {
            fuse: Fuse::new(TOLERANCE, now),
            now,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn sends(&mut self, traffic: &Traffic, time: Duration) -> Sent {
        let mut sent = Sent::default();
        let end = self.now + time;
        let drawn = |of: u32, random: &mut fastrand::Rng| random.u32(..1_000) < of;
        while self.now < end {
            let mut pick = Pick::Stable;
            if drawn(traffic.weight, &mut self.random) {
                match self.fuse.ask(self.now) {
                    Verdict::Pass => pick = Pick::Canary,
                    Verdict::Closes => {
                        sent.closed += 1;
                        pick = Pick::Canary;
                    }
                    Verdict::Withhold => sent.withheld += 1,
                }
            }
            self.fuse.started(pick, self.now);
            let fails = match pick {
                Pick::Canary => traffic.canary,
                Pick::Stable => traffic.stable,
            };
            sent.canary += u64::from(pick == Pick::Canary);
            if drawn(fails, &mut self.random) {
                sent.failed += u64::from(pick == Pick::Canary);
                let opened = self.fuse.failed(pick, self.now, self.now);
                sent.opened += u64::from(opened.is_some());
            }
            self.now += SECOND / traffic.per_second;
        }
        sent
    }
}

fn traffic(weight: u32, canary: u32) -> Traffic {
    Traffic {
        per_second: 500,
        weight,
        canary,
        stable: 1,
    }
}

#[test]
fn a_canary_that_fails_half_is_held_back_within_a_second_and_tried_on() {
    for seed in 0..200 {
        let mut proxy = Proxy::new(seed);
        let first = proxy.sends(&traffic(100, 500), SECOND);
        assert_eq!(first.opened, 1, "{seed}: {first:?}");
        assert!(first.failed <= 20, "{seed}: {first:?}");
        let then = proxy.sends(&traffic(100, 500), 10 * SECOND);
        assert!((20..=41).contains(&then.failed), "{seed}: {then:?}");
        assert!((45..=90).contains(&then.canary), "{seed}: {then:?}");
        assert!(then.withheld > 350 && then.opened == 0, "{seed}: {then:?}");
    }
}

#[test]
fn ten_requests_can_be_enough_and_fewer_cannot() {
    let seen = |canary: (u64, u64), stable: (u64, u64)| {
        let of = |(started, failed)| Attempts { started, failed };
        is_far_worse(
            Seen {
                canary: of(canary),
                stable: of(stable),
            },
            TOLERANCE,
        )
    };
    assert!(seen((10, 10), (90, 0)));
    assert!(!seen((9, 9), (900, 0)));
    assert!(!seen((900, 900), (9, 0)));
    assert!(!seen((10, 2), (90, 0)), "2 of 10 can be chance");
    assert!(seen((10, 10), (30, 0)) && !seen((10, 10), (10, 0)));
    assert!(!seen((10, 10), (90, 90)), "everybody fails");
    assert!(!seen((100, 50), (900, 450)));
    assert!(seen((100, 80), (900, 450)));
    assert!(!seen((100_000, 600), (900_000, 1_000)), "what is tolerated");
    assert!(seen((100_000, 1_000), (900_000, 1_000)));
    assert!(!seen((10, 0), (10, 10)), "the canary is better");
    assert!(seen((u64::from(u32::MAX), u64::from(u32::MAX)), (10, 0)));
}

#[test]
fn an_open_fuse_tries_the_canary_when_it_is_time_and_closes_when_that_is_over() {
    let start = moment();
    let mut fuse = Fuse::new(TOLERANCE, start);
    for _ in 0..90 {
        fuse.started(Pick::Stable, start);
    }
    let opened = (0..10).filter(|_| {
        fuse.started(Pick::Canary, start);
        fuse.failed(Pick::Canary, start, start).is_some()
    });
    assert_eq!(opened.count(), 1);
    let mut ask = |millis: u32| fuse.ask(start + millis * MS);
    let times = [0, 249, 250, 274, 275];
    let tried = [false, false, true, false, true];
    assert_eq!(times.map(|at| ask(at) == Verdict::Pass), tried);
    let at = start + 276 * MS;
    assert_eq!(fuse.failed(Pick::Canary, at, at), None);
    let mut ask = |millis: u32| fuse.ask(start + millis * MS);
    assert_eq!([525, 526].map(&mut ask), [Verdict::Withhold, Verdict::Pass]);
    let over = [29_999, 30_000, 30_000].map(&mut ask);
    assert_eq!(over, [Verdict::Pass, Verdict::Closes, Verdict::Pass]);
}

/// Whether it opens at the last of the failures that end this history: requests of the canary's that succeed, and that fail, in each
/// second, beside 90 good ones of stable's.
fn opens(history: &[(u32, u32)]) -> bool {
    let start = moment();
    let mut fuse = Fuse::new(TOLERANCE, start);
    let mut opened = false;
    for (second, (good, bad)) in (5_u32..).zip(history) {
        let now = start + second * SECOND;
        for (pick, count) in [(Pick::Stable, 90), (Pick::Canary, *good)] {
            (0..count).for_each(|_| fuse.started(pick, now));
        }
        for _ in 0..*bad {
            fuse.started(Pick::Canary, now);
            opened |= fuse.failed(Pick::Canary, now, now).is_some();
        }
    }
    opened
}

#[test]
fn the_last_two_seconds_are_the_shortest_that_are_looked_at() {
    assert!(opens(&[(0, 0), (0, 10)]));
    assert!(opens(&[(200, 0), (0, 0), (0, 10)]));
    assert!(!opens(&[(100, 0), (0, 10)]), "one second alone");
    assert!(!opens(&[(100, 0), (0, 5), (0, 4)]), "fewer than ten");
}

#[test]
fn a_good_canary_is_hardly_ever_held_back() {
    for (weight, fails) in [
        (10, 1),
        (100, 1),
        (500, 1),
        (10, 10),
        (100, 10),
        (500, 10),
        (500, 500),
    ] {
        let mut opened = 0;
        for seed in 0..6 {
            let mut proxy = Proxy::new(seed);
            let good = Traffic {
                stable: fails,
                ..traffic(weight, fails)
            };
            opened += proxy.sends(&good, 480 * SECOND).opened;
        }
        assert_eq!(opened, 0, "weight {weight}, fails {fails}");
    }
}

#[test]
fn what_everybody_suffers_accuses_nobody() {
    let mut proxy = Proxy::new(1);
    let outage = Traffic {
        stable: 400,
        ..traffic(100, 400)
    };
    assert_eq!(proxy.sends(&outage, 60 * SECOND).opened, 0);
    assert_eq!(proxy.sends(&traffic(100, 500), 2 * SECOND).opened, 1);
}

#[test]
fn the_fewer_fail_the_more_are_let_through() {
    let mut proxy = Proxy::new(1);
    proxy.sends(&traffic(500, 1_000), SECOND);
    let mut few = proxy.sends(&traffic(500, 50), 10 * SECOND);
    assert!((4..=20).contains(&few.failed), "{few:?}");
    assert!(few.canary > 150, "{few:?}");
    few = proxy.sends(&traffic(500, 0), 10 * SECOND);
    assert!(
        (300..=400).contains(&few.canary),
        "one in 25 ms at most: {few:?}"
    );
}

#[test]
fn a_canary_that_turns_bad_after_minutes_is_held_back_as_soon() {
    let mut proxy = Proxy::new(1);
    assert_eq!(proxy.sends(&traffic(500, 1), 300 * SECOND).opened, 0);
    let bad = proxy.sends(&traffic(500, 500), SECOND);
    assert!(bad.opened == 1 && bad.failed < 40, "{bad:?}");
}

#[test]
fn a_canary_that_recovers_gets_its_share_back_after_30_s_and_one_that_does_not_stays_out() {
    let mut proxy = Proxy::new(1);
    assert_eq!(proxy.sends(&traffic(100, 1_000), SECOND).opened, 1);
    let out = proxy.sends(&traffic(100, 1_000), 300 * SECOND);
    assert_eq!((out.opened, out.closed), (0, 0));
    assert!(out.canary <= 301 * 4 && out.canary == out.failed, "{out:?}");
    let recovered = proxy.sends(&traffic(100, 0), 70 * SECOND);
    assert_eq!(
        (recovered.opened, recovered.closed),
        (0, 1),
        "{recovered:?}"
    );
    let whole = proxy.sends(&traffic(100, 0), 10 * SECOND);
    assert_eq!(whole.withheld, 0);
}

#[test]
fn a_fuse_that_nobody_asks_for_long_closes_by_itself() {
    let mut proxy = Proxy::new(1);
    proxy.sends(&traffic(100, 1_000), SECOND);
    proxy.now += 3_600 * SECOND;
    assert_eq!(proxy.fuse.ask(proxy.now), Verdict::Closes);
    assert_eq!(proxy.fuse.ask(proxy.now), Verdict::Pass);
}

#[test]
fn attempts_count_from_their_start() {
    // Its failures are quick and its successes slow: all that has ended has failed.
    let now = moment();
    let mut fuse = Fuse::new(TOLERANCE, now);
    for _ in 0..1_000 {
        fuse.started(Pick::Canary, now);
        fuse.started(Pick::Stable, now);
    }
    for _ in 0..5 {
        assert_eq!(fuse.failed(Pick::Canary, now, now + 100 * MS), None);
    }
    // An attempt that is older than everything that is remembered says nothing, and one of before the fuse is of its first second.
    let later = now + 100 * SECOND;
    fuse.started(Pick::Canary, later);
    assert_eq!(fuse.failed(Pick::Canary, now, later), None);
    fuse.started(Pick::Canary, now - SECOND);
    assert_eq!(fuse.worst(), None);
}

#[test]
fn a_tolerance_is_at_most_a_half() {
    assert_eq!(
        Tolerance::new(500_000).map(Tolerance::millionths),
        Some(500_000)
    );
    assert_eq!(Tolerance::new(500_001), None);
    let most = Tolerance::new(500_000).unwrap();
    let mut fuse = Fuse::new(most, moment());
    for _ in 0..1_000 {
        fuse.started(Pick::Canary, fuse.origin);
        fuse.started(Pick::Stable, fuse.origin);
    }
    let opened = (0..500).any(|_| {
        fuse.failed(Pick::Canary, fuse.origin, fuse.origin)
            .is_some()
    });
    assert!(!opened);
    let opened = (0..100).any(|_| {
        fuse.failed(Pick::Canary, fuse.origin, fuse.origin)
            .is_some()
    });
    assert!(opened);
}
