//! The question about a window, and its answer. It is asked beside everything else, and counts whatever becomes of the
//! writes meanwhile.

use std::time::Duration;

use aviary_crds::prometheus::PrometheusAuth;
use rollout_core::desired;
use rollout_core::observation::Window;
use rollout_core::plan::Percent;
use rollout_core::state::{Phase, State};
use rollout_core::time::{Span, Time};

use super::checks::{Check, Scope};
use super::look::Look;
use super::measure::{Source, WindowOutcome};
use super::plan::Parsed;
use super::reported::Reported;
use crate::admission::rollout::PrometheusPolicy;

/// One window to be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub run: u64,
    pub start: Time,
    pub end: Time,
    pub scope: Scope,
    pub checks: Vec<Check>,
    /// `None`: there is no Prometheus that may be asked.
    pub address: Option<String>,
    /// What it is shown.
    pub auth: Option<PrometheusAuth>,
}

/// For how long every proxy has used the present weight.
fn settled(state: &State, now: Time) -> Duration {
    let since = match state.phase {
        Phase::Soaking { since, .. } => since,
        _ => now,
    };
    Duration::from_millis(u64::try_from((now - since).0).unwrap_or(0))
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub run: u64,
    pub start: Time,
    pub end: Time,
    /// `None`: the question came to no end.
    pub outcome: Option<WindowOutcome>,
}

/// Who is asked about this rollout.
pub(super) fn source(look: &Look, policy: &PrometheusPolicy) -> Source {
    let named = look.rollout.spec.analysis.prometheus.as_ref();
    let has_address = named.is_some_and(|named| named.address.is_some());
    if has_address || policy.default.is_some() {
        Source::Prometheus
    } else {
        Source::Sidecars
    }
}

/// Where the evidence of the present run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Evidence {
    #[default]
    None,
    Asked {
        run: u64,
        /// By how much the clock was set since.
        shifted: Span,
    },
    Answered(Answer),
}

impl Evidence {
    /// The question that is due, if none is under way.
    pub fn ask(
        &mut self,
        look: &Look,
        state: &State,
        parsed: &Parsed,
        policy: &PrometheusPolicy,
    ) -> Option<Question> {
        if source(look, policy) == Source::Sidecars {
            return None;
        }
        let run = state.running()?;
        let (start, end) = rollout_core::advance::window_due(state, look.now)?;
        match self {
            Evidence::Asked { run: asked, .. } if *asked == run.number => return None,
            Evidence::Answered(answer) if answer.run == run.number => return None,
            Evidence::None | Evidence::Asked { .. } | Evidence::Answered(_) => {}
        }
        *self = Evidence::Asked {
            run: run.number,
            shifted: Span(0),
        };
        let spec = &look.rollout.spec;
        let named = spec.analysis.prometheus.clone().unwrap_or_default();
        let address = named.address.or_else(|| policy.default.clone());
        Some(Question {
            run: run.number,
            start,
            end,
            scope: Scope {
                namespace: look.key.namespace.clone(),
                service: spec.service.name.clone(),
                ports: spec.service.ports.clone(),
                deployment: spec.target_ref.name.clone(),
                stable: state.stable.revision.clone(),
                canary: run.canary.revision.clone(),
                interval: Duration::from_millis(u64::try_from(run.plan.interval.0).unwrap_or(0)),
                metrics: named.metrics,
                job: named.job,
                beside_stable: desired(state).weight() < Percent::ALL,
                settled: settled(state, look.now),
            },
            checks: parsed.checks.clone(),
            // The operator fetches for nobody: an address outside the allow-list is no evidence.
            address: address.filter(|address| policy.allows(address)),
            auth: named.auth,
        })
    }

