//! A sidecar that counts under Istio's names: what people ask of Istio's metrics, a real Prometheus answers from its.

use std::time::{Duration, Instant};

use aviary_crds::prometheus::MetricsSource;
use aviary_proxy::metrics::istio::{Istio, Labels, Measures, Party, Reporter, Service};
use aviary_proxy::metrics::{Metrics, Workload};
use prometheus_http_query::Client;
use rollout_core::judge::Verdict;

use super::series::Samples;
use super::server::Server;
use super::{judged, scope, success_rate};

const CANARY: &str = "payment-canary-bbbb";

/// What the sidecars have that saw, between two scrapes, 17 requests of which 2 failed, 7 whose callers left, and 2 that never got a host.
fn samples() -> String {
    let web = Workload {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
    };
    let istio = std::sync::Arc::new(Istio::of(&web));
    let called = |workload: Option<&str>| Party {
        workload: workload.map(Into::into),
        namespace: workload.map(|_| "shop".into()),
        principal: None,
    };
    let count = |labels: Labels, times| {
        let measures = Measures {
            duration: Duration::from_millis(150),
            received: 10,
            sent: 100,
        };
        for _ in 0..times {
            istio.count(labels.clone(), &measures, Instant::now());
        }
    };
    let to = |workload, code, flags: &'static str| Labels {
        reporter: Reporter::Source,
        source: istio.own(None),
        destination: called(workload),
        service: Some(Service {
            name: "payment".into(),
            namespace: "shop".into(),
        }),
        grpc: None,
        code,
        flags: flags.into(),
    };
    let canary = |code, flags: &'static str| to(Some(CANARY), code, flags);
    let grpc = |status| Labels {
        grpc: Some(Some(status)),
        ..canary(200, "-")
    };
    for (labels, times) in [
        (canary(200, "-"), 9),
        (canary(404, "-"), 1),
        (canary(503, "UF"), 1),
        (canary(0, "DC"), 7),
        (grpc(0), 4),
        (grpc(5), 1),
        (grpc(14), 1),
        (to(None, 503, "UH"), 2),
        (to(Some("payment"), 200, "-"), 1000),
    ] {
        count(labels, times);
    }
    for (code, times) in [(200, 8), (500, 2)] {
        let at_the_called = Labels {
            reporter: Reporter::Destination,
            source: Party::default(),
            service: None,
            ..canary(code, "-")
        };
        count(at_the_called, times);
    }
    let metrics = std::sync::Arc::new(Metrics::of(web).with_istio(Some(istio)));
    let text = metrics.render().unwrap();
    let mut samples = Samples::default();
    for line in text.lines().filter(|line| line.starts_with("istio_")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        // Sums have a point in them, and are not asked for.
        if let Ok(by) = value.parse() {
            samples.counter(series, 5, by);
        }
    }
    samples.0
}

#[tokio::test]
async fn the_queries_that_dashboards_and_flagger_have_for_istio_find_what_they_ask_for() {
    // Refused only if it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = Server::with_samples(&samples());
    let prometheus = Client::try_from(server.url("http").as_str()).unwrap();
    let of = |more: &str| {
        format!(
            r#"istio_requests_total{{reporter="source",destination_service_namespace="shop",destination_workload="{CANARY}"{more}}}[1m]"#
        )
    };
    let ratio = |good: &str, all: &str| format!("sum(rate({good})) / sum(rate({all}))");
    let grpc = r#",request_protocol="grpc""#;
    let flagger = |more: &str| {
        format!(
            r#"istio_requests_total{{reporter="destination",destination_workload_namespace="shop",destination_workload=~"{CANARY}"{more}}}[1m]"#
        )
    };
    let flags = |flag: &str| {
        format!(
            r#"sum(rate(istio_requests_total{{reporter="source",destination_service="payment.shop.svc.cluster.local",response_flags="{flag}"}}[1m]))"#
        )
    };
    for (query, expected) in [
        // HTTP, as callers see it.
        (
            ratio(
                &of(r#",response_code!~"5..|0""#),
                &of(r#",response_code!="0""#),
            ),
            16.0 / 17.0,
        ),
        // gRPC: its code is 200 and its status a number.
        (
            ratio(
                &of(&format!(
                    r#"{grpc},grpc_response_status!~"2|4|12|13|14|15|",response_code="200""#
                )),
                &of(grpc),
            ),
            5.0 / 6.0,
        ),
        (flags("UF"), 0.2),
        (flags("UH"), 0.4),
        // All are in one bucket, from 100 to 250 ms.
        (
            format!(
                r#"histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{{reporter="source",destination_workload="{CANARY}",destination_service_namespace="shop"}}[1m])))"#
            ),
            248.5,
        ),
        (
            ratio(&flagger(r#",response_code!~"5.*""#), &flagger("")),
            0.8,
        ),
    ] {
        let answer = prometheus.query(&query).get().await.unwrap();
        let vector = answer.data().as_vector().unwrap();
        let [one] = &vector[..] else {
            panic!("{query}: {vector:?}");
        };
        let value = one.sample().value();
        assert!((value - expected).abs() < 1e-6, "{query}: {value}");
    }
    // And a release that is judged by Istio's metrics is judged as by its own.
    let outcome = judged(
        &server.url("http"),
        &scope(MetricsSource::Istio, "shop"),
        success_rate(),
    )
    .await;
    assert_eq!(
        (outcome.verdict, outcome.reason.as_str()),
        (
            Verdict::Fail,
            "88.24% of 204 requests, at least 99% asked for"
        )
    );
}
