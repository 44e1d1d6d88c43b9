//! One question to a Prometheus, and its answer: at most a megabyte, within five seconds, and JSON.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use prometheus_http_query::Client;
use prometheus_http_query::error::PrometheusErrorType;
use prometheus_http_query::response::Data;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;

/// For the whole answer. A Prometheus that takes longer is away.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A query that gives a number, or a few buckets, needs a few kilobytes.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// Why there is no answer. None of these shows what Prometheus has sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("Prometheus did not answer: {}", innermost(.0))]
    Away(#[source] prometheus_http_query::Error),
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

pub(super) async fn ask(
    client: &Client,
    promql: &str,
    patience: Duration,
) -> Result<Data, NoAnswer> {
    let answer = tokio::time::timeout(patience, fetch(client, promql)).await;
    answer.unwrap_or(Err(NoAnswer::TooLate(patience)))
}

async fn fetch(client: &Client, promql: &str) -> Result<Data, NoAnswer> {
    let head = client.query(promql).get_raw().await;
    let response = head.map_err(NoAnswer::Away)?;
    let status = response.status();
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

/// The cause of all: what the layers above say is the address and the query, which the user knows.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
