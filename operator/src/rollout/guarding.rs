//! The guard of the present run: each second of outcomes, under the weight that proxies had then.

use std::collections::VecDeque;

use rollout_core::Event;
use rollout_core::guard::{self, Alarm, Arm, Budget, Counts, Guard, Limits, Second, Sketch};
use rollout_core::plan::Percent;
use rollout_core::state::State;
use rollout_core::time::{Span, Time};
use serde::{Deserialize, Serialize};
use traffic_core::outcome;

use crate::outcomes::Closed;

/// So long after a weight is sent, some proxies may still use the one before.
const SETTLES: Span = Span(500);
/// Failures that are spoken of, in percent.
const FAULTS: [u8; 4] = [50, 10, 5, 1];
/// Places of failures that are spoken of.
const PLACES: usize = 3;
/// What is left of a sum that is to be 0.
const ROUNDING: f64 = 1e-6;
/// Weights that are remembered: more than can be sent in the seconds that are open.
const REMEMBERED: usize = 16;

/// What is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    pub run: u64,
    pub guard: Guard,
    /// First attempts under a weight: started, and failed.
    pub canary: Counts,
    pub stable: Counts,
}

/// The guard, and since when which weight is sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Guarding {
    guarded: Option<Guarded>,
    /// Where the canary's requests failed, as far as this process knows.
    failures: outcome::Failures,
    weights: Weights,
    pace: Pace,
}

/// How many requests the canary gets, of late.
#[derive(Clone, Debug, Default)]
struct Pace(VecDeque<(i64, u64)>);

impl Pace {
    const SECONDS: i64 = 10;

    /// Started in this second; `None`: it was under no weight, or another one.
    fn note(&mut self, at: i64, started: Option<u64>) {
        let Some(started) = started else {
            self.0.clear();
            return;
        };
        self.0.push_back((at, started));
        while self
            .0
            .front()
            .is_some_and(|(of, _)| *of <= at - Pace::SECONDS)
        {
            self.0.pop_front();
        }
    }

    fn per_second(&self) -> Option<f64> {
        let ((first, _), (last, _)) = (self.0.front()?, self.0.back()?);
        let started: u64 = self.0.iter().map(|(_, started)| started).sum();
        Some(started as f64 / (last - first + 1) as f64)
    }
}

/// Whose seconds are whose. A weight is named by the moment when it was sent.
#[derive(Clone, Debug, Default)]
struct Weights {
    /// When something else was sent, and of which run; `None`: no weight.
    changes: VecDeque<(Time, Option<u64>)>,
    /// What was sent last, if that is known.
    newest: Option<Option<(u64, Percent)>>,
}

impl Weights {
    /// What is sent at this moment.
    fn note(&mut self, sent: Option<(u64, Percent)>, now: Time) {
        let sent = sent.filter(|(_, weight)| *weight > Percent::ZERO);
        if self.newest == Some(sent) {
            return;
        }
        self.newest = Some(sent);
        self.changes.push_back((now, sent.map(|(run, _)| run)));
        let surplus = self.changes.len().saturating_sub(REMEMBERED);
        self.changes.drain(..surplus);
    }

    /// The weight under which all of a second was, if there was one, and it was this run's; else 0.
    fn epoch(&self, second: i64, run: u64) -> u64 {
        let (start, end) = (Time(second * 1000), Time((second + 1) * 1000));
        let settles = |(at, _): &(Time, _)| *at < end && *at + SETTLES > start;
        if self.changes.iter().any(settles) {
            return 0;
        }
        let last = self.changes.iter().rev().find(|(at, _)| *at < end);
        match last {
            Some((at, Some(of))) if *of == run => u64::try_from(at.0).unwrap_or(0),
            Some((_, Some(_) | None)) | None => 0,
        }
    }
}

/// Whether a person has the run judged anew, so that its guard begins anew too.
pub(super) fn begins_anew(earned: &[Event]) -> bool {
    let is_anew = |event: &Event| matches!(event, Event::JudgedAnew { .. });
    earned.iter().any(is_anew)
}

impl Guarding {
    /// Goes on with what is persisted.
    pub(super) fn recall(&mut self, guarded: Option<Guarded>) {
        self.guarded = guarded;
    }

    /// A run has one guard, from its beginning to its end, for the same limits; `None`: it wants none.
    pub(super) fn follow(&mut self, state: &State, limits: Option<Limits>) {
        let wanted = state.running().map(|run| run.number).zip(limits);
        let has = self.guarded.as_ref().map(|it| (it.run, it.guard.limits()));
        if wanted != has {
            self.guarded = wanted.map(|(run, limits)| Guarded {
                run,
                guard: Guard::new(limits),
                canary: Counts::default(),
                stable: Counts::default(),
            });
            self.failures = outcome::Failures::default();
        }
    }