    /// Where there is no Prometheus to ask, the sidecars have said it already.
    pub(super) fn judge(
        &mut self,
        look: &Look,
        state: &State,
        checks: &[Check],
        reported: &Reported,
        policy: &PrometheusPolicy,
    ) {
        if source(look, policy) == Source::Prometheus || *self != Evidence::None {
            return;
        }
        let Some((run, window)) = state.running().zip(reported.due(state, look.now)) else {
            return;
        };
        *self = Evidence::Answered(Answer {
            run: run.number,
            start: window.start,
            end: window.end,
            outcome: Some(window.judge(checks)),
        });
    }

    /// An answer came. One that nobody waits for any more is dropped.
    pub fn take(&mut self, answer: Answer) {
        match self {
            Evidence::Asked { run, shifted } if *run == answer.run && answer.outcome.is_some() => {
                let by = *shifted;
                *self = Evidence::Answered(answer);
                self.shift(by);
            }
            Evidence::Asked { run, .. } if *run == answer.run => *self = Evidence::None,
            Evidence::None | Evidence::Asked { .. } | Evidence::Answered(_) => {}
        }
    }

    /// The window that was judged and is not counted yet.
    pub fn window(&self, state: &State) -> Option<Window> {
        let Evidence::Answered(answer) = self else {
            return None;
        };
        let outcome = answer.outcome.as_ref()?;
        (state.running()?.number == answer.run).then_some(Window {
            start: answer.start,
            end: answer.end,
            verdict: outcome.verdict,
            requests: outcome.requests,
            stable_fails: outcome.stable.fails,
        })
    }

    /// It was counted, or nobody will count it.
    pub fn settle(&mut self) -> Option<Answer> {
        match std::mem::take(self) {
            Evidence::Answered(answer) => Some(answer),
            other @ (Evidence::None | Evidence::Asked { .. }) => {
                *self = other;
                None
            }
        }
    }

