//! The guard of the present run: each second of outcomes, under the weight that proxies had then.

mod pace;
mod weights;

use rollout_core::Event;
use rollout_core::guard::{self, Alarm, Arm, Budget, Counts, Guard, Limits, Second, Sketch};
use rollout_core::state::State;
use rollout_core::time::Time;
use serde::{Deserialize, Serialize};
use traffic_core::outcome;

use super::heard::Heard;
use crate::outcomes::Closed;

use pace::Pace;
use weights::Weights;

/// Failures that are spoken of, in percent.
const FAULTS: [u8; 4] = [50, 10, 5, 1];
/// Places of failures that are spoken of.
const PLACES: usize = 3;
/// What is left of a sum that is to be 0.
const ROUNDING: f64 = 1e-6;

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

    /// Which weight the proxies were sent, and whether all of them use it.
    pub(super) fn heard(&mut self, heard: &Heard, now: Time) {
        self.weights
            .note(heard.sent.canary, heard.acks.complete(), now);
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
        let places: Vec<String> = worst.iter().map(ToString::to_string).collect();
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
mod tests;
