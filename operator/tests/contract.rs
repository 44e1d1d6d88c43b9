//! What the operator asks Prometheus for is what the sidecar exports: names, labels and classes, from both ends of the contract.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use aviary_operator::names;
use aviary_operator::rollout::checks::{Query, Scope};
use aviary_proxy::init::Redirect;
use aviary_proxy::metrics::Metrics;
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use traffic_core::config::{Arm, Protocol, Route, Split};
use traffic_core::contract::class;

const REVISION: &str = "v2";

/// The real text of a sidecar's `/metrics` that routes to `shop/web`.
fn exported() -> String {
    let arm = Arm {
        cluster: format!("shop/web/80/{REVISION}"),
        revision: REVISION.to_owned(),
    };
    let route = Route {
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
        revoked: Vec::new(),
    };
    let metrics = Arc::new(Metrics::default());
    metrics.arm(&route, REVISION);
    metrics.render().unwrap()
}

/// The selector in a query, and the labels that it sums by.
fn taken_apart(query: &Expr) -> (&VectorSelector, Vec<String>) {
    match query {
        Expr::Aggregate(aggregate) => {
            let by = match &aggregate.modifier {
                Some(LabelModifier::Include(labels)) => labels.labels.clone(),
                other => panic!("not `by`: {other:?}"),
            };
            (taken_apart(&aggregate.expr).0, by)
        }
        Expr::Call(call) => taken_apart(&call.args.args[0]),
        Expr::MatrixSelector(matrix) => (&matrix.vs, Vec::new()),
        other => panic!("not a query of ours: {other:?}"),
    }
}

#[test]
fn every_built_in_query_finds_its_series_in_a_sidecar_s_metrics() {
    let exported = exported();
    let scope = Scope {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        ports: vec![80],
        deployment: "web".to_owned(),
        stable: "v1".to_owned(),
        canary: REVISION.to_owned(),
        interval: Duration::from_secs(10),
    };
    for query in [
        Query::Successes,
        Query::FasterThan {
            seconds: 0.5,
            quantile: 0.99,
        },
    ] {
        let text = scope.promql(&query).unwrap();
        let parsed = parser::parse(&text).unwrap();
        let (selector, by) = taken_apart(&parsed);
        let name = format!("{}{{", selector.name.as_ref().unwrap());
        let found = exported.lines().any(|line| {
            let matchers = &selector.matchers.matchers;
            line.starts_with(&name)
                && matchers
                    .iter()
                    .all(|each| line.contains(&format!(r#"{}="{}""#, each.name, each.value)))
                && by
                    .iter()
                    .all(|label| line.contains(&format!(r#"{label}=""#)))
        });
        assert!(
            found && !by.is_empty(),
            "{text} finds nothing in\n{exported}"
        );
    }
}

#[test]
fn every_class_that_the_operator_counts_is_exported() {
    let exported = exported();
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
