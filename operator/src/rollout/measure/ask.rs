//! One question to a Prometheus, and its answer: at most a megabyte, within five seconds, and JSON.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use prometheus_http_query::Client;
use prometheus_http_query::error::PrometheusErrorType;
use prometheus_http_query::response::Data;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use rustls::AlertDescription;
use serde::Deserialize;

use crate::http_client::tls_error;
use crate::text::innermost;

/// For the whole answer. A Prometheus that takes longer is away.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A query that gives a number, or a few buckets, needs a few kilobytes.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// One that can be asked, and what it is shown with every question.
pub struct Prometheus {
    pub(super) client: Client,
    pub(super) headers: HeaderMap,
}

/// Why there is no answer. None of these shows what Prometheus has sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("Prometheus did not answer: {}", innermost(.0))]
    Away(#[source] prometheus_http_query::Error),
    #[error(
        "the certificate of Prometheus is not trusted ({0}); put its authority into ca.crt of the Secret that spec.analysis.prometheus.auth.tls names"
    )]
    Untrusted(String),
    #[error(
        "Prometheus does not take the certificate that it was shown, or wants one ({0:?}); put it into the Secret that spec.analysis.prometheus.auth.tls names"
    )]
    Unwelcome(AlertDescription),
    #[error(
        "Prometheus does not let the operator in (HTTP status {}); put what it asks for into a Secret that spec.analysis.prometheus.auth names", .0.as_u16()
    )]
    Login(StatusCode),
    #[error("Prometheus broke off its answer: {}", innermost(.0))]
    BrokenOff(#[source] reqwest::Error),
    #[error("Prometheus did not answer within {}s", .0.as_secs_f64())]
    TooLate(Duration),
    #[error(
        "the answer of Prometheus is larger than 1 MiB; the query has to give one number, not many series"
    )]
    TooLarge,
    #[error("what answers at the address of Prometheus does not speak JSON (HTTP status {}): it may be another server, or one that asks for a login", .0.as_u16())]
    NotJson(StatusCode),
    #[error("the answer of Prometheus is no result of a query (HTTP status {})", .0.as_u16())]
    NoResult(StatusCode),
    #[error(
        "Prometheus refused the query ({0}); run it in the user interface of Prometheus to see why"
    )]
    Refused(PrometheusErrorType),
}

/// The body of every answer of the API.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success {
        data: Data,
    },
    Error {
        #[serde(rename = "errorType")]
        kind: PrometheusErrorType,
    },
}

/// About the present of Prometheus' own clock, by which its samples are stamped: one whose time is off is asked about the same
/// window all the same.
pub(super) async fn ask(
    prometheus: &Prometheus,
    promql: &str,
    patience: Duration,
) -> Result<Data, NoAnswer> {
    let answer = tokio::time::timeout(patience, fetch(prometheus, promql)).await;
    answer.unwrap_or(Err(NoAnswer::TooLate(patience)))
}

async fn fetch(prometheus: &Prometheus, promql: &str) -> Result<Data, NoAnswer> {
    let mut query = prometheus.client.query(promql);
    for (name, value) in &prometheus.headers {
        query = query.header(name, value.clone());
    }
    let response = query.get_raw().await.map_err(away)?;
    let status = response.status();
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return Err(NoAnswer::Login(status));
    }
    if !is_json(&response) {
        return Err(NoAnswer::NotJson(status));
    }
    let body = body(response).await?;
    parse(status, &body)
}

fn is_json(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    let essence = content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Counted as it comes in, and after decompression: a length that is announced can be a lie.
async fn body(mut response: Response) -> Result<Vec<u8>, NoAnswer> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(NoAnswer::BrokenOff)? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(NoAnswer::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn parse(status: StatusCode, body: &[u8]) -> Result<Data, NoAnswer> {
    match serde_json::from_slice(body) {
        Ok(Answer::Success { data }) if status.is_success() => Ok(data),
        Ok(Answer::Error { kind }) => Err(NoAnswer::Refused(kind)),
        // The parser's own words would quote what it could not read.
        Ok(Answer::Success { .. }) | Err(_) => Err(NoAnswer::NoResult(status)),
    }
}

/// What TLS finds wrong can be mended by whoever wrote the rollout.
fn away(error: prometheus_http_query::Error) -> NoAnswer {
    match tls_error(&error) {
        Some(rustls::Error::InvalidCertificate(why)) => NoAnswer::Untrusted(why.to_string()),
        Some(rustls::Error::AlertReceived(alert)) => NoAnswer::Unwelcome(*alert),
        Some(_) | None => NoAnswer::Away(error),
    }
}
