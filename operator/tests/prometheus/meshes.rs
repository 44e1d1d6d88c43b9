//! The series that each mesh exposes, and the numbers that come of them.

use aviary_crds::prometheus::MetricsSource;
use aviary_operator::rollout::checks::Scope;
use rollout_core::judge::Verdict;

use super::series::Samples;
use super::server::Server;
use super::{judged, latency, scope, success_rate};

/// In each: 12 scrapes a window; of the canary's requests 180 succeed, 24 fail, and the callers of some have left.
fn of_each_mesh() -> String {
    let mut samples = Samples::default();
    aviary(&mut samples);
    istio(&mut samples);
    linkerd(&mut samples);
    envoy(&mut samples);
    samples.0
}

/// The same name under another job is somebody else's.
fn aviary(samples: &mut Samples) {
    let mut of = |job: &str, class: &str, by| {
        let labels = r#"dst_namespace="shop",dst_service="payment",revision="bbbb",dst_port="80""#;
        let series = format!(
            r#"aviary_outbound_first_attempts_total{{job="{job}",{labels},class="{class}"}}"#
        );
        samples.counter(&series, 5, by);
    };
    of("aviary-proxy", "success", 15);
    of("aviary-proxy", "failure", 1);
    of("aviary-proxy", "unsent", 1);
    of("aviary-proxy", "client_closed", 7);
    of("somebody", "success", 1000);
    let mut bucket = |le: &str, by| {
        let labels = r#"dst_namespace="shop",dst_service="payment",revision="bbbb""#;
        let series = format!(
            r#"aviary_outbound_duration_seconds_bucket{{job="aviary-proxy",{labels},le="{le}"}}"#
        );
        samples.counter(&series, 5, by);
    };
    bucket("0.1", 6);
    bucket("0.25", 12);
    bucket("+Inf", 17);
}

