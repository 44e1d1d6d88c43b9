//! The judgements that people see: the newest windows, the newest reason, and what was seen when a run failed.

use aviary_crds::CanaryRolloutStatus;
use aviary_crds::status::{Source as SourceName, Verdict as VerdictName, VerdictRecord};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use rollout_core::judge::Verdict;
use rollout_core::plan::Percent;
use rollout_core::time::Time;

use super::evidence::Answer;
use super::measure::Source;
use crate::text::cut;

/// The longest list of judgements that a status keeps.
const KEPT: usize = 20;
/// The longest reason, in bytes.
const REASON: usize = 400;

#[derive(Clone, Debug, Default)]
pub(super) struct Verdicts {
    records: Vec<VerdictRecord>,
    newest: Option<VerdictName>,
    judged: String,
    failure: String,
    stable: String,
    outside: Option<u64>,
    /// The second of the alarm that was said.
    alarmed_at: Option<i64>,
}

/// What the guard has seen when it had enough.
#[derive(Clone, Debug)]
pub(super) struct Alarmed {
    /// The last second that it saw.
    pub at: i64,
    /// The canary's, so far.
    pub requests: u64,
    pub words: String,
}

impl Verdicts {
    /// The words of a status outlive a restart.
    pub(super) fn of(status: Option<&CanaryRolloutStatus>) -> Verdicts {
        let Some(status) = status else {
            return Verdicts::default();
        };
        let failure = status.failure.as_ref();
        Verdicts {
            records: status.verdicts.clone(),
            newest: status.verdict,
            judged: status.verdicts.last().map_or_else(String::new, |last| {
                format!("{}: {}", last.check, last.reason)
            }),
            failure: failure.map_or_else(String::new, |failure| failure.message.clone()),
            // The next window says it again.
            stable: String::new(),
            outside: None,
            alarmed_at: None,
        }
    }

    /// A window counts, at the weight that the canary had.
    pub(super) fn count(&mut self, answer: &Answer, weight: Percent) {
        let Some(outcome) = &answer.outcome else {
            return;
        };
        self.outside = outcome.outside;
        self.stable = cut(outcome.stable.words.clone(), REASON);
        let worst = outcome
            .outcomes
            .iter()
            .find(|one| one.verdict == outcome.verdict);
        self.judged = worst.map_or_else(String::new, |worst| {
            cut(format!("{}: {}", worst.check, worst.reason), REASON)
        });
        self.newest = Some(name(outcome.verdict));
        let at = micro_time(answer.end);
        self.records
            .extend(outcome.outcomes.iter().map(|one| VerdictRecord {
                at: at.clone(),
                weight: i32::from(weight.get()),
                check: cut(one.check.clone(), 100),
                verdict: name(one.verdict),
                requests: one.requests.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
                reason: cut(one.reason.clone(), REASON),
                source: Some(source(outcome.source)),
            }));
        let surplus = self.records.len().saturating_sub(KEPT);
        self.records.drain(..surplus);
    }

    /// The guard says that the canary is worse than stable: said once, at the weight that the canary had.
    pub(super) fn alarm(&mut self, alarm: Option<Alarmed>, weight: Percent) {
        let at = alarm.as_ref().map(|alarm| alarm.at);
        if self.alarmed_at == at {
            return;
        }
        self.alarmed_at = at;
        let Some(alarm) = alarm else {
            return;
        };
        let reason = cut(alarm.words, REASON);
        self.judged = format!("guard: {reason}");
        self.newest = Some(VerdictName::Fail);
        self.record(VerdictRecord {
            at: micro_time(Time((alarm.at + 1) * 1000)),
            weight: i32::from(weight.get()),
            check: "guard".to_owned(),
            verdict: VerdictName::Fail,
            requests: i64::try_from(alarm.requests).ok(),
            reason,
            source: Some(SourceName::Sidecars),
        });
    }

    /// A hook does not agree: that is why the run ends.
    pub(super) fn refused(&mut self, why: String) {
        self.judged = cut(why, REASON);
    }

