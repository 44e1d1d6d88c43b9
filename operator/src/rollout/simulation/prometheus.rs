//! A Prometheus that answers by what the proxies have seen: the requests of the last window by the pods that they went to, and
//! whether those pods' version was good at that moment. It may be late, or know nothing.

use std::collections::{BTreeMap, VecDeque};

use rollout_core::judge::Verdict;

use crate::rollout::evidence::{Answer, Question};
use crate::rollout::measure::{Outcome, Source, StableOutcome, WindowOutcome};

/// Fewer requests are no evidence.
const ENOUGH: f64 = 5.0;
/// A version is bad when more of its requests fail.
pub(super) const TOLERATED: f64 = 0.2;
/// Nothing older is asked for.
const KEPT: i64 = 300_000;

/// Requests of one second to one revision.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) requests: f64,
    pub(super) failed: f64,
}

#[derive(Debug, Default)]
pub(super) struct Prometheus {
    seconds: VecDeque<(i64, BTreeMap<String, Count>)>,
    /// Answers take at least this long until then.
    pub(super) slow_until: i64,
    /// It knows nothing until then.
    pub(super) ignorant_until: i64,
    /// What is good is called bad until then.
    pub(super) lies_until: i64,
}

impl Prometheus {
    pub(super) fn record(&mut self, now: i64, counts: BTreeMap<String, Count>) {
        self.seconds.push_back((now, counts));
        while self.seconds.front().is_some_and(|(at, _)| now - at > KEPT) {
            self.seconds.pop_front();
        }
    }

    pub(super) fn prompt(&self, now: i64) -> bool {
        now >= self.slow_until && now >= self.ignorant_until
    }

    /// About the window that ends now.
    pub(super) fn answer(&self, question: &Question, now: i64) -> Answer {
        let interval = i64::try_from(question.scope.interval.as_millis()).unwrap_or(i64::MAX);
        let mut sum = Count::default();
        for (at, counts) in &self.seconds {
            if *at > now - interval
                && let Some(count) = counts.get(&question.scope.canary)
            {
                sum.requests += count.requests;
                sum.failed += count.failed;
            }
        }
        let verdict = if now < self.ignorant_until || sum.requests < ENOUGH {
            Verdict::NoEvidence
        } else if now < self.lies_until || sum.failed > sum.requests * TOLERATED {
            Verdict::Fail
        } else {
            Verdict::Pass
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // a few thousand at the most
        let requests = if verdict == Verdict::NoEvidence {
            0
        } else {
            sum.requests as u64
        };
        Answer {
            run: question.run,
            start: question.start,
            end: question.end,
            outcome: Some(WindowOutcome {
                source: Source::Prometheus,
                outside: None,
                stable: StableOutcome {
                    fails: question
                        .scope
                        .beside_stable
                        .then_some(now < self.lies_until),
                    words: "as measured".to_owned(),
                },
                verdict,
                requests,
                outcomes: vec![Outcome {
                    check: "success-rate".to_owned(),
                    verdict,
                    reason: "as measured".to_owned(),
                    requests: Some(requests),
                }],
            }),
        }
    }
}
