//! Windows of what the sidecars reported, where there is no Prometheus to ask: the built-in checks work all the same.
//!
//! A window ends a few seconds before now, with the last second that is closed for sure, and the next begins where it ended.

use std::collections::VecDeque;

use rollout_core::judge::{self, Measured};
use rollout_core::state::State;
use rollout_core::time::{Span, Time};
use traffic_core::outcome::{Class, Counts};

use super::checks::{Check, Query};
use super::measure::{self, Source, WindowOutcome};
use crate::outcomes::Closed;

/// Every second is closed this long after its end.
const CLOSED: Span = Span::seconds(3);
/// Parts of the longest window that are kept apart.
const PARTS: i64 = 120;

/// What was reported of the present run.
#[derive(Clone, Debug, Default)]
pub(super) struct Reported {
    run: u64,
    parts: VecDeque<Part>,
    /// The length of a part, in seconds.
    width: i64,
}

#[derive(Clone, Debug)]
struct Part {
    /// The first second of it.
    at: i64,
    canary: Counts,
    stable: Counts,
}

/// What was reported in `[start, end)`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) start: Time,
    pub(super) end: Time,
    canary: Counts,
    stable: Counts,
}

impl Reported {
    /// Keeps what a window of this run needs.
    pub(super) fn follow(&mut self, state: &State) {
        let Some(run) = state.running() else {
            *self = Reported::default();
            return;
        };
        let width = seconds(run.plan.interval.0).div_euclid(PARTS) + 1;
        if (self.run, self.width) != (run.number, width) {
            *self = Reported {
                run: run.number,
                parts: VecDeque::new(),
                width,
            };
        }
    }

    pub(super) fn see(&mut self, closed: &[Closed]) {
        if self.width == 0 {
            return;
        }
        for second in closed {
            let at = second.at.div_euclid(self.width) * self.width;
            // Seconds come in their order.
            if self.parts.back().is_none_or(|part| part.at < at) {
                self.parts.push_back(Part {
                    at,
                    canary: Counts::default(),
                    stable: Counts::default(),
                });
            }
            if let Some(part) = self.parts.back_mut() {
                part.canary.merge(&second.canary);
                part.stable.merge(&second.stable);
            }
        }
        let surplus = self.parts.len().saturating_sub(2 * PARTS as usize);
        self.parts.drain(..surplus);
    }

    /// The window that is due.
    pub(super) fn due(&self, state: &State, now: Time) -> Option<Window> {
        let (start, end) = self.bounds(state, now)?;
        let mut window = Window {
            start: Time(start * 1000),
            end: Time(end * 1000),
            canary: Counts::default(),
            stable: Counts::default(),
        };
        let within = |part: &&Part| part.at >= start && part.at < end;
        for part in self.parts.iter().filter(within) {
            window.canary.merge(&part.canary);
            window.stable.merge(&part.stable);
        }
        Some(window)
    }

    /// When the next one will be.
    pub(super) fn next(&self, state: &State) -> Option<Time> {
        let (judged_until, interval) = self.asked(state)?;
        let end = up(judged_until, self.width) + interval;
        Some(Time(up(end * 1000, self.width) * 1000) + CLOSED)
    }

    /// First second and the one after the last, if that makes a whole window.
    fn bounds(&self, state: &State, now: Time) -> Option<(i64, i64)> {
        let (judged_until, interval) = self.asked(state)?;
        let end = (now + Span(-CLOSED.0)).0.div_euclid(1000 * self.width) * self.width;
        let since = up(judged_until, self.width);
        // After a pause the newest is enough.
        let start = since.max(end - up(interval * 1000, self.width));
        (end - since >= interval).then_some((start, end))
    }

    /// Up to when windows were judged, in milliseconds, and the length of one, in seconds.
    fn asked(&self, state: &State) -> Option<(i64, i64)> {
        let run = state.running().filter(|run| run.number == self.run)?;
        let has_weight = rollout_core::desired(state).weight().get() > 0;
        has_weight.then(|| (run.judged_until.0, seconds(run.plan.interval.0)))
    }
}