    /// The clock was set: what was answered was asked on the clock before.
    pub fn shift(&mut self, by: Span) {
        match self {
            Evidence::None => {}
            Evidence::Asked { shifted, .. } => *shifted = *shifted + by,
            Evidence::Answered(answer) => {
                answer.start = answer.start + by;
                answer.end = answer.end + by;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aviary_crds::prometheus::MetricsSource;
    use rollout_core::judge::Verdict;
    use rollout_core::state::Phase;
    use serde_json::json;

    use super::*;
    use crate::rollout::measure::{Source, StableOutcome};
    use crate::rollout::plan;
    use crate::rollout::testing;

    fn soaking() -> State {
        testing::state(Phase::Soaking {
            step: 0,
            since: Time(0),
        })
    }

    fn ask(
        evidence: &mut Evidence,
        state: &State,
        now: i64,
        policy: &PrometheusPolicy,
    ) -> Option<Question> {
        let rollout = testing::rollout(json!({}));
        let parsed = plan::parse(&rollout.spec).unwrap();
        let look = testing::look(rollout, Time(now));
        evidence.ask(&look, state, &parsed, policy)
    }

    fn answer(question: &Question, outcome: Option<WindowOutcome>) -> Answer {
        Answer {
            run: question.run,
            start: question.start,
            end: question.end,
            outcome,
        }
    }

    fn passed() -> Option<WindowOutcome> {
        Some(WindowOutcome {
            source: Source::Prometheus,
            outside: None,
            verdict: Verdict::Pass,
            requests: 5,
            outcomes: Vec::new(),
            stable: StableOutcome::default(),
        })
    }

    #[test]
    fn a_window_is_asked_about_once_and_only_when_it_is_due() {
        let (mut evidence, policy) = (Evidence::None, testing::policy());
        assert_eq!(ask(&mut evidence, &soaking(), 14_999, &policy), None);
        let question = ask(&mut evidence, &soaking(), 15_000, &policy).unwrap();
        assert_eq!((question.start, question.end), (Time(5_000), Time(15_000)));
        assert_eq!(
            ask(&mut evidence, &soaking(), 99_000, &policy),
            None,
            "it is under way"
        );
        evidence.take(answer(&question, passed()));
        let window = evidence.window(&soaking()).unwrap();
        assert_eq!((window.end, window.requests), (Time(15_000), 5));
        assert_eq!(
            ask(&mut evidence, &soaking(), 99_000, &policy),
            None,
            "it is not counted yet"
        );
        assert!(evidence.settle().is_some() && evidence.settle().is_none());
    }

    /// It was asked on the clock before, and is counted on the one after.
    #[test]
    fn a_clock_that_is_set_while_a_question_is_under_way_moves_its_window() {
        let (mut evidence, policy) = (Evidence::None, testing::policy());
        let question = ask(&mut evidence, &soaking(), 15_000, &policy).unwrap();
        evidence.shift(Span(-7_000));
        evidence.take(answer(&question, passed()));
        let window = evidence.window(&soaking()).unwrap();
        assert_eq!((window.start, window.end), (Time(-2_000), Time(8_000)));
    }

    #[test]
    fn an_answer_about_another_run_counts_for_nothing() {
        let (mut evidence, policy) = (Evidence::None, testing::policy());
        let old = ask(&mut evidence, &soaking(), 15_000, &policy).unwrap();
        let mut newer = soaking();
        newer.run.as_mut().unwrap().number = 8;
        let question = ask(&mut evidence, &newer, 20_000, &policy).unwrap();
        evidence.take(answer(&old, passed()));
        assert!(matches!(evidence, Evidence::Asked { run: 8, .. }));
        evidence.take(answer(&question, None));
        assert_eq!(evidence, Evidence::None, "it may be asked again");
    }

    #[test]
    fn only_an_allowed_prometheus_is_asked_and_where_there_is_none_nobody_is() {
        let of = |default: Option<&str>, named: Option<&str>| {
            let policy = PrometheusPolicy {
                default: default.map(str::to_owned),
                allowed: vec!["http://allowed:9090".to_owned()],
            };
            let mut spec = json!({});
            if let Some(named) = named {
                spec = json!({"spec": {"analysis": {"prometheus": {"address": named}}}});
            }
            let rollout = testing::rollout(spec);
            let parsed = plan::parse(&rollout.spec).unwrap();
            let look = testing::look(rollout, Time(15_000));
            let question = Evidence::None.ask(&look, &soaking(), &parsed, &policy);
            question.map(|question| question.address)
        };
        let at = |address: &str| Some(Some(address.to_owned()));
        assert_eq!(of(Some("http://a:9090"), None), at("http://a:9090"));
        assert_eq!(
            of(None, Some("http://allowed:9090")),
            at("http://allowed:9090")
        );
        assert_eq!(of(None, Some("http://other:9090")), Some(None));
        assert_eq!(of(None, None), None, "the sidecars have said it");
    }

    #[test]
    fn a_question_says_whose_metrics_it_reads_and_what_it_shows() {
        let asked = |prometheus: serde_json::Value| {
            let rollout =
                testing::rollout(json!({"spec": {"analysis": {"prometheus": prometheus}}}));
            let parsed = plan::parse(&rollout.spec).unwrap();
            let look = testing::look(rollout, Time(15_000));
            let question = Evidence::None.ask(&look, &soaking(), &parsed, &testing::policy());
            question.unwrap()
        };
        // The address is left out: the operator's own.
        let auth = json!({"bearer": {"secretRef": {"name": "token"}}});
        let question = asked(json!({"metrics": "Istio", "job": "istio/proxies", "auth": auth}));
        assert_eq!(question.scope.job.as_deref(), Some("istio/proxies"));
        assert_eq!(question.address.as_deref(), Some("http://prometheus:9090"));
        assert_eq!(question.scope.metrics, MetricsSource::Istio);
        assert_eq!(serde_json::to_value(question.auth).unwrap(), auth);
        let question = asked(json!({"address": "http://prometheus:9090"}));
        assert_eq!(question.scope.metrics, MetricsSource::Aviary);
        assert_eq!((question.auth, question.scope.job), (None, None));
    }
}
