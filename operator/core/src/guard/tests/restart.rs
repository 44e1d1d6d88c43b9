//! Whatever is fed to it: a restart changes nothing, nothing is NaN, nothing grows.

use super::chance::Chance;
use super::*;

fn counts(chance: &mut Chance) -> Counts {
    let started = match chance.below(8) {
        0 => 0,
        1 => 1,
        2 => u64::MAX - chance.below(3),
        3 => chance.below(2_000_000),
        _ => chance.below(500),
    };
    let errors = match chance.below(6) {
        0 => started,
        1 => chance.below(started.max(1)),
        2 => u64::MAX,
        3 => 1,
        _ => 0,
    };
    Counts { started, errors }
}

fn sketch(chance: &mut Chance) -> Sketch {
    let mut sketch = Sketch::default();
    for _ in 0..chance.below(12) {
        let most = [3, 50, u64::from(u32::MAX)][chance.below(3) as usize];
        sketch.add(1 << chance.below(40), chance.below(most) as u32);
    }
    sketch
}

/// Seconds as no mesh reports them, gaps, repetitions and weights that come and go among them.
fn seconds(seed: u64) -> Vec<Second> {
    let mut chance = Chance(seed);
    let (mut at, mut epoch) = (1_700_000_000, 0);
    (0..400)
        .map(|_| {
            at += [0, 1, 1, 1, 1, 1, 2, -3, 900][chance.below(9) as usize];
            if chance.below(12) == 0 {
                epoch = chance.below(5);
            }
            let arm = |chance: &mut Chance| Arm {
                counts: counts(chance),
                latency: sketch(chance),
            };
            let (canary, stable) = (arm(&mut chance), arm(&mut chance));
            Second {
                at,
                epoch,
                canary,
                stable,
            }
        })
        .collect()
}

fn stored(guard: &Guard) -> Guard {
    serde_json::from_str(&serde_json::to_string(guard).unwrap()).unwrap()
}

#[test]
fn a_restart_changes_nothing() {
    for seed in 0..60 {
        let mut memory = Guard::new(limits());
        let mut restarted = memory;
        for second in seconds(seed) {
            memory.see(&second);
            restarted = stored(&restarted);
            restarted.see(&second);
            assert_eq!(memory, restarted, "seed {seed}, second {}", second.at);
            assert_eq!(memory.wealth().to_bits(), restarted.wealth().to_bits());
            assert!(memory.wealth().is_finite(), "seed {seed}");
        }
    }
}

#[test]
fn a_second_that_was_judged_is_ignored() {
    for seed in 0..20 {
        let all = seconds(seed);
        let (mut once, mut again) = (Guard::new(limits()), Guard::new(limits()));
        for (i, second) in all.iter().enumerate() {
            once.see(second);
            again.see(second);
            // Its reporter starts anew and tells of everything.
            for old in &all[i.saturating_sub(20)..=i] {
                let last = again.judged_until().unwrap();
                if old.at < last || old == second {
                    again.see(old);
                }
            }
            assert_eq!(once, again, "seed {seed}");
        }
    }
}

#[test]
fn a_second_under_two_weights_is_judged_in_two_parts() {
    let mut guard = Guard::new(limits());
    guard.see(&second(100, 1, (10, 0), (90, 0)));
    let before = guard;
    guard.see(&second(100, 1, (10, 10), (90, 0)));
    assert_eq!(guard, before, "the same part again");
    guard.see(&second(100, 2, (10, 10), (90, 0)));
    assert_ne!(guard, before);
    let before = guard;
    guard.see(&second(100, 1, (10, 10), (90, 0)));
    guard.see(&second(99, 3, (10, 10), (90, 0)));
    assert_eq!(guard, before);
}

/// Of a status that somebody wrote by hand.
#[test]
fn a_state_of_any_integers_is_refused_or_judges_without_nan() {
    let mut guard = Guard::new(limits());
    for second in seconds(7) {
        guard.see(&second);
    }
    guard.see(&second(i64::MAX - 10, 9, (5, 0), (0, 0)));
    let text = serde_json::to_string(&guard).unwrap();
    let mut chance = Chance(1);
    let mut taken = 0;
    for _ in 0..3000 {
        let mut edited = String::new();
        for part in text.split_inclusive([',', '[', '{', ':']) {
            let digits = part
                .trim_start_matches('-')
                .chars()
                .take_while(char::is_ascii_digit)
                .count();
            if digits == 0 || chance.below(100) > 0 {
                edited.push_str(part);
                continue;
            }
            let number = [0, 1, i64::MAX, i64::MIN, -1, 1_000_000_000][chance.below(6) as usize];
            let rest = part.trim_start_matches('-').get(digits..).unwrap();
            edited.push_str(&format!("{number}{rest}"));
        }
        let Ok(mut guard) = serde_json::from_str::<Guard>(&edited) else {
            continue;
        };
        taken += 1;
        for at in i64::MAX - 9..i64::MAX {
            guard.see(&second(at, 9, (50, 1), (500, 1)));
            assert!(guard.wealth().is_finite(), "{edited}");
        }
    }
    assert!(taken > 100, "{taken}");
}

#[test]
fn a_state_is_small_at_its_largest() {
    let mut guard = Guard::new(limits());
    let mut chance = Chance(3);
    let mut most = 0;
    for at in 0..1500 {
        let mut arm = Arm {
            counts: Counts::new(999_999, 999_999 * (at / 5 % 2) as u64),
            latency: Sketch::default(),
        };
        for bucket in 0..Sketch::BUCKETS {
            arm.latency.add_to(bucket, chance.below(1000) as u32);
        }
        let mut canary = arm.clone();
        if at % 50 == 49 {
            canary = Arm::default();
        }
        guard.see(&Second {
            at: 1_700_000_000 + at,
            epoch: 4,
            canary,
            stable: arm,
        });
        most = most.max(serde_json::to_string(&guard).unwrap().len());
    }
    // A million requests a second, of every latency that there is.
    assert!(most < 2048, "{most} bytes");
}
