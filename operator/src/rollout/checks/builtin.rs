//! What successRate and latency ask, by whose metrics they read, and what the series of the answer mean. Pure.
//!
//! Counts are asked for, never ratios: a share of few requests has to be told from one of many. One series for each way to
//! end; which of them is a failure is decided here, where no query of a mesh can hide that one of the sums is empty.
//!
//! - **Aviary** and **Envoy** name the revision by themselves: an Envoy that has its clusters from here calls them
//!   `namespace/service/port/revision`.
//! - **Istio** and **Linkerd** know workloads: the canary's is its copy, stable's the Deployment.
//!
//! Aviary's are asked for with their `job`, others' with the one that the spec names, if it names any: nobody else knows under
//! which name they are scraped.

use std::collections::HashMap;

pub(crate) use aviary_crds::prometheus::MetricsSource;
use traffic_core::contract::{class, label, metric};

use super::{Scope, window};
use crate::names::PROMETHEUS_JOB;
use crate::rollout::copy;

/// How the requests of a series ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Good,
    Bad,
    /// The caller went away first: evidence for nothing.
    Left,
}

/// What one source calls things.
struct Names {
    requests: String,
    /// How a request ended. The first is in every series.
    ends: &'static [&'static str],
    /// The buckets of the latency.
    buckets: String,
    /// Which of its latencies have an end that counts.
    answered: &'static str,
}

fn names(source: MetricsSource) -> Names {
    match source {
        MetricsSource::Aviary => Names {
            requests: format!("{}{}", metric::OUTBOUND_FIRST_ATTEMPTS, metric::TOTAL),
            ends: &[label::CLASS],
            buckets: format!("{}{}", metric::OUTBOUND_DURATION, metric::BUCKET),
            answered: "",
        },
        MetricsSource::Istio => Names {
            requests: "istio_requests_total".to_owned(),
            ends: &[
                "response_code",
                "request_protocol",
                "grpc_response_status",
                "response_flags",
            ],
            buckets: "istio_request_duration_milliseconds_bucket".to_owned(),
            answered: r#",response_code!="0""#,
        },
        MetricsSource::Linkerd => Names {
            requests: "response_total".to_owned(),
            ends: &["classification"],
            buckets: "response_latency_ms_bucket".to_owned(),
            answered: "",
        },
        MetricsSource::Envoy => Names {
            requests: "envoy_cluster_upstream_rq_xx".to_owned(),
            ends: &["envoy_response_code_class"],
            buckets: "envoy_cluster_upstream_rq_time_bucket".to_owned(),
            answered: "",
        },
    }
}

/// PromQL for the requests of the window by how they ended.
pub(super) fn successes(scope: &Scope) -> String {
    let Names { requests, ends, .. } = names(scope.metrics);
    let (by, selector, window) = (ends.join(", "), of_revision(scope), window(scope.interval));
    format!("sum by ({by}) (increase({requests}{{{selector}}}[{window}]))")
}

/// PromQL for the requests of the window by latency bucket.
pub(super) fn latencies(scope: &Scope) -> String {
    let Names {
        buckets, answered, ..
    } = names(scope.metrics);
    let (by, selector, window) = (label::LE, of_revision(scope), window(scope.interval));
    format!("sum by ({by}) (increase({buckets}{{{selector}{answered}}}[{window}]))")
}

/// PromQL for how many samples a window of `length` has, of the series with the most, whichever revision it is of: two are
/// what an increase needs.
pub(super) fn samples(scope: &Scope, length: &str) -> String {
    let Names { requests, .. } = names(scope.metrics);
    let selector = of_service(scope);
    format!("max(count_over_time({requests}{{{selector}}}[{length}]))")
}

/// How many seconds the unit of a bucket's bound has.
pub(crate) fn bucket_unit(source: MetricsSource) -> f64 {
    match source {
        MetricsSource::Aviary => 1.0,
        MetricsSource::Istio | MetricsSource::Linkerd | MetricsSource::Envoy => 0.001,
    }
}

/// The labels that tell the series of [`successes`] apart.
pub(crate) fn ends(source: MetricsSource) -> &'static [&'static str] {
    names(source).ends
}

/// How the requests of a series with these labels ended. An error is the label that makes no sense.
pub(crate) fn end(
    source: MetricsSource,
    labels: &HashMap<String, String>,
) -> Result<End, &'static str> {
    let of = |label: &str| labels.get(label).map_or("", String::as_str);
    match source {
        MetricsSource::Aviary => match of(label::CLASS) {
            "" => Err(label::CLASS),
            class::SUCCESS => Ok(End::Good),
            class::FAILURE | class::UNSENT => Ok(End::Bad),
            _ => Ok(End::Left),
        },
        MetricsSource::Istio => istio(
            of("response_code"),
            of("request_protocol"),
            of("grpc_response_status"),
            of("response_flags"),
        ),
        MetricsSource::Linkerd => match of("classification") {
            "success" => Ok(End::Good),
            "failure" => Ok(End::Bad),
            _ => Err("classification"),
        },
        MetricsSource::Envoy => match of("envoy_response_code_class") {
            "1" | "2" | "3" | "4" => Ok(End::Good),
            "5" => Ok(End::Bad),
            _ => Err("envoy_response_code_class"),
        },
    }
}

