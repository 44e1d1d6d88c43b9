//! Health and metrics for the kubelet and Prometheus: `/live`, `/ready` and `/metrics`, plain HTTP.
//!
//! Live means that the process answers at all. Ready means that every part that was named has said so: the caches are
//! filled and the listeners are open. Until then the webhook Service has no endpoint, and gated changes wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Which parts of the process are ready. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Part>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Starting,
    Ready,
}

/// The right to say that one part is ready.
#[derive(Debug)]
pub struct Readiness {
    part: &'static str,
    health: Health,
}

impl Health {
    /// From now on the process is not ready before `part` is.
    pub fn part(&self, part: &'static str) -> Readiness {
        self.set(part, Part::Starting);
        Readiness {
            part,
            health: self.clone(),
        }
    }

    /// The parts that are not ready yet.
    pub fn missing(&self) -> Vec<&'static str> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts
            .iter()
            .filter(|(_, part)| **part == Part::Starting)
            .map(|(name, _)| *name)
            .collect()
    }

    fn set(&self, name: &'static str, part: Part) {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, part);
    }
}

impl Readiness {
    pub fn ready(self) {
        self.health.set(self.part, Part::Ready);
    }
}

/// Where every part registers its metrics. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    pub fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Admin {
    health: Health,
    metrics: Metrics,
}

/// The admin endpoints.
pub fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Admin { health, metrics })
}

async fn ready(State(admin): State<Admin>) -> Response {
    let missing = admin.health.missing();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let text = format!("not ready yet: {}\n", missing.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics_text(State(admin): State<Admin>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &admin.metrics.lock()) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt;

    use super::*;

    async fn fetch(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_process_is_ready_when_every_part_is() {
        let health = Health::default();
        let router = router(health.clone(), Metrics::default());
        let (caches, webhooks) = (health.part("caches"), health.part("webhooks"));
        let (status, text) = fetch(&router, "/ready").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "not ready yet: caches, webhooks\n");
        caches.ready();
        assert_eq!(
            fetch(&router, "/ready").await.1,
            "not ready yet: webhooks\n"
        );
        webhooks.ready();
        assert_eq!(fetch(&router, "/ready").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_process_that_is_not_ready_is_live() {
        let health = Health::default();
        let router = router(health.clone(), Metrics::default());
        let _part = health.part("caches");
        assert_eq!(
            fetch(&router, "/live").await,
            (StatusCode::OK, "live\n".to_owned())
        );
    }

    #[tokio::test]
    async fn metrics_are_open_metrics_text() {
        let metrics = Metrics::default();
        let counter: Counter = Counter::default();
        metrics
            .lock()
            .register("aviary_example", "An example", counter.clone());
        counter.inc();
        let router = router(Health::default(), metrics);
        let (status, text) = fetch(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("aviary_example_total 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