impl Window {
    pub(super) fn judge(&self, checks: &[Check]) -> WindowOutcome {
        let judged = checks.iter().map(|check| {
            let (measured, requests) = measured(&self.canary, &check.query);
            let stable = match (&check.query, self.stable.started) {
                (Query::Custom(_), _) | (_, 0) => None,
                (Query::Successes | Query::FasterThan { .. }, _) => {
                    Some(measured_of(&self.stable, &check.query))
                }
            };
            let judgement = match &stable {
                Some(stable) => judge::beside(check.bound, &measured, stable),
                None => judge::judge(check.bound, &measured),
            };
            let stable = stable.map(|stable| {
                let judgement = judge::judge(check.bound, &stable);
                measure::outcome(check, judgement, None)
            });
            (measure::outcome(check, judgement, requests), stable)
        });
        measure::combine(judged.collect(), None, Source::Sidecars)
    }
}

fn measured(counts: &Counts, query: &Query) -> (Measured, Option<u64>) {
    let measured = measured_of(counts, query);
    let requests = match measured {
        Measured::Share { total, .. } => Some(total as u64),
        Measured::Number(_) | Measured::Absent(_) => None,
    };
    (measured, requests)
}

fn measured_of(counts: &Counts, query: &Query) -> Measured {
    let (good, total) = match query {
        Query::Successes => {
            let good = counts.ended[Class::Success];
            (good, good + counts.ended.errors())
        }
        Query::FasterThan { seconds, .. } => {
            let mut sum = (0, 0);
            for (bucket, times) in counts.latency.buckets() {
                let fast = bucket.middle().as_secs_f64() <= *seconds;
                sum.0 += u64::from(times) * u64::from(fast);
                sum.1 += u64::from(times);
            }
            sum
        }
        Query::Custom(_) => {
            return Measured::Absent(
                "a query needs a Prometheus: start the operator with --prometheus-address, or set spec.analysis.prometheus.address".to_owned(),
            );
        }
    };
    if total == 0 {
        return Measured::Absent(
            "the sidecars report no request to the canary in this window".to_owned(),
        );
    }
    Measured::Share {
        good: good as f64,
        total: total as f64,
    }
}

/// Milliseconds to whole seconds, at least one.
fn seconds(millis: i64) -> i64 {
    millis.div_euclid(1000).max(1)
}

