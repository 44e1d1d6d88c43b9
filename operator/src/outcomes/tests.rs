use traffic_core::outcome::{Counts, PerClass};

use super::*;

const SECOND: i64 = 1_790_000_000;

fn subject() -> Subject {
    Subject {
        service: Key::new("shop", "payment"),
        ports: Vec::new(),
        stable: "v1".to_owned(),
        canary: "v2".to_owned(),
    }
}

fn rollout() -> Key {
    Key::new("shop", "release")
}

fn followed() -> Outcomes {
    let outcomes = Outcomes::default();
    outcomes.follow(&rollout(), Some(&subject()));
    outcomes
}

fn report(revision: &str, second: i64, started: u64, ended: [u64; 4]) -> Report {
    Report {
        cluster: format!("shop/payment/80/{revision}"),
        second: u64::try_from(second).unwrap(),
        counts: Counts {
            started,
            ended: PerClass::from(ended),
            ..Counts::default()
        },
    }
}

/// Milliseconds after the end of a second.
fn after(second: i64, millis: i64) -> i64 {
    (second + 1) * 1000 + millis
}

/// (second, canary's and stable's started and errors)
type Numbers = (i64, (u64, u64), (u64, u64));

fn closed(outcomes: &Outcomes, now: i64) -> Vec<Numbers> {
    let all = outcomes.close(now);
    assert!(all.iter().all(|(key, _)| *key == rollout()) && all.len() <= 1);
    let seconds = all.into_iter().flat_map(|(_, seconds)| seconds);
    let numbers = |it: Closed| {
        (
            it.at,
            Closed::counts(&it.canary),
            Closed::counts(&it.stable),
        )
    };
    seconds.map(numbers).collect()
}

fn take(outcomes: &Outcomes, speaker: &mut Speaker, reports: &[Report], now: i64) {
    outcomes.take(speaker, reports, now, &|_| Word::Counts);
}

#[test]
fn a_second_is_closed_soon_when_everything_in_it_has_ended_and_later_when_not() {
    let outcomes = followed();
    let (mut a, mut b) = (Speaker::default(), Speaker::default());
    let first = [
        report("v1", SECOND, 9, [9, 0, 0, 0]),
        report("v2", SECOND, 1, [0, 1, 0, 0]),
    ];
    take(&outcomes, &mut a, &first, after(SECOND, 200));
    take(
        &outcomes,
        &mut b,
        &[report("v1", SECOND, 5, [5, 0, 0, 0])],
        after(SECOND, 300),
    );
    assert_eq!(closed(&outcomes, after(SECOND, 499)), []);
    assert_eq!(outcomes.due(after(SECOND, 300)), Some(after(SECOND, 500)));
    let numbers = (SECOND, (1, 1), (14, 0));
    assert_eq!(closed(&outcomes, after(SECOND, 500)), [numbers]);
    assert_eq!(outcomes.due(after(SECOND, 500)), None);

    // One of them is still under way, so the next waits too, though it is complete.
    let next = SECOND + 1;
    take(
        &outcomes,
        &mut a,
        &[report("v2", next, 2, [0, 1, 0, 0])],
        after(next, 200),
    );
    let told = [report("v1", next + 1, 3, [3, 0, 0, 0])];
    take(&outcomes, &mut a, &told, after(next + 1, 200));
    assert_eq!(closed(&outcomes, after(next, 2_700)), []);
    let due = [499, 500, 2_700, 2_800].map(|ms| outcomes.due(after(next, ms)));
    let at = [500, 600, 2_750, 2_750].map(|ms| Some(after(next, ms)));
    assert_eq!(due, at, "looked at again, since it may end before");
    let late = [report("v2", next, 0, [0, 1, 0, 0])];
    take(&outcomes, &mut a, &late, after(next, 2_720));
    let both = [(next, (2, 2), (0, 0)), (next + 1, (0, 0), (3, 0))];
    assert_eq!(closed(&outcomes, after(next, 2_750)), both);
    // What is told of a closed second counts for nothing.
    take(
        &outcomes,
        &mut a,
        &[report("v2", next, 5, [0, 5, 0, 0])],
        after(next, 2_800),
    );
    assert_eq!(closed(&outcomes, after(next, 9_000)), []);
    assert_eq!(outcomes.counters().untimely, 1);
}

#[test]
fn what_nobody_follows_is_not_kept() {
    let outcomes = followed();
    let mut speaker = Speaker::default();
    let mut other = report("v1", SECOND, 1, [1, 0, 0, 0]);
    other.cluster = "shop/cart/80/v1".to_owned();
    let mut garbled = other.clone();
    garbled.cluster = "x".to_owned();
    let reports = [other, garbled, report("v3", SECOND, 1, [1, 0, 0, 0])];
    take(&outcomes, &mut speaker, &reports, after(SECOND, 200));
    assert_eq!(outcomes.due(after(SECOND, 300)), None);
    let mut ports = subject();
    ports.ports = vec![8080];
    outcomes.follow(&rollout(), Some(&ports));
    take(
        &outcomes,
        &mut speaker,
        &[report("v1", SECOND, 1, [1, 0, 0, 0])],
        after(SECOND, 200),
    );
    assert_eq!(outcomes.due(after(SECOND, 300)), None, "another port");
    outcomes.follow(&rollout(), None);
    take(
        &outcomes,
        &mut speaker,
        &[report("v1", SECOND, 1, [1, 0, 0, 0])],
        after(SECOND, 200),
    );
    assert_eq!(outcomes.due(after(SECOND, 300)), None);
    let counters = outcomes.counters();
    assert_eq!((counters.counted, counters.untimely), (0, 0));
}

