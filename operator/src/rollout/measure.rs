//! Asks Prometheus for one window. Whatever goes wrong is an absent measurement with its reason, never a number.
//!
//! - [`access`] is the way to it: the address, with the [`credentials`] that its [`secrets`] hold.
//! - [`ask`] gets one answer, of limited size and in limited time.
//! - [`answer`] reads it: a number, a share, or nothing.
//!
//! Prometheus is shared: what it says may be about other people, or come from somebody who has no reason to tell the
//! truth. Reasons go into the status, which others can read, so no text of an answer is ever part of one.

pub mod access;
mod answer;
mod ask;
mod credentials;
mod secrets;

use std::time::Duration;

use prometheus_http_query::response::Data;
use rollout_core::judge::{self, Judgement, Measured, Verdict};

use super::checks::builtin::MetricsSource;
use super::checks::{Check, Query, Scope};
use answer::Nothing;
pub use ask::Prometheus;

/// What goes into the status for one check of one window, in bytes.
const LONGEST_REASON: usize = 240;
/// Any series that is scraped at all has samples in it.
const LONG: Duration = Duration::from_secs(600);

/// One check of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub check: String,
    pub verdict: Verdict,
    pub reason: String,
    /// Requests to the canary, where the check counts any.
    pub requests: Option<u64>,
}

/// Who said what is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Prometheus,
    /// The calling sidecars, themselves.
    Sidecars,
}

/// All checks of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowOutcome {
    pub verdict: Verdict,
    pub requests: u64,
    pub outcomes: Vec<Outcome>,
    /// Requests a minute from callers outside the mesh. A hint for people, of which nothing depends; `None`: nobody knows.
    pub outside: Option<u64>,
    pub stable: StableOutcome,
    pub source: Source,
}

/// The stable revision by the same checks, in the same window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StableOutcome {
    /// `None`: nobody can tell.
    pub fails: Option<bool>,
    /// The check that it fails, and what was measured.
    pub words: String,
}

/// Judges every check over the window that ends now. Without a Prometheus, by why there is none.
pub async fn judge_window(
    prometheus: Result<Prometheus, String>,
    scope: &Scope,
    checks: &[Check],
) -> WindowOutcome {
    let asked = futures::future::join_all(checks.iter().map(|check| async {
        let of_canary = async {
            match &prometheus {
                Ok(prometheus) => measure(prometheus, scope, &check.query).await,
                Err(why) => (Measured::Absent(why.clone()), None),
            }
        };
        let of_stable = async {
            let scope = scope.of_stable(&check.query)?;
            let prometheus = prometheus.as_ref().ok()?;
            Some(measure(prometheus, &scope, &check.query).await.0)
        };
        let ((measured, requests), stable) = futures::future::join(of_canary, of_stable).await;
        let judgement = match &stable {
            Some(stable) => judge::beside(check.bound, &measured, stable),
            None => judge::judge(check.bound, &measured),
        };
        let outcome = outcome(check, judgement, requests);
        let stable = stable.map(|stable| {
            let judgement = judge::judge(check.bound, &stable);
            self::outcome(check, judgement, None)
        });
        (outcome, stable)
    }));
    let outside = outside(prometheus.as_ref().ok(), scope);
    let (asked, outside) = futures::future::join(asked, outside).await;
    combine(asked, outside, Source::Prometheus)
}

/// What the checks of one window say together: of the canary, and of stable where it can be compared.
pub(super) fn combine(
    judged: Vec<(Outcome, Option<Outcome>)>,
    outside: Option<u64>,
    source: Source,
) -> WindowOutcome {
    let (outcomes, stable): (Vec<Outcome>, Vec<Option<Outcome>>) = judged.into_iter().unzip();
    let verdict = judge::combine(outcomes.iter().map(|outcome| outcome.verdict));
    let requests = outcomes
        .iter()
        .filter_map(|outcome| outcome.requests)
        .max()
        .unwrap_or(0);
    WindowOutcome {
        verdict,
        requests,
        outcomes,
        outside,
        stable: stable_outcome(stable.into_iter().flatten()),
        source,
    }
}

pub(super) fn outcome(check: &Check, judgement: Judgement, requests: Option<u64>) -> Outcome {
    let reason = match check.query {
        Query::FasterThan { seconds, .. } => {
            format!("within {}ms: {}", seconds * 1000.0, judgement.reason)
        }
        Query::Successes | Query::Custom(_) => judgement.reason,
    };
    Outcome {
        check: check.name.clone(),
        verdict: judgement.verdict,
        reason: cut(reason),
        requests,
    }
}

/// One check that stable fails is enough, and it fails none only when it passes every one that can be compared.
fn stable_outcome(outcomes: impl Iterator<Item = Outcome>) -> StableOutcome {
    let outcomes: Vec<Outcome> = outcomes.collect();
    let fails = match judge::combine(outcomes.iter().map(|outcome| outcome.verdict)) {
        Verdict::Fail => Some(true),
        Verdict::Pass => Some(false),
        Verdict::NoEvidence => None,
    };
    let failed = outcomes.iter().find(|one| one.verdict == Verdict::Fail);
    StableOutcome {
        fails,
        words: failed.map_or_else(String::new, |one| format!("{}: {}", one.check, one.reason)),
    }
}

/// Only our own sidecars tell whom they do not know.
async fn outside(prometheus: Option<&Prometheus>, scope: &Scope) -> Option<u64> {
    if scope.metrics != MetricsSource::Aviary {
        return None;
    }
    let data = ask::ask(prometheus?, &scope.outside()?, ask::PATIENCE).await;
    answer::outside(&data.ok()?)
}

async fn measure(prometheus: &Prometheus, scope: &Scope, query: &Query) -> (Measured, Option<u64>) {
    let absent = |why: String| (Measured::Absent(why), None);
    let promql = match scope.promql(query) {
        Ok(promql) => promql,
        Err(error) => return absent(format!("the query cannot be asked: {error}")),
    };
    let data: Data = match ask::ask(prometheus, &promql, ask::PATIENCE).await {
        Ok(data) => data,
        Err(why) => return absent(why.to_string()),
    };
    match answer::read(query, scope.metrics, &data) {
        Ok(measurement) => (measurement.measured, measurement.requests),
        Err(Nothing::NoSamples) => absent(why_no_samples(prometheus, scope).await.to_string()),
        Err(why) => absent(why.to_string()),
    }
}

/// Of three reasons for no samples, the one that it is.
async fn why_no_samples(prometheus: &Prometheus, scope: &Scope) -> Nothing {
    let samples = async |length| {
        let data = ask::ask(prometheus, &scope.samples(length), ask::PATIENCE).await;
        answer::samples(&data.ok()?)
    };
    let (window, long) = futures::future::join(samples(scope.interval), samples(LONG)).await;
    match (window, long) {
        (Some(2..), _) => Nothing::NoRequest,
        (Some(0 | 1), Some(1..)) => Nothing::TooShort(scope.interval),
        (Some(0 | 1), Some(0)) => match &scope.job {
            Some(job) => Nothing::NotInJob(scope.metrics, job.clone()),
            None => Nothing::NotScraped(scope.metrics),
        },
        (None, _) | (_, None) => Nothing::NoSamples,
    }
}

/// Between two characters.
fn cut(mut reason: String) -> String {
    const MORE: &str = "...";
    if reason.len() > LONGEST_REASON {
        reason.truncate(reason.floor_char_boundary(LONGEST_REASON - MORE.len()));
        reason.push_str(MORE);
    }
    reason
}

#[cfg(test)]
mod tests;
