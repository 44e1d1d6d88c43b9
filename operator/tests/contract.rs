//! What the operator asks Prometheus for is what the sidecar exports: names, labels and classes, from both ends of the contract.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "contract/exposed.rs"]
mod exposed;
#[path = "contract/metrics.rs"]
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use aviary_crds::prometheus::MetricsSource;
use aviary_operator::admission::inject::{Injection, Injector};
use aviary_operator::names;
use aviary_operator::options::PullPolicy;
use aviary_operator::rollout::checks::{Query, Scope};
use aviary_proxy::cli::Cli;
use aviary_proxy::init::Redirect;
use aviary_proxy::metrics::{Metrics, Workload};
use clap::{CommandFactory, Parser};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use serde_json::{Value, json};
use traffic_core::bounds::Bounds;
use traffic_core::config::{Arm, Protocol, Route, Split};
use traffic_core::contract::{class, label, peer};
use traffic_core::telemetry;

const REVISION: &str = "v2";

/// The real text of a sidecar's `/metrics` that routes to `shop/web`, beside an application at port 8080.
fn exported(pod: Workload) -> String {
    let metrics = Arc::new(Metrics::of(pod));
    metrics.arm(&route(), REVISION);
    metrics.port(8080);
    metrics.render().unwrap()
}

/// To `shop/web`.
fn route() -> Route {
    let arm = Arm {
        cluster: format!("shop/web/80/{REVISION}"),
        revision: REVISION.to_owned(),
    };
    Route {
        name: "shop/web/80".to_owned(),
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: 80,
        protocol: Protocol::Http,
        rollout: "shop/web".to_owned(),
        split: Split {
            stable: arm,
            canary: None,
        },
        bounds: Bounds::default(),
        revoked: Vec::new(),
    }
}

fn pod(workload: &str) -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        name: workload.to_owned(),
    }
}

/// The selector in a query, and the labels that it sums by.
fn taken_apart(query: &Expr) -> (&VectorSelector, Vec<String>) {
    match query {
        Expr::Aggregate(aggregate) => {
            let by = match &aggregate.modifier {
                Some(LabelModifier::Include(labels)) => labels.labels.clone(),
                None => Vec::new(),
                other => panic!("not `by`: {other:?}"),
            };
            (taken_apart(&aggregate.expr).0, by)
        }
        Expr::Binary(scaled) => taken_apart(&scaled.lhs),
        Expr::Call(call) => taken_apart(&call.args.args[0]),
        Expr::MatrixSelector(matrix) => (&matrix.vs, Vec::new()),
        other => panic!("not a query of ours: {other:?}"),
    }
}

/// The value of a label in a line of `/metrics`.
fn value<'a>(line: &'a str, label: &str) -> Option<&'a str> {
    let labels = line.split_once('{')?.1;
    labels
        .split(',')
        .find_map(|pair| pair.strip_prefix(label)?.strip_prefix("=\""))?
        .split('"')
        .next()
}

/// The same after a scrape, which adds the label of its job.
fn scraped<'a>(line: &'a str, label: &str) -> &'a str {
    match label {
        "job" => names::PROMETHEUS_JOB,
        label => value(line, label).unwrap_or_default(),
    }
}

/// The series of `exported` that a query reads.
fn read_by<'a>(text: &str, exported: &'a str) -> (Vec<&'a str>, Vec<String>) {
    let parsed = parser::parse(text).unwrap();
    let (selector, by) = taken_apart(&parsed);
    let name = format!("{}{{", selector.name.as_ref().unwrap());
    let series = exported.lines().filter(|line| {
        line.starts_with(&name)
            && selector
                .matchers
                .matchers
                .iter()
                .all(|each| each.is_match(scraped(line, &each.name)))
    });
    (series.collect(), by)
}

fn scope() -> Scope {
    Scope {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        ports: vec![80],
        deployment: "web".to_owned(),
        stable: "v1".to_owned(),
        canary: REVISION.to_owned(),
        interval: Duration::from_secs(10),
        metrics: MetricsSource::Aviary,
        job: None,
        beside_stable: false,
        settled: Duration::from_secs(600),
    }
}

#[test]
fn every_built_in_query_finds_its_series_in_a_sidecar_s_metrics() {
    let exported = exported(pod("web"));
    for query in [
        Query::Successes,
        Query::FasterThan {
            seconds: 0.5,
            quantile: 0.99,
        },
    ] {
        let text = scope().promql(&query).unwrap();
        let (series, by) = read_by(&text, &exported);
        let grouped = |line: &&str| by.iter().all(|label| value(line, label).is_some());
        assert!(
            !by.is_empty() && !series.is_empty() && series.iter().all(grouped),
            "{text} finds {series:?} in\n{exported}"
        );
    }
}