    /// A person has the run judged anew.
    pub(super) fn begin_anew(&mut self) {
        self.guarded = None;
    }

    pub(super) fn sent(&mut self, sent: Option<(u64, Percent)>, now: Time) {
        self.weights.note(sent, now);
    }

    /// The clock was set: which second was under which weight is not known any more.
    pub(super) fn forget_weights(&mut self) {
        self.weights = Weights::default();
    }

    /// Takes in what is closed; says whether it is an alarm now, and was none before.
    pub(super) fn see(&mut self, seconds: &[Closed]) -> bool {
        let Some(guarded) = &mut self.guarded else {
            return false;
        };
        let before = guarded.guard.alarm();
        for closed in seconds {
            let epoch = self.weights.epoch(closed.at, guarded.run);
            let second = Second {
                at: closed.at,
                epoch,
                canary: arm(&closed.canary),
                stable: arm(&closed.stable),
            };
            let started = second.canary.counts.started;
            self.pace.note(closed.at, (epoch > 0).then_some(started));
            if epoch > 0 {
                self.failures.merge(&closed.canary.failures);
                add(&mut guarded.canary, second.canary.counts);
                add(&mut guarded.stable, second.stable.counts);
            }
            guarded.guard.see(&second);
        }
        before.is_none() && guarded.guard.alarm().is_some()
    }

    /// What this state's run was asked for.
    pub(super) fn limits(&self, state: &State) -> Option<Limits> {
        let guarded = self.guarded.as_ref()?;
        let run = state.running()?.number;
        Some(guarded.guard.limits()).filter(|_| guarded.run == run)
    }

    /// Where most of the canary's requests failed, and how, for people: empty if nobody knows.
    pub(super) fn places(&self) -> String {
        let worst = self.failures.worst(PLACES);
        let places = worst
            .iter()
            .map(|(place, times)| format!("{times} with {place}"));
        let places: Vec<String> = places.collect();
        if places.is_empty() {
            return String::new();
        }
        format!("; {}", places.join(", "))
    }

    pub(super) fn guarded(&self) -> Option<&Guarded> {
        self.guarded.as_ref()
    }

    /// What the guard would see, and when, at the canary's present pace: for people.
    pub(super) fn foresight(&self) -> Option<String> {
        let guarded = self.guarded.as_ref()?;
        let per_second = self.pace.per_second()?;
        let of = &guarded.stable;
        let stable = of.errors as f64 / of.started.max(1) as f64;
        let seen = FAULTS.into_iter().filter_map(|percent| {
            let limits = guarded.guard.limits();
            let fails = f64::from(percent) / 100.0;
            let seconds = guard::seconds_to_see(limits, stable, per_second, fails)?;
            Some(format!("{percent}% in about {}", about(seconds)))
        });
        let seen: Vec<String> = seen.collect();
        let pace = format!("at {per_second:.1} requests/s it sees failures of");
        (!seen.is_empty()).then(|| format!("{pace} {}", seen.join(", ")))
    }

    /// The alarm of this state's run.
    pub(super) fn alarm(&self, state: &State) -> Option<Alarm> {
        let guarded = self.guarded.as_ref()?;
        let run = state.running()?.number;
        guarded.guard.alarm().filter(|_| guarded.run == run)
    }
}

impl Guarded {
    /// What was seen, for people.
    pub(super) fn words(&self) -> String {
        let of = |counts: &Counts| format!("{} of {}", counts.errors, counts.started);
        let failed = format!(
            "{} of its first attempts failed, and {} of stable's in the same seconds",
            of(&self.canary),
            of(&self.stable)
        );
        match (self.guard.alarm(), self.guard.slow_above()) {
            (
                Some(Alarm {
                    by: Budget::Latency,
                    ..
                }),
                Some(micros),
            ) => format!(
                "too many of its answers took longer than {} ms, stable's 99th percentile; {failed}",
                micros.div_ceil(1000)
            ),
            (Some(_) | None, Some(_) | None) => failed,
        }
    }

    /// What was seen speaks against the canary more than for it.
    pub(super) fn doubts(&self) -> bool {
        self.guard.wealth() > ROUNDING
    }

    /// How far the evidence against the canary is on its way to an alarm, 0 to 100.
    pub(super) fn percent_to_alarm(&self) -> u8 {
        let share = self.guard.wealth() / self.guard.limits().log_alarm();
        (share * 100.0).clamp(0.0, 100.0) as u8
    }
}

