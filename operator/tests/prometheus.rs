//! Against a real Prometheus, which has the series that each mesh exposes.
//!
//! The series are written into its storage, around the present: nothing is scraped, and nothing is waited for.

// `allow-unwrap-in-tests` does not reach the helpers of an integration test.
#![allow(clippy::unwrap_used)]

#[path = "prometheus/access.rs"]
mod access;
#[path = "prometheus/istio_names.rs"]
mod istio_names;
#[path = "prometheus/meshes.rs"]
mod meshes;
#[path = "prometheus/ranges.rs"]
mod ranges;
#[path = "prometheus/secrets.rs"]
mod secrets;
#[path = "prometheus/series.rs"]
mod series;
#[path = "prometheus/server.rs"]
mod server;

use std::time::Duration;

use aviary_crds::prometheus::MetricsSource;
use aviary_operator::rollout::checks::{Check, Query, Scope};
use aviary_operator::rollout::measure::access::{Access, Own};
use aviary_operator::rollout::measure::{Outcome, judge_window};
use rollout_core::judge::Bound;

use secrets::Secrets;

/// Of the release that every test is about.
fn scope(metrics: MetricsSource, namespace: &str) -> Scope {
    Scope {
        namespace: namespace.to_owned(),
        service: "payment".to_owned(),
        ports: Vec::new(),
        deployment: "payment".to_owned(),
        stable: "aaaa".to_owned(),
        canary: "bbbb".to_owned(),
        interval: Duration::from_secs(60),
        metrics,
        job: None,
        beside_stable: false,
        settled: Duration::from_secs(600),
    }
}

fn success_rate() -> Check {
    Check {
        name: "success-rate".to_owned(),
        query: Query::Successes,
        bound: Bound::ShareAtLeast(0.99),
    }
}

fn latency(seconds: f64) -> Check {
    Check {
        name: "latency".to_owned(),
        query: Query::FasterThan {
            seconds,
            quantile: 0.5,
        },
        bound: Bound::ShareAtLeast(0.5),
    }
}

/// The canary by one check, as this Prometheus sees it.
async fn judged(url: &str, scope: &Scope, check: Check) -> Outcome {
    let access = Access::new(Secrets::default().client(), Own::default()).unwrap();
    let prometheus = access.to("shop", Some(url), None).await;
    let mut window = judge_window(prometheus, scope, &[check]).await;
    window.outcomes.remove(0)
}
