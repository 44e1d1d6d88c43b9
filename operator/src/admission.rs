//! What the operator says when the API server asks: five webhooks over one listener.
//!
//! - `/inject` gives pods their sidecar ([`inject`]).
//! - `/gate` keeps a changed template of an adopted Deployment from rolling out by itself ([`gate`]).
//! - `/request` says who asks something of a CanaryRollout ([`request`]).
//! - `/validate` checks a CanaryRollout against the objects that it names ([`rollout`]).
//! - `/services` checks what a Service's annotations say of calls to it ([`services`]).
//!
//! Each is a pure decision behind a thin handler. None writes anything: a dry run gets the same answer.

pub mod gate;
pub mod inject;
mod reading;
mod request;
pub mod review;
pub mod rollout;
mod services;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::post;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use gate::Rollouts;
use inject::Injector;
use reading::Reading;
use review::Answer;
use rollout::Lookup;

/// An AdmissionReview carries two versions of an object, each up to the 1.5 MiB that etcd takes, as JSON. 7 MiB is what the
/// API server itself takes at most of one.
const LARGEST_REVIEW: usize = 7 * 1024 * 1024;

/// What the webhooks work with.
#[derive(Clone)]
pub struct Admission {
    pub injector: Arc<Injector>,
    pub rollouts: Arc<dyn Rollouts>,
    pub lookup: Arc<dyn Lookup>,
    pub metrics: Metrics,
}

/// The webhooks' HTTP routes.
pub fn router(admission: Admission) -> Router {
    Router::new()
        .route("/inject", post(inject::handle))
        .route("/gate", post(gate::handle))
        .route("/request", post(request::handle))
        .route("/validate", post(rollout::handle))
        .route("/services", post(services::handle))
        .layer(middleware::from_fn_with_state(
            Reading::new(),
            reading::whole,
        ))
        .layer(DefaultBodyLimit::disable())
        .with_state(admission)
}

/// Answers by webhook and kind.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    answers: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    webhook: &'static str,
    answer: &'static str,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        registry.register(
            "aviary_admission_answers",
            "Answers of the admission webhooks",
            metrics.answers.clone(),
        );
        // Whoever asks for an increase sees the first answer, too.
        for webhook in ["gate", "inject", "request", "validate"] {
            for answer in Answer::KINDS {
                drop(metrics.answers.get_or_create(&Labels { webhook, answer }));
            }
        }
        metrics
    }

    fn count(&self, webhook: &'static str, answer: &Answer) {
        let labels = Labels {
            webhook,
            answer: answer.kind(),
        };
        self.answers.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests;