/// Two digits are more than it is good for.
fn about(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0}s"),
        ..5400.0 => format!("{:.0}m", seconds / 60.0),
        ..172_800.0 => format!("{:.0}h", seconds / 3600.0),
        _ => "days".to_owned(),
    }
}

fn add(sum: &mut Counts, more: Counts) {
    sum.started = sum.started.saturating_add(more.started);
    sum.errors = sum.errors.saturating_add(more.errors);
}

fn arm(of: &outcome::Counts) -> Arm {
    let (started, errors) = Closed::counts(of);
    let mut latency = Sketch::default();
    for (bucket, times) in of.latency.buckets() {
        let micros = bucket.middle().as_micros();
        latency.add(u64::try_from(micros).unwrap_or(u64::MAX), times);
    }
    Arm {
        counts: Counts::new(started, errors),
        latency,
    }
}

#[cfg(test)]
mod tests {
    use rollout_core::state::Phase;
    use traffic_core::outcome::PerClass;

    use super::*;
    use crate::rollout::testing;

    const SECOND: i64 = 1_790_000_000;

    fn limits() -> Limits {
        Limits::try_new(10_000, 5_000).unwrap()
    }

    fn running() -> (State, u64) {
        let state = testing::state(Phase::Soaking {
            step: 0,
            since: Time(0),
        });
        let run = state.run.as_ref().unwrap().number;
        (state, run)
    }

    fn counts(started: u64, failed: u64) -> outcome::Counts {
        outcome::Counts {
            started,
            ended: PerClass::from([started - failed, failed, 0, 0]),
            ..outcome::Counts::default()
        }
    }

    fn second(at: i64, failed: u64) -> Closed {
        Closed {
            at,
            canary: counts(50, failed),
            stable: counts(450, 1),
        }
    }

    fn percent(of: i64) -> Percent {
        Percent::new(of).unwrap()
    }

    /// Under a weight since the second before.
    fn guarding() -> (Guarding, State) {
        let (state, run) = running();
        let mut guarding = Guarding::default();
        guarding.follow(&state, Some(limits()));
        guarding.sent(Some((run, percent(10))), Time((SECOND - 1) * 1000));
        (guarding, state)
    }

    #[test]
    fn a_bad_canary_is_an_alarm_after_a_few_seconds_and_a_good_one_is_none() {
        let (mut guarding, state) = guarding();
        let took = (0..60).position(|after| guarding.see(&[second(SECOND + after, 25)]));
        assert!(took.is_some_and(|seconds| seconds < 6), "{took:?}");
        assert!(guarding.alarm(&state).is_some());
        let words = guarding.guarded().unwrap().words();
        assert!(
            words.contains(" of stable's in the same seconds"),
            "{words}"
        );
        assert!(!guarding.see(&[second(SECOND + 60, 25)]), "said once");

        let (mut good, state) = super::tests::guarding();
        assert!(!good.guarded().unwrap().doubts(), "nothing was seen yet");
        for after in 0..600 {
            good.see(&[second(SECOND + after, 0)]);
        }
        assert_eq!(good.alarm(&state), None);
        assert_eq!(good.guarded().unwrap().percent_to_alarm(), 0);
    }

    #[test]
    fn seconds_without_a_weight_or_around_a_change_accuse_nobody() {
        let (state, run) = running();
        let mut guarding = Guarding::default();
        guarding.follow(&state, Some(limits()));
        guarding.sent(None, Time(0));
        for after in -60..0 {
            guarding.see(&[second(SECOND + after, 50)]);
        }
        // Sent in the middle of every second: none is under one weight.
        for after in 0..60 {
            let weight = percent(10 + after % 2);
            guarding.sent(Some((run, weight)), Time((SECOND + after) * 1000 + 700));
            guarding.see(&[second(SECOND + after, 50)]);
        }
        assert_eq!(guarding.alarm(&state), None);
        assert_eq!(guarding.guarded().unwrap().canary, Counts::default());
        // Another run's weight.
        let other = Time((SECOND + 60) * 1000 + 700);
        guarding.sent(Some((run + 1, percent(10))), other);
        for after in 62..120 {
            guarding.see(&[second(SECOND + after, 50)]);
        }
        assert_eq!(guarding.alarm(&state), None);
    }

    #[test]
    fn a_change_late_in_a_second_leaves_the_next_one_alone_too() {
        let mut weights = Weights::default();
        weights.note(Some((7, percent(1))), Time(10_000));
        weights.note(Some((7, percent(10))), Time(15_800));
        let epochs = [14, 15, 16, 17].map(|second| weights.epoch(second, 7));
        assert_eq!(epochs, [10_000, 0, 0, 15_800]);
        assert_eq!(weights.epoch(9, 7), 0, "before anything is known");
        weights.note(Some((7, percent(10))), Time(18_000));
        assert_eq!(weights.epoch(18, 7), 15_800, "the same weight");
        weights.note(None, Time(20_000));
        assert_eq!(weights.epoch(22, 7), 0);
    }

