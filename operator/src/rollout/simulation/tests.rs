//! Fresh seeds, pinned seeds, and that a seed is a history.

use super::play;

/// Seeds that have shown a fault; each with the sentence of what it shows.
const PINNED: [(u64, &str); 0] = [];

/// About a minute's worth.
const HISTORIES: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
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
        panic!(
            "{violation}\nplay it again: AVIARY_SIMULATE_SEED={seed} cargo test -p aviary-operator --lib simulation -- --nocapture"
        );
    }
}

#[test]
fn whatever_happens_around_it_a_release_keeps_its_promises() {
    if let Some(seed) = number("AVIARY_SIMULATE_SEED") {
        show(seed);
        return;
    }
    // Asked for by number, histories are fresh; a plain test run plays the same ones every time, so that what fails in it was
    // broken by the change at hand.
    let asked = number("AVIARY_SIMULATE_SEEDS");
    let fresh = || asked.map_or(1, |_| fastrand::u64(..1 << 48));
    let first = number("AVIARY_SIMULATE_FIRST").unwrap_or_else(fresh);
    let seeds = asked.unwrap_or(HISTORIES);
    println!("first seed: {first}, histories: {seeds}");
    let mut ends: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    let (mut length, mut steps, mut promoted, mut rolled_back) = (0, 0, 0, 0);
    for seed in first..first + seeds {
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
    println!(
        "{seeds} histories, {length} virtual seconds, {steps} steps, {promoted} promotions, {rolled_back} rollbacks; they end as {ends:?}"
    );
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
