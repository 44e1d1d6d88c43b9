//! Seconds that lack a request of an arm wait for it: with the next ones, for a minute, under one weight.

use super::*;

/// An arm's requests and errors.
type Seen = (u64, u64);

const BAD: Seen = (5, 5);
const GOOD: Seen = (5, 0);
const NONE: Seen = (0, 0);

/// What a guard has that sees one second, silence, and another second under this weight; each is of canary and stable.
fn wealth(first: (Seen, Seen), silence: i64, epoch: u64, then: (Seen, Seen)) -> f64 {
    let mut guard = Guard::new(limits());
    for at in 0..300 {
        guard.see(&second(at, 0, NONE, (500, 0)));
    }
    guard.see(&second(300, 1, first.0, first.1));
    assert_eq!(guard.judged_until(), Some(300));
    for at in 301..301 + silence {
        guard.see(&second(at, 1, NONE, NONE));
    }
    guard.see(&second(301 + silence, epoch, then.0, then.1));
    assert_eq!(guard.judged_until(), Some(301 + silence));
    guard.wealth()
}

/// Nothing was bet: moving the reserve only rounds.
fn nothing(wealth: f64) -> bool {
    wealth.abs() < 1e-6
}

#[test]
fn a_canary_without_stable_waits_for_stable_and_the_other_way_round() {
    assert!(wealth((BAD, NONE), 0, 1, (NONE, GOOD)) > 0.3);
    assert!(wealth((NONE, GOOD), 0, 1, (BAD, NONE)) > 0.3);
    assert!(nothing(wealth((BAD, NONE), 0, 1, (BAD, NONE))));
}

#[test]
fn what_has_waited_for_a_minute_is_dropped() {
    assert!(wealth((BAD, NONE), 58, 1, (NONE, GOOD)) > 0.3);
    assert!(nothing(wealth((BAD, NONE), 59, 1, (NONE, GOOD))));
}

#[test]
fn seconds_under_two_weights_have_no_factor_in_common() {
    assert!(nothing(wealth((BAD, NONE), 0, 2, (NONE, GOOD))));
    assert!(wealth((NONE, NONE), 0, 2, (BAD, GOOD)) > 0.3, "a new one");
}
