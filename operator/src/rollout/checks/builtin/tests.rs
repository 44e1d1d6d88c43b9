use std::time::Duration;

use super::*;
use crate::rollout::checks::Query;

fn scope(metrics: MetricsSource) -> Scope {
    Scope {
        namespace: "shop".into(),
        service: "payment".into(),
        ports: vec![],
        deployment: "payment".into(),
        stable: "aaaa".into(),
        canary: "bbbb".into(),
        interval: Duration::from_secs(60),
        metrics,
        job: None,
        beside_stable: true,
        settled: Duration::from_secs(600),
    }
}

#[test]
fn each_source_is_asked_in_its_own_words() {
    for (metrics, requests, latencies) in [
        (
            MetricsSource::Aviary,
            r#"sum by (class) (increase(aviary_outbound_first_attempts_total{job="aviary-proxy",dst_namespace="shop",dst_service="payment",revision="bbbb"}[60000ms]))"#,
            r#"sum by (le) (increase(aviary_outbound_duration_seconds_bucket{job="aviary-proxy",dst_namespace="shop",dst_service="payment",revision="bbbb"}[60000ms]))"#,
        ),
        (
            MetricsSource::Istio,
            r#"sum by (response_code, request_protocol, grpc_response_status, response_flags) (increase(istio_requests_total{reporter="source",destination_service_namespace="shop",destination_workload="payment-canary-bbbb"}[60000ms]))"#,
            r#"sum by (le) (increase(istio_request_duration_milliseconds_bucket{reporter="source",destination_service_namespace="shop",destination_workload="payment-canary-bbbb",response_code!="0"}[60000ms]))"#,
        ),
        (
            MetricsSource::Linkerd,
            r#"sum by (classification) (increase(response_total{namespace="shop",deployment="payment-canary-bbbb",direction="inbound",route_name!="probe"}[60000ms]))"#,
            r#"sum by (le) (increase(response_latency_ms_bucket{namespace="shop",deployment="payment-canary-bbbb",direction="inbound",route_name!="probe"}[60000ms]))"#,
        ),
        (
            MetricsSource::Envoy,
            r#"sum by (envoy_response_code_class) (increase(envoy_cluster_upstream_rq_xx{envoy_cluster_name=~"shop/payment/[0-9]+/bbbb"}[60000ms]))"#,
            r#"sum by (le) (increase(envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=~"shop/payment/[0-9]+/bbbb"}[60000ms]))"#,
        ),
    ] {
        let scope = scope(metrics);
        assert_eq!(successes(&scope), requests);
        assert_eq!(super::latencies(&scope), latencies);
        for text in [requests, latencies, &samples(&scope, "60000ms")] {
            assert!(promql_parser::parser::parse(text).is_ok(), "{text}");
        }
    }
}