    #[test]
    fn another_run_other_limits_and_a_new_judgement_begin_afresh() {
        let (mut guarding, mut state) = guarding();
        let bad = |guarding: &mut Guarding, from: i64| {
            for after in 0..20 {
                guarding.see(&[second(from + after, 50)]);
            }
        };
        bad(&mut guarding, SECOND);
        assert!(guarding.alarm(&state).is_some());
        guarding.follow(&state, Some(limits()));
        assert!(guarding.alarm(&state).is_some());
        guarding.follow(&state, Some(Limits::try_new(1_000, 5_000).unwrap()));
        assert_eq!(guarding.alarm(&state), None);
        bad(&mut guarding, SECOND + 20);
        assert!(guarding.alarm(&state).is_some());
        guarding.begin_anew();
        guarding.follow(&state, Some(limits()));
        assert_eq!(guarding.alarm(&state), None);
        bad(&mut guarding, SECOND + 40);
        state.run.as_mut().unwrap().number += 1;
        assert_eq!(guarding.alarm(&state), None);
        guarding.follow(&state, Some(limits()));
        assert_eq!(guarding.guarded().unwrap().canary, Counts::default());
        guarding.follow(&state, None);
        assert_eq!(guarding.guarded(), None);
    }

    #[test]
    fn what_it_would_see_is_said_at_the_present_pace() {
        let (mut guarding, _) = guarding();
        assert_eq!(guarding.foresight(), None, "nothing is known yet");
        for after in 0..30 {
            guarding.see(&[second(SECOND + after, 0)]);
        }
        let said = guarding.foresight().unwrap();
        let expected =
            "at 50.0 requests/s it sees failures of 50% in about 3s, 10% in about 3s, 5% in about ";
        assert!(said.starts_with(expected), "{said}");
        assert!(said.contains("1% in about "), "{said}");
        let run = guarding.guarded().unwrap().run;
        guarding.sent(Some((run, percent(50))), Time((SECOND + 30) * 1000));
        guarding.see(&[second(SECOND + 30, 0)]);
        assert_eq!(guarding.foresight(), None, "another weight, another pace");
        let spans = [3.2, 89.9, 100.0, 7200.0, 1e9].map(about);
        assert_eq!(spans, ["3s", "90s", "2m", "2h", "days"]);
    }

    #[test]
    fn the_places_with_the_most_failures_are_said() {
        let (mut guarding, mut state) = guarding();
        assert_eq!(guarding.places(), "");
        let place = |host, said| outcome::Place {
            endpoint: ([10, 1, 0, host], 8080).into(),
            said,
        };
        for after in 0..3 {
            let mut closed = second(SECOND + after, 25);
            let failures = &mut closed.canary.failures;
            failures.add(place(7, outcome::Said::Status(500)), 20);
            failures.add(place(8, outcome::Said::Grpc(14)), 4);
            failures.add(place(9, outcome::Said::Nothing), 1);
            failures.add(place(6, outcome::Said::Nothing), 0);
            guarding.see(&[closed]);
        }
        let said = "; 60 with status 500 from 10.1.0.7:8080, 12 with grpc-status 14 from 10.1.0.8:8080, 3 with no answer from 10.1.0.9:8080";
        assert_eq!(guarding.places(), said);
        state.run.as_mut().unwrap().number += 1;
        guarding.follow(&state, Some(limits()));
        assert_eq!(guarding.places(), "", "another run");
    }

    #[test]
    fn slow_answers_are_named_as_such() {
        let (mut guarding, state) = guarding();
        let with = |at, canary: u64, stable: u64| {
            let mut closed = second(at, 0);
            closed.stable = counts(450, 0);
            let of = |millis| outcome::Bucket::of(std::time::Duration::from_millis(millis));
            closed.canary.latency.add(of(canary), 50);
            closed.stable.latency.add(of(stable), 450);
            closed
        };
        for after in 0..20 {
            guarding.see(&[with(SECOND + after, 10, 10)]);
        }
        assert_eq!(guarding.alarm(&state), None);
        for after in 20..40 {
            guarding.see(&[with(SECOND + after, 100, 10)]);
        }
        assert!(guarding.alarm(&state).is_some());
        let words = guarding.guarded().unwrap().words();
        assert!(words.contains("answers took longer than 1"), "{words}");
    }
}
