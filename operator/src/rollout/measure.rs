//! Asks Prometheus for one window. Whatever goes wrong is an absent measurement with its reason, never a number.
//!
//! - [`ask`] gets one answer, of limited size and in limited time.
//! - [`answer`] reads it: a number, a share, or nothing.
//!
//! Prometheus is shared: what it says may be about other people, or come from somebody who has no reason to tell the
//! truth. Reasons go into the status, which others can read, so no text of an answer is ever part of one.

mod answer;
mod ask;

use std::sync::Arc;

use prometheus_http_query::Client;
use rollout_core::judge::{self, Judgement, Measured, Verdict};

use super::checks::{Check, Query, Scope};

/// What goes into the status for one check of one window.
const LONGEST_REASON: usize = 200;

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

#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error("the HTTP client for Prometheus cannot be built: {0}")]
    Http(#[from] reqwest::Error),
}

/// The HTTP client that all questions share. HTTPS trusts the certificates in `SSL_CERT_FILE` or the system's.
pub fn http_client() -> Result<reqwest::Client, MeasureError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(ask::PATIENCE);
    // A redirect would lead out of the allow-list.
    Ok(builder
        .redirect(reqwest::redirect::Policy::none())
        .build()?)
}

/// Judges every check over the window that ends now.
pub async fn judge_window(
    http: &reqwest::Client,
    address: Option<&str>,
    scope: &Scope,
    checks: &[Check],
) -> WindowOutcome {
    let client = match address {
        None => Err("no Prometheus: start the operator with --prometheus-address, or set spec.analysis.prometheus.address".to_owned()),
        Some(address) => Client::from(http.clone(), address)
            .map_err(|error| format!("'{address}' is no address of a Prometheus: {error}")),
    };
    let asked = futures::future::join_all(checks.iter().map(|check| async {
        let of_canary = async {
            match &client {
                Ok(client) => measure(client, scope, &check.query).await,
                Err(why) => (Measured::Absent(why.clone()), None),
            }
        };
        let of_stable = async {
            let scope = scope.of_stable(&check.query)?;
            Some(measure(client.as_ref().ok()?, &scope, &check.query).await.0)
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
    let outside = outside(client.as_ref().ok(), scope);
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

async fn outside(client: Option<&Client>, scope: &Scope) -> Option<u64> {
    let data = ask::ask(client?, &scope.outside(), ask::PATIENCE).await;
    answer::outside(&data.ok()?)
}

async fn measure(client: &Client, scope: &Scope, query: &Query) -> (Measured, Option<u64>) {
    let promql = match scope.promql(query) {
        Ok(promql) => promql,
        Err(error) => {
            let why = format!("the query cannot be asked: {error}");
            return (Measured::Absent(why), None);
        }
    };
    let measurement = match ask::ask(client, &promql, ask::PATIENCE).await {
        Ok(data) => answer::read(query, &data),
        Err(why) => return (Measured::Absent(why.to_string()), None),
    };
    match measurement {
        Ok(measurement) => (measurement.measured, measurement.requests),
        Err(why) => (Measured::Absent(why.to_string()), None),
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