#[test]
fn only_the_job_that_is_named_is_believed() {
    for metrics in [
        MetricsSource::Aviary,
        MetricsSource::Istio,
        MetricsSource::Linkerd,
        MetricsSource::Envoy,
    ] {
        let named = Scope {
            job: Some("mesh/proxies".into()),
            ..scope(metrics)
        };
        for text in [
            successes(&named),
            latencies(&named),
            samples(&named, "60000ms"),
        ] {
            assert!(text.contains(r#"{job="mesh/proxies","#), "{text}");
            assert_eq!(text.matches("job=").count(), 1, "{text}");
            assert!(promql_parser::parser::parse(&text).is_ok(), "{text}");
        }
        let of_stable = named.of_stable(&Query::Successes).unwrap();
        assert!(successes(&of_stable).contains(r#"job="mesh/proxies""#));
        // Callers from outside are counted by Aviary's own sidecars, whoever else is asked about the rest.
        let own = if metrics == MetricsSource::Aviary {
            r#"{job="mesh/proxies","#
        } else {
            r#"{job="aviary-proxy","#
        };
        let outside = named.outside().unwrap();
        assert!(outside.contains(own), "{outside}");
    }
    let odd = Scope {
        job: Some(r#"a"} or vector(1) #\"#.into()),
        ..scope(MetricsSource::Istio)
    };
    let text = successes(&odd);
    assert!(promql_parser::parser::parse(&text).is_ok(), "{text}");
}

#[test]
fn the_same_about_stable_is_about_the_deployment_itself() {
    for (metrics, part) in [
        (MetricsSource::Aviary, r#"revision="aaaa""#),
        (MetricsSource::Istio, r#"destination_workload="payment""#),
        (MetricsSource::Linkerd, r#"deployment="payment""#),
        (MetricsSource::Envoy, "shop/payment/[0-9]+/aaaa"),
    ] {
        let stable = scope(metrics).of_stable(&Query::Successes).unwrap();
        let asked = successes(&stable);
        assert!(asked.contains(part), "{asked}");
    }
}

#[test]
fn ports_are_chosen_where_the_metrics_have_them() {
    let ports = |metrics| Scope {
        ports: vec![80, 8080],
        ..scope(metrics)
    };
    let of_aviary = successes(&ports(MetricsSource::Aviary));
    assert!(of_aviary.contains(r#"dst_port=~"80|8080""#), "{of_aviary}");
    let of_envoy = successes(&ports(MetricsSource::Envoy));
    assert!(
        of_envoy.contains(r#""shop/payment/(80|8080)/bbbb""#),
        "{of_envoy}"
    );
}

fn labelled(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn istio_counts_a_failed_call_of_grpc_as_an_answer_with_200() {
    let end = |code, protocol, status, flags| {
        let labels = [
            ("response_code", code),
            ("request_protocol", protocol),
            ("grpc_response_status", status),
            ("response_flags", flags),
        ];
        end(MetricsSource::Istio, &labelled(&labels))
    };
    for (code, protocol, status, flags, expected) in [
        ("200", "http", "", "-", End::Good),
        ("404", "http", "", "-", End::Good),
        ("500", "http", "", "-", End::Bad),
        ("503", "http", "", "UF,URX", End::Bad),
        ("0", "http", "", "-", End::Left),
        ("0", "http", "", "DC", End::Left),
        ("200", "http", "", "DC", End::Left),
        ("503", "http", "", "FI", End::Left),
        ("404", "http", "", "DI,FI", End::Left),
        ("503", "http", "", "DI", End::Bad),
        ("200", "grpc", "0", "-", End::Good),
        // NOT_FOUND and CANCELLED are the caller's own.
        ("200", "grpc", "5", "-", End::Good),
        ("200", "grpc", "1", "-", End::Good),
        ("200", "grpc", "14", "-", End::Bad),
        ("200", "grpc", "2", "-", End::Bad),
        ("200", "grpc", "", "-", End::Bad),
        ("503", "grpc", "14", "UH", End::Bad),
        ("404", "grpc", "12", "-", End::Bad),
        ("0", "grpc", "", "DC", End::Left),
    ] {
        let said = end(code, protocol, status, flags);
        assert_eq!(said, Ok(expected), "{code} {protocol} {status} {flags}");
    }
    for code in ["", "99", "600", "-1", "ok"] {
        assert_eq!(end(code, "http", "", "-"), Err("response_code"), "{code}");
    }
}

#[test]
fn linkerd_and_envoy_have_classes_of_their_own() {
    let linkerd = |class| {
        end(
            MetricsSource::Linkerd,
            &labelled(&[("classification", class)]),
        )
    };
    assert_eq!(linkerd("success"), Ok(End::Good));
    assert_eq!(linkerd("failure"), Ok(End::Bad));
    assert_eq!(linkerd(""), Err("classification"));
    let envoy = |class| {
        let labels = [("envoy_response_code_class", class)];
        end(MetricsSource::Envoy, &labelled(&labels))
    };
    for class in ["1", "2", "3", "4"] {
        assert_eq!(envoy(class), Ok(End::Good));
    }
    assert_eq!(envoy("5"), Ok(End::Bad));
    assert_eq!(envoy("6"), Err("envoy_response_code_class"));
}
