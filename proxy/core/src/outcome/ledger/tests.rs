use super::super::failures::Said;
use super::super::sketch::Sketch;
use super::*;

const MS: Duration = Duration::from_millis(1);

fn told(ledger: &mut Ledger, now: Second) -> Vec<(Second, Counts)> {
    let mut all = Vec::new();
    ledger.tell(now, |second, counts| all.push((second, counts)));
    all
}

fn latency(times: &[Duration]) -> Sketch {
    times.iter().map(|time| (Bucket::of(*time), 1)).collect()
}

/// Success, failure, left by the caller, unsent.
fn ended(numbers: [u64; 4]) -> PerClass {
    PerClass::from(numbers)
}

#[test]
fn an_attempt_counts_in_the_second_in_which_it_started() {
    let mut ledger = Ledger::default();
    for (started, class) in [
        (100, Class::Success),
        (100, Class::Failure),
        (101, Class::Failure),
    ] {
        ledger.start(started);
        ledger.answered(started, 3 * MS);
        ledger.ended(started, class, Head::Seen);
    }
    let first = Counts {
        started: 2,
        ended: ended([1, 1, 0, 0]),
        latency: latency(&[3 * MS, 3 * MS]),
        ..Counts::default()
    };
    assert_eq!(told(&mut ledger, 101), [(100, first)]);
    let second = Counts {
        started: 1,
        ended: ended([0, 1, 0, 0]),
        latency: latency(&[3 * MS]),
        ..Counts::default()
    };
    assert_eq!(told(&mut ledger, 102), [(101, second)]);
    assert!(told(&mut ledger, 103).is_empty() && ledger.is_idle());
}

#[test]
fn what_ends_after_its_second_is_added_to_it_until_that_is_closed_and_late_from_then_on() {
    let mut ledger = Ledger::default();
    for _ in 0..4 {
        ledger.start(100);
    }
    let only_started = Counts {
        started: 4,
        ..Counts::default()
    };
    assert_eq!(told(&mut ledger, 101), [(100, only_started)]);
    ledger.ended(100, Class::Unsent, Head::None);
    ledger.ended(100, Class::ClientClosed, Head::Awaited(900 * MS));
    let more = Counts {
        ended: ended([0, 0, 1, 1]),
        latency: latency(&[900 * MS]),
        ..Counts::default()
    };
    assert_eq!(told(&mut ledger, 102), [(100, more)]);
    ledger.answered(100, 2_000 * MS);
    let hung = Counts {
        latency: [(Bucket::of(2_000 * MS), 1), (Bucket::LAST, 1)]
            .into_iter()
            .collect(),
        ..Counts::default()
    };
    assert_eq!(
        told(&mut ledger, 103),
        [(100, hung)],
        "one was never answered"
    );
    ledger.ended(100, Class::Success, Head::Seen);
    ledger.answered(100, 5_000 * MS);
    ledger.ended(100, Class::Failure, Head::Seen);
    let late = Counts {
        late: ended([1, 1, 0, 0]),
        ..Counts::default()
    };
    assert_eq!(told(&mut ledger, 106), [(105, late)]);
    assert!(ledger.is_idle());
}

#[test]
fn a_second_that_is_not_over_is_not_told() {
    let mut ledger = Ledger::default();
    ledger.start(100);
    assert!(told(&mut ledger, 100).is_empty());
    assert_eq!(told(&mut ledger, 101).len(), 1);
}

#[test]
fn a_ledger_is_idle_when_it_has_nothing_to_tell_and_nothing_to_wait_for() {
    let mut ledger = Ledger::default();
    assert!(ledger.is_idle());
    ledger.start(100);
    assert!(!ledger.is_idle(), "it started");
    told(&mut ledger, 101);
    assert!(!ledger.is_idle(), "it is waited for");
    ledger.answered(100, MS);
    assert!(!ledger.is_idle(), "its latency is to be told");
    told(&mut ledger, 103);
    assert!(ledger.is_idle());
    ledger.ended(100, Class::Success, Head::Seen);
    assert!(!ledger.is_idle(), "its late end is to be told");
}

#[test]
fn a_ledger_that_nobody_asks_keeps_a_few_seconds() {
    let mut ledger = Ledger::default();
    for second in 0..1_000 {
        ledger.start(second);
        ledger.ended(second, Class::Success, Head::None);
    }
    let all = told(&mut ledger, 1_000);
    let seconds: Vec<Second> = all.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, (992..1_000).collect::<Vec<_>>());
    assert!(all.iter().all(|(_, counts)| counts.started == 1));
}

#[test]
fn what_was_skipped_is_never_told() {
    let mut ledger = Ledger::default();
    ledger.start(100);
    ledger.ended(90, Class::Failure, Head::None);
    ledger.skip(101);
    ledger.ended(100, Class::Success, Head::None);
    let rest = Counts {
        ended: ended([1, 0, 0, 0]),
        ..Counts::default()
    };
    assert_eq!(told(&mut ledger, 102), [(100, rest)]);
}

#[test]
fn what_nobody_asked_for_in_time_is_not_waited_for_either() {
    for (started, now) in [(100, 100 + SLOTS + 1), (100 + SLOTS + 1, 100)] {
        let mut ledger = Ledger::default();
        ledger.start(started);
        assert!(!ledger.is_idle());
        assert!(told(&mut ledger, now).is_empty());
        assert!(ledger.is_idle(), "{started}, asked at {now}");
    }
}

#[test]
fn a_question_forgets_nothing_of_the_seconds_around_it() {
    let mut ledger = Ledger::default();
    for second in [99, 100, 101] {
        ledger.start(second);
    }
    let seconds = |told: Vec<(Second, Counts)>| -> Vec<Second> {
        told.into_iter().map(|(second, _)| second).collect()
    };
    assert_eq!(seconds(told(&mut ledger, 100)), [99]);
    assert_eq!(seconds(told(&mut ledger, 102)), [99, 100, 101]);
}

#[test]
fn a_failure_is_told_with_its_second_and_its_trace_and_not_twice() {
    let trace = |digit: &str| Trace::read(digit.repeat(32).as_bytes(), b"/pay");
    let place = Place {
        endpoint: ([10, 1, 0, 7], 80).into(),
        said: Said::Status(500),
    };
    let mut ledger = Ledger::default();
    for (second, of) in [(100, "a"), (100, "b"), (101, "c")] {
        ledger.start(second);
        ledger.ended(second, Class::Failure, Head::None);
        ledger.failed_at(second, place, trace(of));
    }
    for (second, times, of) in [(100, 2, "b"), (101, 1, "c")] {
        let told = told(&mut ledger, second + 1);
        let [(at, counts)] = told.as_slice() else {
            panic!("{told:?}");
        };
        let failed: Vec<_> = counts.failures.places().collect();
        assert_eq!((*at, failed.len(), failed[0].times), (second, 1, times));
        assert_eq!(failed[0].trace, trace(of));
    }
    // Its second is closed: it counts as late, at no place.
    ledger.failed_at(90, place, trace("d"));
    assert!(told(&mut ledger, 103).is_empty());
}
