//! Seeds that are played, pinned ones, and that a seed is a history.

use std::io::Write;
use std::time::{Duration, Instant};

use super::play;

/// Seeds that have shown a fault; each with the sentence of what it shows.
const PINNED: [(u64, &str); 5] = [
    (
        1_795_893_044,
        "a process whose clock was behind took 20 s off the soak of the one that leads",
    ),
    (
        31_769_331_029_146,
        "what a process had asked before another one's word counted was taken for a failed window of its own",
    ),
    (
        101_055_787_754_627,
        "an answer that was the first to come after the clock was set was compared with a state of before",
    ),
    (
        3_582,
        "hooks were told that the run which began when a promotion ended was the one that was promoted",
    ),
    (
        180,
        "of a CanaryRollout that could never be read, and was deleted, the Deployment kept the label and the condition",
    ),
];

/// How long a plain test run plays.
const PLAYED: Duration = Duration::from_secs(60);
/// The seed that it begins with: what it shows is the change's that is tested, and not chance. Fresh seeds are for `make simulate`.
const FIRST: u64 = 1;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Also when the test passes: `println!` would be swallowed then.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn show(seed: u64) {
    let outcome = play(seed, true);
    for line in &outcome.history {
        println!("{line}");
    }
    println!(
        "seed {seed}: {} virtual s, {} steps, ends {}",
        outcome.length / 1000,
        outcome.steps,
        outcome.phase
    );
    if let Some(violation) = outcome.violation {
        panic!("{violation}\nplay it again: make simulate SEED={seed}");
    }
}

#[test]
fn whatever_happens_around_it_a_release_keeps_its_promises() {
    if let Some(seed) = number("AVIARY_SIMULATE_SEED") {
        show(seed);
        return;
    }
    let asked = number("AVIARY_SIMULATE_SEEDS");
    let first = number("AVIARY_SIMULATE_FIRST").unwrap_or_else(|| match asked {
        Some(_) => fastrand::u64(..1 << 48),
        None => FIRST,
    });
    say(&format!("first seed: {first}"));
    let began = Instant::now();
    let goes_on = |seed: &u64| match asked {
        Some(asked) => *seed < first + asked,
        None => began.elapsed() < PLAYED,
    };
    let mut ends: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    let (mut length, mut steps, mut promoted, mut rolled_back) = (0, 0, 0, 0);
    let mut histories = 0_u64;
    for seed in (first..).take_while(goes_on) {
        histories += 1;
        let outcome = play(seed, false);
        if outcome.violation.is_some() {
            show(seed);
        }
        *ends.entry(outcome.phase).or_default() += 1;
        length += outcome.length / 1000;
        steps += outcome.steps;
        promoted += outcome.promoted;
        rolled_back += outcome.rolled_back;
    }
    say(&format!(
        "{histories} histories, {length} virtual seconds, {steps} steps, {promoted} promotions, {rolled_back} rollbacks; they end as {ends:?}"
    ));
}

#[test]
fn pinned_seeds_stay_as_they_were_mended() {
    for (seed, shows) in PINNED {
        let violation = play(seed, false).violation;
        assert_eq!(violation, None, "seed {seed}, which shows: {shows}");
    }
}

#[test]
fn one_seed_is_one_history() {
    for seed in 1..4 {
        let (one, other) = (play(seed, false), play(seed, false));
        assert_eq!(
            (one.hash, one.length, one.steps),
            (other.hash, other.length, other.steps),
            "seed {seed}"
        );
    }
}