/// Code 0, and the flag DC with any code, are callers that went away; the flag FI is an answer that somebody asked for, of no revision. A gRPC call that fails has the code 200 and its status
/// as a number; none at all, when it broke off before one came.
fn istio(code: &str, protocol: &str, status: &str, flags: &str) -> Result<End, &'static str> {
    const LABEL: &str = "response_code";
    let code: u16 = code.parse().map_err(|_| LABEL)?;
    if code == 0 || flags.split(',').any(|flag| matches!(flag, "DC" | "FI")) {
        return Ok(End::Left);
    }
    if !(100..=599).contains(&code) {
        return Err(LABEL);
    }
    // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: the server's own, not the caller's.
    let failed = matches!(status, "" | "2" | "4" | "12" | "13" | "14" | "15");
    let bad = match protocol {
        "grpc" => code != 200 || failed,
        _ => code >= 500,
    };
    Ok(if bad { End::Bad } else { End::Good })
}

/// Selects the job of Aviary's sidecars.
pub(super) fn of_sidecars(scope: &Scope) -> String {
    let named = match scope.metrics {
        MetricsSource::Aviary => scope.job.as_deref(),
        MetricsSource::Istio | MetricsSource::Linkerd | MetricsSource::Envoy => None,
    };
    of_job(named.unwrap_or(PROMETHEUS_JOB))
}

/// Selects the job of another mesh, if one is named; with a comma.
fn of_mesh(scope: &Scope) -> String {
    scope
        .job
        .as_deref()
        .map_or_else(String::new, |job| of_job(job) + ",")
}

/// The schema admits nothing that would have to be escaped.
fn of_job(job: &str) -> String {
    let job = job.replace('\\', r"\\").replace('"', r#"\""#);
    format!(r#"job="{job}""#)
}

/// Selects the series of one revision.
fn of_revision(scope: &Scope) -> String {
    let (namespace, revision) = (&scope.namespace, &scope.canary);
    match scope.metrics {
        MetricsSource::Aviary => {
            let service = of_aviarys_service(scope);
            let ports = match scope.ports.as_slice() {
                [] => String::new(),
                ports => format!(r#",{}=~"{}""#, label::DST_PORT, any_of(ports)),
            };
            format!(r#"{service},{}="{revision}"{ports}"#, label::REVISION)
        }
        MetricsSource::Istio => {
            let (job, workload) = (of_mesh(scope), workload(scope));
            format!(
                r#"{job}reporter="source",destination_service_namespace="{namespace}",destination_workload="{workload}""#
            )
        }
        MetricsSource::Linkerd => {
            let (job, workload) = (of_mesh(scope), workload(scope));
            // The kubelet's probes are requests to this proxy, too.
            format!(
                r#"{job}namespace="{namespace}",deployment="{workload}",direction="inbound",route_name!="probe""#
            )
        }
        MetricsSource::Envoy => clusters(scope, revision),
    }
}

/// Selects the series of every revision, to see whether there are any.
fn of_service(scope: &Scope) -> String {
    let (namespace, deployment) = (&scope.namespace, scope.deployment.replace('.', "[.]"));
    let job = of_mesh(scope);
    match scope.metrics {
        MetricsSource::Aviary => of_aviarys_service(scope),
        MetricsSource::Istio => format!(
            r#"{job}reporter="source",destination_service_namespace="{namespace}",destination_workload=~"{deployment}(-canary-.*)?""#
        ),
        MetricsSource::Linkerd => format!(
            r#"{job}namespace="{namespace}",deployment=~"{deployment}(-canary-.*)?",direction="inbound""#
        ),
        MetricsSource::Envoy => clusters(scope, "[^/]+"),
    }
}

fn of_aviarys_service(scope: &Scope) -> String {
    format!(
        r#"{},{}="{}",{}="{}""#,
        of_sidecars(scope),
        label::DST_NAMESPACE,
        scope.namespace,
        label::DST_SERVICE,
        scope.service
    )
}

fn clusters(scope: &Scope, revision: &str) -> String {
    let ports = match scope.ports.as_slice() {
        [] => "[0-9]+".to_owned(),
        ports => format!("({})", any_of(ports)),
    };
    format!(
        r#"{}envoy_cluster_name=~"{}/{}/{ports}/{revision}""#,
        of_mesh(scope),
        scope.namespace,
        scope.service
    )
}

fn any_of(ports: &[i32]) -> String {
    let ports: Vec<String> = ports.iter().map(i32::to_string).collect();
    ports.join("|")
}

/// The Deployment whose pods are of the revision that is asked about.
fn workload(scope: &Scope) -> String {
    if scope.canary == scope.stable {
        scope.deployment.clone()
    } else {
        copy::name(&scope.deployment, &scope.canary)
    }
}

#[cfg(test)]
mod tests;