#[test]
fn calls_from_outside_are_those_to_the_deployment_s_own_pods_and_to_the_canary_s() {
    let text = scope().outside().unwrap();
    for (workload, found) in [
        ("web".to_owned(), 4),
        (format!("web-canary-{REVISION}"), 4),
        ("web-canary-v3".to_owned(), 0),
        ("web-canary".to_owned(), 0),
        ("other".to_owned(), 0),
    ] {
        let exported = exported(pod(&workload));
        let (series, by) = read_by(&text, &exported);
        assert_eq!(
            series.len(),
            found,
            "{text} finds {series:?} in\n{exported}"
        );
        assert!(by.is_empty(), "{text} gives many series");
        let outside = |line: &&str| value(line, label::PEER) == Some(peer::OUTSIDE);
        assert!(series.iter().all(outside), "{series:?}");
    }
    let elsewhere = exported(Workload {
        namespace: "other".to_owned(),
        ..pod("web")
    });
    assert_eq!(read_by(&text, &elsewhere).0, [""; 0]);
}

#[test]
fn every_class_that_the_operator_counts_is_exported() {
    let exported = exported(pod("web"));
    for class in [
        class::SUCCESS,
        class::FAILURE,
        class::UNSENT,
        class::CLIENT_CLOSED,
    ] {
        let series = format!(r#"class="{class}"}} 0"#);
        assert!(exported.contains(&series), "no {series} in\n{exported}");
    }
}

#[test]
fn the_sidecar_runs_as_the_injector_prepares_its_pod() {
    let Redirect {
        uid, admin_port, ..
    } = Redirect::default();
    assert_eq!(
        (i64::from(uid), admin_port),
        (names::PROXY_UID, names::PROXY_HEALTH_PORT)
    );
}

/// A pod that wants everything, with its sidecar.
fn sidecar() -> Value {
    let injector = Injector {
        image: "aviary-proxy".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        namespace: "aviary-system".to_owned(),
        root_pem: String::new(),
        mark: String::new(),
        demanded: Default::default(),
        policies: Some(aviary_operator::rollout::views::Views::new().0.policies),
        namespaces: None,
    };
    let mut annotations = json!({
        names::PROXY_LOG_LEVEL_ANNOTATION: "warn,aviary_proxy::ads=debug",
        names::SKIP_INBOUND_ANNOTATION: "22",
        telemetry::ACCESS_LOG_ANNOTATION: "1%",
        telemetry::ACCESS_LOG_PATH_ANNOTATION: "with-query",
        telemetry::METRICS_ANNOTATION: "istio",
    });
    for limit in traffic_core::limits::ALL {
        annotations[limit.annotation] = json!(limit.default.to_string());
    }
    let mut pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{
        "name": "app",
        "readinessProbe": {"tcpSocket": {"port": 8080}},
        "livenessProbe": {"httpGet": {"port": 8080, "path": "/live", "httpHeaders": [{"name": "Host", "value": "web"}]}},
    }]}});
    match injector.inject("shop", &pod).unwrap() {
        Injection::Inject { patch, .. } => json_patch::patch(&mut pod, &patch).unwrap(),
        left @ Injection::LeftAlone { .. } => panic!("{left:?}"),
    }
    let containers = pod["spec"]["initContainers"].as_array().unwrap();
    let mut sidecar = containers
        .iter()
        .filter(|container| container["name"] == names::PROXY_CONTAINER);
    sidecar.next().unwrap().clone()
}

#[test]
fn every_flag_that_the_injector_sets_is_one_that_the_sidecar_takes() {
    let sidecar = sidecar();
    let args: Vec<&str> = sidecar["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| argument.as_str().unwrap())
        .collect();
    assert!(args.contains(&"--tcp-probe-ports=8080"), "{args:?}");
    assert!(args.contains(&"--probe-path=8080/live"), "{args:?}");
    assert!(args.contains(&"--metrics=istio"), "{args:?}");
    let parsed = Cli::try_parse_from([&["aviary-proxy"], &args[..]].concat());
    assert!(parsed.is_ok(), "{args:?}: {}", parsed.unwrap_err());
}

#[test]
fn every_variable_that_the_injector_sets_is_one_that_the_sidecar_reads() {
    let sidecar = sidecar();
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let set = sidecar["env"].as_array().unwrap();
    assert!(!set.is_empty());
    for variable in set {
        let name = variable["name"].as_str().unwrap();
        let read = run
            .get_arguments()
            .any(|flag| flag.get_env().is_some_and(|env| env == name));
        assert!(read, "the sidecar does not read {name}");
    }
}