/// Milliseconds to the next second at which a part begins.
fn up(millis: i64, width: i64) -> i64 {
    let width_ms = 1000 * width.max(1);
    (millis + width_ms - 1).div_euclid(width_ms) * width.max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rollout_core::judge::{Bound, Verdict};
    use rollout_core::state::Phase;
    use traffic_core::outcome::{Bucket, PerClass};

    use super::*;
    use crate::rollout::testing;

    const START: i64 = 1_790_000_000;

    fn checks() -> Vec<Check> {
        let check = |name: &str, query, bound| Check {
            name: name.to_owned(),
            query,
            bound,
        };
        let fast = Query::FasterThan {
            seconds: 0.5,
            quantile: 0.99,
        };
        vec![
            check("success-rate", Query::Successes, Bound::ShareAtLeast(0.99)),
            check("latency", fast, Bound::ShareAtLeast(0.99)),
        ]
    }

    /// Windows of 10 s; nothing was judged before `judged_until`, in milliseconds.
    fn soaking(judged_until: i64) -> State {
        let mut state = testing::state(Phase::Soaking {
            step: 0,
            since: Time(judged_until),
        });
        state.run.as_mut().unwrap().judged_until = Time(judged_until);
        state
    }

    fn second(at: i64, failed: u64, millis: u64) -> Closed {
        let counts = |started: u64, failed: u64, millis| Counts {
            started,
            ended: PerClass::from([started - failed, failed, 0, 0]),
            latency: [(Bucket::of(Duration::from_millis(millis)), 20)]
                .into_iter()
                .collect(),
            ..Counts::default()
        };
        Closed {
            at,
            canary: counts(20, failed, millis),
            stable: counts(180, 0, 10),
        }
    }

    fn reported(state: &State, seconds: impl IntoIterator<Item = Closed>) -> Reported {
        let mut reported = Reported::default();
        reported.follow(state);
        reported.see(&seconds.into_iter().collect::<Vec<_>>());
        reported
    }

    #[test]
    fn a_window_is_whole_seconds_after_what_was_judged_and_nothing_that_may_still_come() {
        let state = soaking(START * 1000 + 300);
        let seconds = (START - 5..START + 30).map(|at| second(at, 0, 10));
        let reported = reported(&state, seconds);
        let due = |millis: i64| reported.due(&state, Time(START * 1000 + millis));
        assert_eq!(due(13_999), None);
        let at = reported.next(&state).unwrap();
        assert_eq!(at, Time(START * 1000 + 14_000));
        let window = due(14_000).unwrap();
        assert_eq!(window.start, Time((START + 1) * 1000));
        assert_eq!(window.end, Time((START + 11) * 1000));
        assert_eq!(window.canary.started, 200);
        let outcome = window.judge(&checks());
        assert_eq!((outcome.verdict, outcome.requests), (Verdict::Pass, 200));
        assert_eq!(outcome.stable.fails, Some(false));
        // The next one goes on where this one ended; after a pause only the newest is judged.
        let next = reported.due(&soaking(window.end.0), Time((START + 24) * 1000));
        assert_eq!(next.unwrap().start, window.end);
        let late = due(28_000).unwrap();
        assert_eq!(
            (late.end - late.start, late.canary.started),
            (Span(10_000), 200)
        );
    }

    #[test]
    fn failures_and_slow_answers_fail_their_checks() {
        let state = soaking(START * 1000);
        let judged = |failed, millis| {
            let seconds = (START..START + 10).map(|at| second(at, failed, millis));
            let window = reported(&state, seconds).due(&state, Time((START + 13) * 1000));
            let outcome = window.unwrap().judge(&checks());
            let verdicts: Vec<Verdict> = outcome.outcomes.iter().map(|one| one.verdict).collect();
            (outcome.verdict, verdicts)
        };
        let (pass, fail) = (Verdict::Pass, Verdict::Fail);
        assert_eq!(judged(0, 10), (pass, vec![pass, pass]));
        assert_eq!(judged(2, 10), (fail, vec![fail, pass]));
        assert_eq!(judged(0, 900), (fail, vec![pass, fail]));
    }

    #[test]
    fn without_requests_there_is_no_evidence_and_a_query_needs_a_prometheus() {
        let state = soaking(START * 1000);
        let window = reported(&state, []).due(&state, Time((START + 20) * 1000));
        let mut checks = checks();
        checks.push(Check {
            name: "queue".to_owned(),
            query: Query::Custom("up".to_owned()),
            bound: Bound::Between {
                at_least: None,
                at_most: Some(1.0),
            },
        });
        let outcome = window.unwrap().judge(&checks);
        assert_eq!(outcome.verdict, Verdict::NoEvidence);
        let reasons = outcome.outcomes.iter().map(|one| one.reason.as_str());
        let reasons: Vec<&str> = reasons.collect();
        assert!(reasons[0].contains("report no request"), "{reasons:?}");
        assert!(reasons[2].contains("--prometheus-address"), "{reasons:?}");
    }

    #[test]
    fn a_long_window_is_kept_in_few_parts_and_another_run_begins_with_none() {
        let mut state = soaking(START * 1000);
        let mut plan = state.run.as_ref().unwrap().plan.clone();
        let limits = rollout_core::plan::Limits {
            interval: Span::seconds(3600),
            ..*plan
        };
        plan = rollout_core::plan::Plan::new(plan.steps().to_vec(), limits).unwrap();
        state.run.as_mut().unwrap().plan = plan;
        let seconds = (START..START + 20_000).map(|at| second(at, 0, 10));
        let mut reported = reported(&state, seconds);
        assert!(
            reported.parts.len() <= 2 * PARTS as usize,
            "{}",
            reported.parts.len()
        );
        let window = reported.due(&state, Time((START + 20_000) * 1000)).unwrap();
        assert_eq!(
            window.canary.started,
            20 * (window.end - window.start).0.unsigned_abs() / 1000
        );
        assert!(window.end - window.start >= Span::seconds(3600));
        state.run.as_mut().unwrap().number += 1;
        reported.follow(&state);
        assert!(reported.parts.is_empty());
    }

    #[test]
    fn at_weight_0_nothing_is_due() {
        let mut state = soaking(START * 1000);
        state.phase = Phase::Scaling {
            step: 0,
            since: Time(0),
        };
        let reported = reported(&state, []);
        assert_eq!(reported.due(&state, Time((START + 60) * 1000)), None);
        assert_eq!(reported.next(&state), None);
    }
}
