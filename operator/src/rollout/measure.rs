//! Asks Prometheus for one window. Whatever goes wrong is an absent measurement with its reason, never a number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_http_query::Client;
use prometheus_http_query::response::InstantVector;
use rollout_core::judge::{self, Measured, Verdict};
use traffic_core::contract::{class, label};

use super::checks::{Check, Query, Scope};

/// A Prometheus that does not answer within this time is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// One check of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub check: String,
    pub verdict: Verdict,
    pub reason: String,
    /// Requests to the canary, where the check counts any.
    pub requests: Option<u64>,
}

/// All checks of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowOutcome {
    pub verdict: Verdict,
    pub requests: u64,
    pub outcomes: Vec<Outcome>,
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
        .timeout(PATIENCE);
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
    let outcomes = futures::future::join_all(checks.iter().map(|check| async {
        let (measured, requests) = match &client {
            Ok(client) => ask(client, scope, check).await,
            Err(why) => (Measured::Absent(why.clone()), None),
        };
        let judgement = judge::judge(check.bound, &measured);
        let reason = match check.query {
            Query::FasterThan { seconds, .. } => {
                format!("within {}ms: {}", seconds * 1000.0, judgement.reason)
            }
            Query::Successes | Query::Custom(_) => judgement.reason,
        };
        Outcome {
            check: check.name.clone(),
            verdict: judgement.verdict,
            reason,
            requests,
        }
    }))
    .await;
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
    }
}

async fn ask(client: &Client, scope: &Scope, check: &Check) -> (Measured, Option<u64>) {
    let promql = match scope.promql(&check.query) {
        Ok(promql) => promql,
        Err(error) => {
            return (
                Measured::Absent(format!("the query cannot be asked: {error}")),
                None,
            );
        }
    };
    let answer = match client.query(&promql).get().await {
        Ok(answer) => answer,
        Err(error) => return (Measured::Absent(away(&error)), None),
    };
    let data = answer.data();
    match &check.query {
        Query::Successes => match data.as_vector() {
            Some(series) => successes(series),
            None => (
                Measured::Absent("Prometheus gave no vector".to_owned()),
                None,
            ),
        },
        Query::FasterThan { seconds, .. } => match data.as_vector() {
            Some(series) => faster_than(series, *seconds),
            None => (
                Measured::Absent("Prometheus gave no vector".to_owned()),
                None,
            ),
        },
        Query::Custom(_) => {
            let measured = match (data.as_vector().map(Vec::as_slice), data.as_scalar()) {
                (Some([one]), _) => Measured::Number(one.sample().value()),
                (Some([]), _) => Measured::Absent("the query gave no series".to_owned()),
                (Some(many), _) => Measured::Absent(format!(
                    "the query gave {} series; it has to give exactly one",
                    many.len()
                )),
                (None, Some(scalar)) => Measured::Number(scalar.value()),
                (None, None) => {
                    Measured::Absent("the query gave neither a number nor a vector".to_owned())
                }
            };
            (measured, None)
        }
    }
}

fn away(error: &prometheus_http_query::Error) -> String {
    let mut text = format!("Prometheus did not answer: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

const NO_SAMPLES: &str = "Prometheus has no samples of the canary in this window: either no request reached it, or \
    analysis.interval is shorter than two scrapes, or the sidecars are not scraped";

/// First attempts by class; what the client gave up itself says nothing about the canary.
fn successes(series: &[InstantVector]) -> (Measured, Option<u64>) {
    if series.is_empty() {
        return (Measured::Absent(NO_SAMPLES.to_owned()), None);
    }
    let mut classes: HashMap<&str, f64> = HashMap::new();
    for one in series {
        if let Some(class) = one.metric().get(label::CLASS) {
            *classes.entry(class).or_default() += one.sample().value();
        }
    }
    let count = |class: &str| classes.get(class).copied().unwrap_or(0.0);
    let good = count(class::SUCCESS);
    let total = good + count(class::FAILURE) + count(class::UNSENT);
    (Measured::Share { good, total }, Some(whole(total)))
}

/// The share of requests that took at most `seconds`: linear inside a bucket, as `histogram_quantile` reads it.
fn faster_than(series: &[InstantVector], seconds: f64) -> (Measured, Option<u64>) {
    let mut buckets: Vec<(f64, f64)> = series
        .iter()
        .filter_map(|one| {
            let le = one.metric().get(label::LE)?;
            let le = if le == "+Inf" {
                f64::INFINITY
            } else {
                le.parse().ok()?
            };
            Some((le, one.sample().value()))
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(last, total)) = buckets.last() else {
        return (Measured::Absent(NO_SAMPLES.to_owned()), None);
    };
    if last.is_finite() {
        return (
            Measured::Absent("the histogram has no +Inf bucket".to_owned()),
            None,
        );
    }
    let mut below = (0.0, 0.0);
    let mut good = total;
    for (le, count) in buckets {
        if le >= seconds {
            let width = le - below.0;
            good = if width.is_finite() && width > 0.0 {
                below.1 + (count - below.1) * (seconds - below.0) / width
            } else {
                below.1
            };
            break;
        }
        below = (le, count);
    }
    (Measured::Share { good, total }, Some(whole(total)))
}

/// Prometheus extrapolates, so counts have fractions.
fn whole(count: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped; saturates
    let whole = count.max(0.0).round() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(label: &str, values: &[(&str, f64)]) -> Vec<InstantVector> {
        let one = |(name, value): &(&str, f64)| {
            serde_json::from_value(
                serde_json::json!({"metric": {label: name}, "value": [0, value.to_string()]}),
            )
            .unwrap()
        };
        values.iter().map(one).collect()
    }

    #[test]
    fn what_clients_gave_up_is_no_evidence() {
        let got = successes(&series(
            "class",
            &[
                ("success", 95.0),
                ("failure", 4.0),
                ("unsent", 1.0),
                ("client_closed", 50.0),
            ],
        ));
        assert_eq!(
            got,
            (
                Measured::Share {
                    good: 95.0,
                    total: 100.0
                },
                Some(100)
            )
        );
    }

    #[test]
    fn no_series_is_absent_and_says_what_may_be_wrong() {
        let (Measured::Absent(why), None) = successes(&[]) else {
            panic!("a measurement out of nothing")
        };
        assert!(why.contains("analysis.interval"), "{why}");
        assert!(matches!(faster_than(&[], 0.5), (Measured::Absent(_), None)));
    }

    #[test]
    fn latency_is_interpolated_inside_its_bucket() {
        let buckets = [
            ("0.1", 50.0),
            ("0.2", 90.0),
            ("0.4", 100.0),
            ("+Inf", 100.0),
        ];
        let share = |seconds| match faster_than(&series("le", &buckets), seconds).0 {
            Measured::Share { good, total } => good / total,
            other => panic!("{other:?}"),
        };
        assert!((share(0.1) - 0.50).abs() < 1e-9);
        assert!((share(0.15) - 0.70).abs() < 1e-9);
        assert!((share(0.2) - 0.90).abs() < 1e-9);
        assert!((share(0.3) - 0.95).abs() < 1e-9);
        assert!(
            (share(1.0) - 1.0).abs() < 1e-9,
            "all finite buckets are below: only +Inf is left, and it is empty"
        );
    }

    #[test]
    fn requests_beyond_the_last_bucket_are_too_slow() {
        let slow = series("le", &[("0.1", 0.0), ("+Inf", 10.0)]);
        assert_eq!(
            faster_than(&slow, 0.5).0,
            Measured::Share {
                good: 0.0,
                total: 10.0
            }
        );
    }
}