/// Two callers, both reporters; gRPC that fails with the code 200; a caller that left; and what never got a host.
fn istio(samples: &mut Samples) {
    let of = |workload: &str, reporter: &str, more: &str| {
        format!(
            r#"reporter="{reporter}",source_workload="web",destination_workload="{workload}",destination_workload_namespace="shop",destination_service_namespace="shop",destination_service="payment.shop.svc.cluster.local",{more}"#
        )
    };
    let canary = |more: &str| of("payment-canary-bbbb", "source", more);
    let http = |code: &str, flags: &str| {
        format!(
            r#"request_protocol="http",response_code="{code}",grpc_response_status="",response_flags="{flags}""#
        )
    };
    let grpc = |status: &str, flags: &str| {
        format!(
            r#"request_protocol="grpc",response_code="200",grpc_response_status="{status}",response_flags="{flags}""#
        )
    };
    let mut count = |labels: String, by| {
        samples.counter(&format!("istio_requests_total{{{labels}}}"), 5, by);
    };
    count(canary(&http("200", "-")), 9);
    count(canary(&http("404", "-")), 1);
    count(canary(&http("503", "UF")), 1);
    count(canary(&http("0", "DC")), 7);
    count(canary(&grpc("0", "-")), 4);
    count(canary(&grpc("5", "-")), 1);
    count(canary(&grpc("14", "-")), 1);
    // Not the canary's, or counted twice.
    count(
        of("payment-canary-bbbb", "destination", &http("200", "-")),
        1000,
    );
    count(of("payment", "source", &http("200", "-")), 1000);
    count(of("unknown", "source", &http("503", "UH")), 1000);
    for (le, by) in [("100", 6), ("250", 12), ("+Inf", 17)] {
        let labels = canary(&http("200", "-"));
        let series = format!(r#"istio_request_duration_milliseconds_bucket{{{labels},le="{le}"}}"#);
        samples.counter(&series, 5, by);
    }
    let left = canary(&http("0", "DC"));
    let series = format!(r#"istio_request_duration_milliseconds_bucket{{{left},le="+Inf"}}"#);
    samples.counter(&series, 5, 1000);
}

fn linkerd(samples: &mut Samples) {
    let of = |deployment: &str, more: &str| {
        format!(r#"namespace="shop",deployment="{deployment}",{more}"#)
    };
    let canary = |more: &str| of("payment-canary-bbbb", more);
    let mut count = |labels: String, by| {
        samples.counter(&format!("response_total{{{labels}}}"), 5, by);
    };
    let inbound = |class: &str, status: &str| {
        format!(
            r#"direction="inbound",classification="{class}",status_code="{status}",route_name="default""#
        )
    };
    count(canary(&inbound("success", "200")), 14);
    count(canary(&inbound("success", "404")), 1);
    count(canary(&inbound("failure", "500")), 1);
    // A call of gRPC that failed.
    count(canary(&inbound("failure", "200")), 1);
    // The kubelet's probes, what the canary calls itself, and stable.
    let probe =
        r#"direction="inbound",classification="success",status_code="200",route_name="probe""#;
    count(canary(probe), 1000);
    let outbound = r#"direction="outbound",classification="success",status_code="200""#;
    count(canary(outbound), 1000);
    count(of("payment", &inbound("success", "200")), 1000);
    for (le, by) in [("100", 6), ("250", 12), ("+Inf", 17)] {
        let labels = canary(r#"direction="inbound",status_code="200",route_name="default""#);
        let series = format!(r#"response_latency_ms_bucket{{{labels},le="{le}"}}"#);
        samples.counter(&series, 5, by);
    }
}

/// Two Envoys; the clusters are called as Aviary calls them.
fn envoy(samples: &mut Samples) {
    let mut count = |pod: &str, cluster: &str, class: &str, by| {
        let labels = format!(
            r#"pod="{pod}",envoy_cluster_name="{cluster}",envoy_response_code_class="{class}""#
        );
        samples.counter(&format!("envoy_cluster_upstream_rq_xx{{{labels}}}"), 5, by);
    };
    count("one", "shop/payment/80/bbbb", "2", 9);
    count("two", "shop/payment/80/bbbb", "2", 5);
    count("one", "shop/payment/8080/bbbb", "4", 1);
    count("two", "shop/payment/80/bbbb", "5", 2);
    count("one", "shop/payment/80/aaaa", "2", 1000);
    count("one", "other-shop/payment/80/bbbb", "2", 1000);
    count("one", "shop/payment-2/80/bbbb", "2", 1000);
    for (le, by) in [("100", 6), ("250", 12), ("+Inf", 17)] {
        let labels = format!(r#"envoy_cluster_name="shop/payment/80/bbbb",le="{le}""#);
        let series = format!("envoy_cluster_upstream_rq_time_bucket{{{labels}}}");
        samples.counter(&series, 5, by);
    }
}

#[tokio::test]
async fn what_each_mesh_counts_comes_to_the_same_numbers() {
    let server = Server::with_samples(&of_each_mesh());
    let url = server.url("http");
    for source in [
        MetricsSource::Aviary,
        MetricsSource::Istio,
        MetricsSource::Linkerd,
        MetricsSource::Envoy,
    ] {
        let scope = scope(source, "shop");
        let requests = judged(&url, &scope, success_rate()).await;
        assert_eq!(
            (
                requests.verdict,
                requests.requests,
                requests.reason.as_str()
            ),
            (
                Verdict::Fail,
                Some(204),
                "88.24% of 204 requests, at least 99% asked for"
            ),
            "{source:?}"
        );
        for (seconds, verdict, words) in [
            (0.1, Verdict::Fail, "within 100ms: 35.29% of 204 requests"),
            (0.25, Verdict::Pass, "within 250ms: 70.59% of 204 requests"),
            // Half of what is between the two buckets.
            (0.175, Verdict::Pass, "within 175ms: 52.94% of 204 requests"),
        ] {
            let times = judged(&url, &scope, latency(seconds)).await;
            let told = times.reason.starts_with(words);
            assert!(told && times.verdict == verdict, "{source:?}: {times:?}");
        }
    }
}

/// A subset of Istio without pods has no workload: whoever asks for the workload sees nothing, and nothing is no evidence.
#[tokio::test]
async fn requests_that_never_got_a_host_are_no_evidence() {
    let mut samples = Samples::default();
    let labels = r#"reporter="source",destination_service_namespace="shop",request_protocol="http",grpc_response_status="""#;
    let unknown = format!(
        r#"istio_requests_total{{{labels},destination_workload="unknown",response_code="503",response_flags="UH"}}"#
    );
    let stable = format!(
        r#"istio_requests_total{{{labels},destination_workload="payment",response_code="200",response_flags="-"}}"#
    );
    samples.counter(&unknown, 5, 10);
    samples.counter(&stable, 5, 10);
    let server = Server::with_samples(&samples.0);
    let scope = scope(MetricsSource::Istio, "shop");
    let outcome = judged(&server.url("http"), &scope, success_rate()).await;
    assert_eq!(outcome.verdict, Verdict::NoEvidence);
    assert_eq!(outcome.reason, "no request to the canary is in this window");
}

/// Whoever exports the same series is scraped by another job, and Prometheus says so: what it cannot set, it cannot forge.
#[tokio::test]
async fn a_rogue_exporter_changes_no_verdict_where_the_job_is_named() {
    let mut samples = Samples::default();
    // What Prometheus writes into every series of a job.
    let of_mesh = of_each_mesh();
    for line in of_mesh.lines().filter(|line| !line.starts_with("aviary")) {
        samples.0 += &line.replacen('{', r#"{job="mesh/proxies","#, 1);
        samples.0 += "\n";
    }
    let workload =
        r#"destination_workload="payment-canary-bbbb",destination_service_namespace="shop""#;
    for labels in [
        format!(
            r#"istio_requests_total{{job="rogue",reporter="source",{workload},request_protocol="http",response_code="200",grpc_response_status="",response_flags="-"}}"#
        ),
        r#"response_total{job="rogue",namespace="shop",deployment="payment-canary-bbbb",direction="inbound",classification="success"}"#.to_owned(),
        r#"envoy_cluster_upstream_rq_xx{job="rogue",envoy_cluster_name="shop/payment/80/bbbb",envoy_response_code_class="2"}"#.to_owned(),
    ] {
        samples.counter(&labels, 5, 1000);
    }
    let server = Server::with_samples(&samples.0);
    let url = server.url("http");
    for source in [
        MetricsSource::Istio,
        MetricsSource::Linkerd,
        MetricsSource::Envoy,
    ] {
        let anybody = scope(source, "shop");
        let hidden = judged(&url, &anybody, success_rate()).await;
        assert_eq!(hidden.verdict, Verdict::Pass, "{source:?}: {hidden:?}");
        let named = Scope {
            job: Some("mesh/proxies".to_owned()),
            ..anybody
        };
        let seen = judged(&url, &named, success_rate()).await;
        assert_eq!(
            (seen.verdict, seen.requests),
            (Verdict::Fail, Some(204)),
            "{source:?}: {seen:?}"
        );
        let wrong = Scope {
            job: Some("mesh".to_owned()),
            ..named
        };
        let nothing = judged(&url, &wrong, success_rate()).await;
        assert_eq!(nothing.verdict, Verdict::NoEvidence, "{source:?}");
        let says = "under job mesh";
        assert!(nothing.reason.contains(says), "{}", nothing.reason);
    }
}
