//! Health and metrics for the kubelet and Prometheus: `/live`, `/ready` and `/metrics`, plain HTTP. And `/proxies` for people, who
//! come from the pod's own loopback (`kubectl port-forward`, `kubectl aviary proxy status`): any pod reaches this port, and who
//! calls what is nobody else's business.
//!
//! Live means that the process answers at all. Ready means that every part that was named has said so: the caches are
//! filled and the webhooks' listener is open. Until then the webhook Service has no endpoint, and gated changes wait. Of several
//! replicas one decides, and proxies connect to it alone; the others are ready too, and say that they stand by.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rollout_core::time::Time;

use crate::ads::Ads;

const DECIDES: &str = "aviary_operator_decides";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Which parts of the process are ready. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Part>>>,
    decides: Arc<AtomicBool>,
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

    /// This replica is the one that decides, and serves proxies.
    pub fn decides(&self) {
        self.decides.store(true, Ordering::Release);
    }

    /// Registers the gauge that says whether it decides.
    pub fn register(&self, registry: &mut Registry) {
        let decides = Decides(Arc::clone(&self.decides));
        registry.register_collector(Box::new(decides));
    }

    fn set(&self, name: &'static str, part: Part) {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, part);
    }
}

#[derive(Debug)]
struct Decides(Arc<AtomicBool>);

impl Collector for Decides {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = ConstGauge::new(i64::from(self.0.load(Ordering::Acquire)));
        let help = "1 at the replica that decides and serves proxies, 0 at those that stand by";
        let metric = encoder.encode_descriptor(DECIDES, help, None, MetricType::Gauge)?;
        gauge.encode(metric)
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

/// The xDS server, once there is one. Clones are the same.
#[derive(Clone, Default)]
pub struct Server(Arc<OnceLock<Ads>>);

impl Server {
    /// From now on it is asked; a second one never is.
    pub fn is(&self, ads: Ads) {
        let _ = self.0.set(ads);
    }
}

#[derive(Clone)]
struct Admin {
    health: Health,
    metrics: Metrics,
    server: Server,
}

/// The admin endpoints. To be served with [`ConnectInfo`] of the peers' addresses.
pub fn router(health: Health, metrics: Metrics, server: Server) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/proxies", get(proxies))
        .with_state(Admin {
            health,
            metrics,
            server,
        })
}

async fn ready(State(admin): State<Admin>) -> Response {
    let missing = admin.health.missing();
    if missing.is_empty() {
        let decides = admin.health.decides.load(Ordering::Acquire);
        let text = if decides {
            "ready, decides\n"
        } else {
            "ready, stands by\n"
        };
        return text.into_response();
    }
    let text = format!("not ready yet: {}\n", missing.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn proxies(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        let text =
            "only from within the pod: kubectl aviary proxy status, or kubectl port-forward\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    match admin.server.0.get() {
        Some(ads) => Json(ads.proxies(Time(Timestamp::now().as_millisecond()))).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "not ready yet\n").into_response(),
    }
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
    use axum::extract::connect_info::MockConnectInfo;
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
        let router = router(health.clone(), Metrics::default(), Server::default());
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
        let ready = |text: &str| (StatusCode::OK, text.to_owned());
        assert_eq!(fetch(&router, "/ready").await, ready("ready, stands by\n"));
        health.decides();
        assert_eq!(fetch(&router, "/ready").await, ready("ready, decides\n"));
    }

    #[tokio::test]
    async fn whether_a_replica_decides_is_a_metric() {
        let (health, metrics) = (Health::default(), Metrics::default());
        health.register(&mut metrics.lock());
        let router = router(health.clone(), metrics, Server::default());
        let text = fetch(&router, "/metrics").await.1;
        assert!(text.contains("aviary_operator_decides 0\n"), "{text}");
        health.decides();
        let text = fetch(&router, "/metrics").await.1;
        assert!(text.contains("aviary_operator_decides 1\n"), "{text}");
    }

    #[tokio::test]
    async fn a_process_that_is_not_ready_is_live() {
        let health = Health::default();
        let router = router(health.clone(), Metrics::default(), Server::default());
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
        let router = router(Health::default(), metrics, Server::default());
        let (status, text) = fetch(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("aviary_example_total 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[tokio::test]
    async fn who_calls_what_is_told_within_the_pod_alone() {
        let server = Server::default();
        let router = router(Health::default(), Metrics::default(), server.clone());
        let from = |peer: &str| {
            let peer: SocketAddr = peer.parse().unwrap();
            router.clone().layer(MockConnectInfo(peer))
        };
        let (status, _) = fetch(&from("127.0.0.1:1"), "/proxies").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let ads = Ads::new(crate::ads::RevocationKey::new(&[1; 32]));
        ads.stream_of(&crate::key::Key::new("shop", "client"), "uid", true);
        server.is(ads);
        for stranger in ["10.1.0.7:1", "[::ffff:10.1.0.7]:1"] {
            let (status, text) = fetch(&from(stranger), "/proxies").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{stranger}");
            assert!(!text.contains("client"), "{text}");
        }
        for own in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let (status, text) = fetch(&from(own), "/proxies").await;
            assert_eq!(status, StatusCode::OK, "{own}");
            let proxies = r#"[{"namespace":"shop","pod":"client","connected":true,"tls":true,"rollouts":{}}]"#;
            assert_eq!(text, proxies);
        }
    }
}