#[test]
fn a_proxy_with_another_clock_is_heard_in_our_seconds() {
    let outcomes = followed();
    for off in [-86_400, 3_600] {
        let mut speaker = Speaker::default();
        let told = [report("v1", SECOND + off, 2, [2, 0, 0, 0])];
        take(&outcomes, &mut speaker, &told, after(SECOND, 200));
    }
    assert_eq!(
        closed(&outcomes, after(SECOND, 500)),
        [(SECOND, (0, 0), (4, 0))]
    );
}

#[test]
fn a_proxy_that_makes_up_names_has_nothing_of_them_remembered() {
    let outcomes = followed();
    let mut speaker = Speaker::default();
    for number in 0..1_000 {
        let mut made_up = report("v2", SECOND, 10, [0, 10, 0, 0]);
        made_up.cluster = format!("shop/payment/80/made-up-{number}");
        take(&outcomes, &mut speaker, &[made_up], after(SECOND, 200));
    }
    assert_eq!(speaker.share.remembered(), 0);
    // Every port of a revision has one share.
    for port in 1..=3_000 {
        let mut of_port = report("v2", SECOND, 10, [0, 10, 0, 0]);
        of_port.cluster = format!("shop/payment/{port}/v2");
        take(&outcomes, &mut speaker, &[of_port], after(SECOND, 200));
    }
    assert_eq!(speaker.share.remembered(), 1);
    let most = share::MOST;
    assert_eq!(
        closed(&outcomes, after(SECOND, 500)),
        [(SECOND, (most, most), (0, 0))]
    );
    assert_eq!(outcomes.counters().capped, 2_000);
}

#[test]
fn a_clock_that_is_set_back_does_not_leave_us_deaf() {
    let outcomes = followed();
    let mut speaker = Speaker::default();
    let told = |second| [report("v1", second, 1, [1, 0, 0, 0])];
    take(&outcomes, &mut speaker, &told(SECOND), after(SECOND, 200));
    assert_eq!(closed(&outcomes, after(SECOND, 500)).len(), 1);
    let back = SECOND - 3_600;
    let mut speaker = Speaker::default();
    take(
        &outcomes,
        &mut speaker,
        &told(back + 5),
        after(back + 5, 200),
    );
    assert_eq!(closed(&outcomes, after(back + 5, 500)).len(), 1);
    // What is open from before is of a time to come: nobody sleeps until then.
    take(
        &outcomes,
        &mut speaker,
        &told(back + 6),
        after(back + 6, 200),
    );
    let earlier = back - 3_600;
    assert_eq!(outcomes.due(after(earlier, 0)), Some(after(earlier, 1_500)));
}

#[test]
fn a_caller_that_leaves_speaks_for_nobody_and_an_open_attempt_is_no_error() {
    let outcomes = followed();
    let mut speaker = Speaker::default();
    let told = [report("v2", SECOND, 10, [1, 2, 3, 1])];
    take(&outcomes, &mut speaker, &told, after(SECOND, 200));
    assert_eq!(
        closed(&outcomes, after(SECOND, 2_750)),
        [(SECOND, (7, 3), (0, 0))]
    );
}

#[test]
fn a_proxy_that_splits_by_an_older_weight_or_may_not_call_speaks_for_nobody() {
    let outcomes = followed();
    let told = [
        report("v1", SECOND, 9, [9, 0, 0, 0]),
        report("v2", SECOND, 9, [0, 9, 0, 0]),
    ];
    let mut speaker = Speaker::default();
    for word in [Word::Behind, Word::Stranger] {
        let word = |of: &Key| {
            assert_eq!(*of, rollout());
            word
        };
        outcomes.take(&mut speaker, &told, after(SECOND, 200), &word);
    }
    assert_eq!(outcomes.due(after(SECOND, 300)), None);
    let counters = outcomes.counters();
    assert_eq!((counters.behind, counters.strangers), (2, 2));
    // Another one is up to date.
    take(
        &outcomes,
        &mut Speaker::default(),
        &told,
        after(SECOND, 200),
    );
    assert_eq!(
        closed(&outcomes, after(SECOND, 500)),
        [(SECOND, (9, 9), (9, 0))]
    );
}

#[tokio::test]
async fn whoever_closes_is_woken_when_there_is_something_to_close() {
    let outcomes = followed();
    let mut speaker = Speaker::default();
    take(
        &outcomes,
        &mut speaker,
        &[report("v1", SECOND, 1, [1, 0, 0, 0])],
        after(SECOND, 200),
    );
    outcomes.opened().await;
}

#[test]
fn streams_that_are_awaited_are_heard_of_and_count_for_nobody_s_judgement() {
    let (outcomes, mut speaker) = (Outcomes::default(), Speaker::default());
    let open = Report {
        counts: Counts {
            open: 3,
            ..Counts::default()
        },
        ..report("v2", SECOND, 0, [0; 4])
    };
    assert!(!outcomes.is_followed(&open.cluster));
    let awaited = Awaited {
        service: Key::new("shop", "payment"),
        revisions: ["v2".to_owned()].into(),
    };
    outcomes.wait_for(&rollout(), Some(&awaited));
    assert!(outcomes.is_followed(&open.cluster));
    let now = after(SECOND, 200);
    take(&outcomes, &mut speaker, &[open], now);
    assert_eq!(
        outcomes.streams(&rollout()),
        BTreeMap::from([("v2".to_owned(), now)])
    );
    // None of them is open any more.
    let over = report("v2", SECOND + 1, 0, [0; 4]);
    take(&outcomes, &mut speaker, &[over], after(SECOND + 1, 200));
    assert_eq!(outcomes.streams(&rollout())["v2"], now);
    assert_eq!(closed(&outcomes, after(SECOND + 9, 0)), []);
    outcomes.wait_for(&rollout(), None);
    assert!(outcomes.streams(&rollout()).is_empty());
}