    fn record(&mut self, record: VerdictRecord) {
        self.records.push(record);
        let surplus = self.records.len().saturating_sub(KEPT);
        self.records.drain(..surplus);
    }

    /// A run ended: what was seen last is why.
    pub(super) fn failed(&mut self) {
        self.failure = self.judged.clone();
    }

    /// Another run begins: nothing is judged of it yet.
    pub(super) fn begin(&mut self) {
        self.newest = None;
        self.judged.clear();
        self.stable.clear();
        self.outside = None;
    }

    pub(super) fn records(&self) -> &[VerdictRecord] {
        &self.records
    }

    pub(super) fn newest(&self) -> Option<VerdictName> {
        self.newest
    }

    /// The newest judgement, in words.
    pub(super) fn judged(&self) -> &str {
        &self.judged
    }

    /// What the stable revision fails, in words; empty when it fails nothing, or nobody can tell.
    pub(super) fn stable(&self) -> &str {
        &self.stable
    }

    /// Requests a minute from outside the mesh, when it was asked last; `None`: nobody knows.
    pub(super) fn outside(&self) -> Option<u64> {
        self.outside
    }

    /// What was seen when the weight went to 0.
    pub(super) fn failure(&self) -> &str {
        &self.failure
    }
}

fn source(source: Source) -> SourceName {
    match source {
        Source::Prometheus => SourceName::Prometheus,
        Source::Sidecars => SourceName::Sidecars,
    }
}

fn name(verdict: Verdict) -> VerdictName {
    match verdict {
        Verdict::Pass => VerdictName::Pass,
        Verdict::Fail => VerdictName::Fail,
        Verdict::NoEvidence => VerdictName::NoEvidence,
    }
}

pub(super) fn micro_time(time: Time) -> MicroTime {
    MicroTime(Timestamp::from_millisecond(time.0).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::measure::{Outcome, StableOutcome, WindowOutcome};

    fn answer(end: i64, reason: &str) -> Answer {
        Answer {
            run: 1,
            start: Time(end - 10),
            end: Time(end),
            outcome: Some(WindowOutcome {
                source: Source::Prometheus,
                verdict: Verdict::Fail,
                requests: 3,
                outcomes: vec![Outcome {
                    check: "success-rate".to_owned(),
                    verdict: Verdict::Fail,
                    reason: reason.to_owned(),
                    requests: Some(3),
                }],
                outside: Some(7),
                stable: StableOutcome::default(),
            }),
        }
    }

    #[test]
    fn only_the_newest_are_kept_and_long_texts_stay_outside() {
        let mut verdicts = Verdicts::default();
        for end in 0..50 {
            verdicts.count(&answer(end, &"x".repeat(1_000_000)), Percent::ALL);
        }
        assert_eq!(verdicts.records().len(), KEPT);
        assert_eq!(verdicts.records()[KEPT - 1].at, micro_time(Time(49)));
        assert!(verdicts.judged().len() <= REASON);
        assert!(verdicts.records().iter().all(|r| r.reason.len() <= REASON));
    }

    #[test]
    fn what_was_seen_last_is_why_a_run_failed() {
        let mut verdicts = Verdicts::default();
        verdicts.count(&answer(1, "95% of 60 requests"), Percent::ALL);
        verdicts.failed();
        verdicts.begin();
        assert_eq!(verdicts.failure(), "success-rate: 95% of 60 requests");
        assert_eq!((verdicts.judged(), verdicts.newest()), ("", None));
    }

    #[test]
    fn calls_from_outside_are_those_of_the_newest_window_of_this_run() {
        let mut verdicts = Verdicts::default();
        let mut window = answer(1, "");
        verdicts.count(&window, Percent::ALL);
        assert_eq!(verdicts.outside(), Some(7));
        window.outcome.as_mut().unwrap().outside = None;
        verdicts.count(&window, Percent::ALL);
        assert_eq!(verdicts.outside(), None, "an old number is not said again");
        verdicts.count(&answer(2, ""), Percent::ALL);
        verdicts.begin();
        assert_eq!(verdicts.outside(), None, "of another run");
    }
}
