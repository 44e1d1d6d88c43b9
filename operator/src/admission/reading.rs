//! Bodies are read and parsed within a budget of memory that all requests share. JSON grows when it is parsed: an element of a
//! list is two bytes on the wire and 32 in memory, an object eight and seven hundred. What a body will take is counted before
//! it is parsed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::LARGEST_REVIEW;

/// Bytes that all reviews together may take at once.
const BUDGET: usize = 256 << 20;
/// Of one review: two versions of an object of 1.5 MiB that is made of nothing but small objects.
const LARGEST_WEIGHT: usize = 192 << 20;
/// The unit in which the budget is counted.
const UNIT: usize = 1 << 10;
/// For a body to come, and for its turn. The API server waits five seconds in all.
const DEADLINE: Duration = Duration::from_secs(2);
/// What an object takes: a leaf of a map, with places for eleven fields.
const OBJECT: usize = 700;
/// What anything else takes.
const VALUE: usize = 32;

/// The budget. Clones are the same.
#[derive(Clone)]
pub(super) struct Reading(Arc<Semaphore>);

impl Reading {
    pub(super) fn new() -> Reading {
        Reading(Arc::new(Semaphore::new(BUDGET / UNIT)))
    }

    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).map_err(|_| Refusal::TooLarge)?;
        let permits = Arc::clone(&self.0).acquire_many_owned(units).await;
        permits.map_err(|_| Refusal::Busy)
    }

    /// The body, and what it and its values may take.
    async fn read(&self, mut body: Body) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
        let mut held = self.reserve(UNIT).await?;
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::BrokenOff)?.into_data() else {
                continue;
            };
            if whole.len() + data.len() > LARGEST_REVIEW {
                return Err(Refusal::TooLarge);
            }
            held.merge(self.reserve(data.len()).await?);
            whole.extend_from_slice(&data);
        }
        let weight = weight(&whole);
        if weight > LARGEST_WEIGHT {
            return Err(Refusal::TooLarge);
        }
        held.merge(self.reserve(weight).await?);
        Ok((whole.freeze(), held))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    TooLarge,
    TooSlow,
    BrokenOff,
    Busy,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Refusal::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "a review has at most 7 MiB of JSON, and takes at most 192 MiB of memory",
            ),
            Refusal::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "the review was not read within 2s",
            ),
            Refusal::BrokenOff => (StatusCode::BAD_REQUEST, "the review broke off"),
            Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "the operator is ending"),
        };
        (status, text).into_response()
    }
}

/// Hands on requests whose body is there, as long as the budget has room for it.
pub(super) async fn whole(
    State(reading): State<Reading>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    let read = tokio::time::timeout(DEADLINE, reading.read(body)).await;
    match read.unwrap_or(Err(Refusal::TooSlow)) {
        Ok((body, _held)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Bytes that the values of a JSON text take in memory, at most and roughly. Text inside strings counts as itself.
fn weight(json: &[u8]) -> usize {
    let (mut weight, mut in_string, mut escaped) = (json.len(), false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => weight += OBJECT,
            b'[' | b',' | b':' if !in_string => weight += VALUE,
            _ => {}
        }
    }
    weight
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    async fn read(body: Vec<u8>) -> Result<Bytes, Refusal> {
        let (body, _held) = Reading::new().read(Body::from(body)).await?;
        Ok(body)
    }

    #[tokio::test]
    async fn a_body_that_grows_beyond_its_share_is_refused_before_it_is_parsed() {
        let many =
            |element: &str| format!("[{}0]", element.repeat(6 << 20 >> element.len().ilog2()));
        assert_eq!(
            read(vec![b'1'; LARGEST_REVIEW + 1]).await,
            Err(Refusal::TooLarge)
        );
        assert_eq!(
            read(many(r#"{"a":0},"#).into_bytes()).await,
            Err(Refusal::TooLarge)
        );
        let strings = format!(r#"["{}"]"#, "{,[".repeat(1 << 20));
        assert_eq!(read(strings.clone().into_bytes()).await.unwrap(), strings);
        // Two versions of 1.5 MiB, of ten thousands of environment variables.
        let two = many(r#"{"name":"VARIABLE","value":"some"},"#);
        assert!(two.len() > 3 << 20, "{}", two.len());
        assert!(read(two.into_bytes()).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_gives_its_memory_back() {
        let reading = Reading::new();
        let silent = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert!(reading.read(silent).now_or_never().is_none());
        assert_eq!(reading.0.available_permits(), BUDGET / UNIT);
    }

    #[tokio::test]
    async fn all_together_stay_within_the_budget() {
        let reading = Reading::new();
        let large = || Body::from(format!("[{}0]", "0,".repeat(3 << 20)));
        let one = reading.read(large()).await.unwrap();
        let two = reading.read(large()).await.unwrap();
        let third = reading.read(large()).now_or_never();
        assert!(third.is_none(), "it waits for its turn");
        drop((one, two));
        assert!(reading.read(large()).await.is_ok());
    }
}
