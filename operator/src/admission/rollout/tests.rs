use std::collections::BTreeMap;

use futures::future::BoxFuture;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::*;

fn rollout(spec: Value) -> CanaryRollout {
    let mut full = json!({"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}});
    json_patch::merge(&mut full, &spec);
    named("payment", None, full)
}

fn named(name: &str, created: Option<&str>, spec: Value) -> CanaryRollout {
    serde_json::from_value(json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": created},
        "spec": spec,
    }))
    .unwrap()
}

/// A Deployment, a Service and nothing wrong.
fn facts() -> Facts {
    let deployment = deployment();
    let service = json!({
        "metadata": {"name": "payment", "namespace": "shop"},
        "spec": {
            "clusterIP": "10.0.0.7",
            "selector": {"app": "payment"},
            "ports": [{"port": 8080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        }
    });
    let prometheus = PrometheusPolicy {
        default: Some("http://prometheus.monitoring:9090".to_owned()),
        allowed: vec!["https://metrics.example/api".to_owned()],
    };
    let service = serde_json::from_value(service).unwrap();
    Facts::from_objects(
        Some(&object(&deployment)),
        Some(&service),
        std::iter::empty(),
        BTreeMap::new(),
        &prometheus,
    )
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "payment", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "payment"}},
            "template": {"metadata": {"labels": {"app": "payment", "tier": "back"}}, "spec": {"containers": []}},
        }
    })
}

fn object(deployment: &Value) -> DynamicObject {
    serde_json::from_value(deployment.clone()).unwrap()
}

/// `facts` with its Deployment or Service merged with `change`.
fn with(mut facts: Facts, kind: &str, change: Value) -> Facts {
    match kind {
        "Deployment" => {
            let mut deployment = deployment();
            json_patch::merge(&mut deployment, &change);
            facts.deployment = Some(Target::from(&object(&deployment)));
        }
        "Service" => facts.service = Some(merged(facts.service, &change)),
        other => panic!("{other}"),
    }
    facts
}

fn merged<T: serde::Serialize + serde::de::DeserializeOwned>(
    object: Option<T>,
    change: &Value,
) -> T {
    let mut value = serde_json::to_value(object).unwrap();
    json_patch::merge(&mut value, change);
    serde_json::from_value(value).unwrap()
}

fn only(problems: &[Problem]) -> &Problem {
    assert_eq!(problems.len(), 1, "{problems:?}");
    &problems[0]
}

fn refused(problems: &[Problem], field: &str, part: &str) {
    let problem = only(problems);
    assert_eq!(problem.severity, Severity::Refuse);
    assert_eq!(problem.field, field);
    assert!(problem.message.contains(part), "{problem}");
}

#[test]
fn an_error_budget_into_which_the_first_step_never_fits_is_refused() {
    let exposure = json!({"analysis": {"exposure": {"objective": "99.99%"}}});
    assert_eq!(validate(&rollout(exposure.clone()), &facts()), []);
    let mut at_once = exposure;
    at_once["steps"] = json!([{"weight": 100, "soak": "5m"}]);
    let problems = validate(&rollout(at_once), &facts());
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert_eq!(problem.severity, Severity::Refuse);
    let said = problem.to_string();
    let says = "spec.analysis.exposure: no release could begin: ";
    assert!(said.starts_with(says), "{said}");
    assert!(
        said.contains("weight 100% for 5m spends 5m00s of full outage"),
        "{said}"
    );
}

#[test]
fn the_shortest_useful_form_has_no_problem() {
    assert_eq!(validate(&rollout(json!({})), &facts()), []);
    let ports = json!({"service": {"ports": [8080]}});
    assert_eq!(validate(&rollout(ports), &facts()), []);
}

#[test]
fn what_is_not_there_yet_is_waited_for() {
    let facts = Facts {
        deployment: None,
        service: None,
        ..facts()
    };
    let problems = validate(&rollout(json!({})), &facts);
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(
        texts,
        [
            "spec.targetRef.name: there is no Deployment payment in this namespace yet; releases wait for it",
            "spec.service.name: there is no Service payment in this namespace yet; releases wait for it",
        ]
    );
    assert!(
        problems
            .iter()
            .all(|problem| problem.severity == Severity::Wait)
    );
}

#[test]
fn a_selector_that_misses_the_pods_is_shown_beside_their_labels() {
    let facts = with(
        facts(),
        "Service",
        json!({"spec": {"selector": {"app": "pay"}}}),
    );
    refused(
        &validate(&rollout(json!({})), &facts),
        "spec.service.name",
        "Service payment selects app=pay, and the pods of Deployment payment have app=payment,tier=back",
    );
    let facts = with(facts, "Service", json!({"spec": {"selector": null}}));
    refused(
        &validate(&rollout(json!({})), &facts),
        "spec.service.name",
        "has no selector",
    );
}

#[test]
fn services_that_cannot_be_split_are_refused() {
    let headless = with(facts(), "Service", json!({"spec": {"clusterIP": "None"}}));
    refused(
        &validate(&rollout(json!({})), &headless),
        "spec.service.name",
        "is headless",
    );
    let external = with(
        facts(),
        "Service",
        json!({"spec": {"type": "ExternalName", "selector": null}}),
    );
    refused(
        &validate(&rollout(json!({})), &external),
        "spec.service.name",
        "ExternalName",
    );
}

#[test]
fn a_service_that_keeps_callers_on_one_pod_is_refused_with_the_command_that_mends_it() {
    let sticky = with(
        facts(),
        "Service",
        json!({"spec": {"sessionAffinity": "ClientIP"}}),
    );
    refused(
        &validate(&rollout(json!({})), &sticky),
        "spec.service.name",
        r#"kubectl patch service payment -n shop -p '{"spec":{"sessionAffinity":"None"}}'"#,
    );
    let plain = with(
        facts(),
        "Service",
        json!({"spec": {"sessionAffinity": "None"}}),
    );
    assert_eq!(validate(&rollout(json!({})), &plain), []);
}

#[test]
fn a_name_that_fits_no_label_is_refused() {
    let spec = json!({"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}});
    let fits = named(&"a".repeat(63), None, spec.clone());
    assert_eq!(validate(&fits, &facts()), []);
    let long = named(&"a".repeat(64), None, spec);
    refused(
        &validate(&long, &facts()),
        "metadata.name",
        "at most 63 fit into the label aviary.dev/rollout",
    );
}

#[test]
fn a_deployment_whose_copy_could_have_no_name_is_refused() {
    let revision = crate::revision::revision(&json!({}));
    for (length, is_refused) in [(235, false), (236, true)] {
        let name = "a".repeat(length);
        let copy = crate::rollout::copy::name(&name, &revision);
        assert_eq!(copy.len() > 253, is_refused, "{length}");
        let facts = with(facts(), "Deployment", json!({"metadata": {"name": name}}));
        let problems = validate(&rollout(json!({"targetRef": {"name": name}})), &facts);
        if is_refused {
            refused(&problems, "spec.targetRef.name", "at most 235 leave room");
        } else {
            assert_eq!(problems, []);
        }
    }
}

#[test]
fn what_takes_no_time_at_all_is_refused() {
    refused(
        &validate(&rollout(json!({"progressDeadline": "0s"})), &facts()),
        "spec.progressDeadline",
        "write for example 10m",
    );
    let checks = json!([{"name": "latency", "latency": {"atMost": "0ms"}}]);
    refused(
        &validate(&rollout(json!({"analysis": {"checks": checks}})), &facts()),
        "spec.analysis.checks[0].latency.atMost",
        "write for example 500ms",
    );
}

#[test]
fn facts_from_watched_objects_are_those_that_would_be_fetched() {
    let mut deployment = deployment();
    let change = json!({
        "spec": {
            "strategy": {"type": "Recreate"},
            "fieldOfALaterKubernetes": [1],
            "template": {"spec": {"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b"}]}},
        }
    });
    json_patch::merge(&mut deployment, &change);
    let target = Target::from(&object(&deployment));
    assert_eq!(target.name, "payment");
    assert_eq!(target.strategy.as_deref(), Some("Recreate"));
    assert_eq!(labels(&target), "app=payment,tier=back");
    assert_eq!(target.claims, ["data"]);
    // Whatever a Deployment looks like, there is something to say about it.
    let nothing = object(&json!({"metadata": {"name": "payment"}, "spec": {"template": 1}}));
    assert_eq!(
        Target::from(&nothing),
        Target {
            name: "payment".to_owned(),
            ..Target::default()
        }
    );
}

fn labels(target: &Target) -> String {
    let pairs: Vec<String> = target
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

#[test]
fn ports_have_to_be_tcp_ports_of_the_service() {
    let problems = validate(
        &rollout(json!({"service": {"ports": [8080, 9000, 53]}})),
        &facts(),
    );
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(
        texts,
        [
            "spec.service.ports[1]: Service payment has no TCP port 9000; it has 8080",
            "spec.service.ports[2]: Service payment has no TCP port 53; it has 8080",
        ]
    );
}

#[test]
fn deployments_that_cannot_run_twice_are_refused() {
    let recreate = with(
        facts(),
        "Deployment",
        json!({"spec": {"strategy": {"type": "Recreate"}}}),
    );
    refused(
        &validate(&rollout(json!({})), &recreate),
        "spec.targetRef.name",
        "RollingUpdate",
    );

    // The gate would let whatever is applied to it through.
    let ungated = with(
        facts(),
        "Deployment",
        json!({"spec": {"selector": {"matchLabels": {"aviary.dev/revision": "mine"}}}}),
    );
    refused(
        &validate(&rollout(json!({})), &ungated),
        "spec.targetRef.name",
        "create the Deployment again without it",
    );

    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    let mounted = with(
        facts(),
        "Deployment",
        json!({"spec": {"template": {"spec": {"volumes": volumes}}}}),
    );
    for (modes, is_refused) in [
        (vec!["ReadWriteOnce"], true),
        (vec!["ReadWriteOncePod"], true),
        (vec!["ReadWriteOnce", "ReadWriteMany"], false),
        (vec!["ReadOnlyMany"], false),
    ] {
        let modes: Vec<String> = modes.into_iter().map(str::to_owned).collect();
        let claims = BTreeMap::from([("data".to_owned(), modes.clone())]);
        let facts = Facts {
            claims,
            ..mounted.clone()
        };
        let problems = validate(&rollout(json!({})), &facts);
        assert_eq!(!problems.is_empty(), is_refused, "{modes:?}: {problems:?}");
    }
    // A claim that does not exist yet says nothing about its modes.
    assert_eq!(validate(&rollout(json!({})), &mounted), []);
}

#[test]
fn the_older_of_two_rollouts_on_one_target_wins() {
    let spec = json!({"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}});
    let older = named("a-first", Some("2026-01-01T00:00:00Z"), spec.clone());
    let newer = named("b-second", Some("2026-01-02T00:00:00Z"), spec.clone());
    let mut elsewhere = older.clone();
    elsewhere.metadata.namespace = Some("another".to_owned());
    elsewhere.metadata.name = Some("0-oldest".to_owned());
    let facts = Facts {
        rollouts: [&newer, &older, &elsewhere].map(Rival::from).to_vec(),
        ..facts()
    };
    assert_eq!(validate(&older, &facts), []);
    refused(
        &validate(&newer, &facts),
        "spec.targetRef.name",
        "kubectl delete canaryrollout a-first -n shop",
    );
    let created_now = named("c-third", None, spec);
    refused(
        &validate(&created_now, &facts),
        "spec.targetRef.name",
        "CanaryRollout a-first already releases",
    );
}

#[test]
fn queries_are_checked_with_the_path_of_the_check() {
    let check = |query: &str| json!({"analysis": {"checks": [{"name": "queue", "prometheus": {"query": query, "atMost": 1}}]}});
    assert_eq!(
        validate(
            &rollout(check("max(q{r=\"{{ canary.revision }}\"})")),
            &facts()
        ),
        []
    );
    refused(
        &validate(&rollout(check("max(q{r=\"{{ canary.name }}\"})")), &facts()),
        "spec.analysis.checks[0].prometheus.query",
        "check queue: '{{ canary.name }}' is no placeholder",
    );
    let nowhere = Facts {
        prometheus: PrometheusPolicy::default(),
        ..facts()
    };
    let problems = validate(&rollout(check("up")), &nowhere);
    assert_eq!(only(&problems).severity, Severity::Note);
}

#[test]
fn an_annotation_of_the_service_that_cannot_be_read_is_said_and_refuses_nothing() {
    let with_timeout = |time: &str| {
        let annotations = json!({"aviary.dev/request-timeout": time});
        let change = json!({"metadata": {"annotations": annotations}});
        validate(&rollout(json!({})), &with(facts(), "Service", change))
    };
    assert_eq!(with_timeout("15s"), []);
    let problems = with_timeout("15");
    assert_eq!(only(&problems).severity, Severity::Note);
    let says = "annotation aviary.dev/request-timeout of Service payment is ignored: '15' is no duration: write a number and a unit, like 15s, 500ms or 1m30s";
    assert!(problems[0].to_string().contains(says), "{}", problems[0]);
}

#[test]
fn the_operator_fetches_from_its_own_list_only() {
    let address =
        |address: &str| rollout(json!({"analysis": {"prometheus": {"address": address}}}));
    for allowed in [
        "http://prometheus.monitoring:9090",
        "http://prometheus.monitoring:9090/",
        "https://metrics.example/api",
    ] {
        assert_eq!(validate(&address(allowed), &facts()), [], "{allowed}");
    }
    for other in [
        "http://169.254.169.254/latest",
        "http://prometheus.monitoring:9091",
        "https://metrics.example",
    ] {
        refused(
            &validate(&address(other), &facts()),
            "spec.analysis.prometheus.address",
            "--prometheus-allow",
        );
    }
}

#[test]
fn credentials_have_an_address_and_a_warning_where_anybody_can_listen() {
    const FIELD: &str = "spec.analysis.prometheus.auth";
    let of = |prometheus: Value| rollout(json!({"analysis": {"prometheus": prometheus}}));
    let secret = json!({"secretRef": {"name": "a"}});
    let encrypted = json!({"address": "https://metrics.example/api", "auth": {"bearer": secret, "tls": secret}});
    assert_eq!(validate(&of(encrypted), &facts()), []);
    let own = validate(&of(json!({"auth": {"bearer": secret}})), &facts());
    assert_eq!(only(&own).severity, Severity::Note);
    assert_eq!(
        only(&own).to_string(),
        "spec.analysis.prometheus.auth: what it shows goes to http://prometheus.monitoring:9090 unencrypted, and whoever is on the way can read it; use https://"
    );
    let tls = validate(&of(json!({"auth": {"tls": secret}})), &facts());
    let is_refusal = |problem: &&Problem| problem.severity == Severity::Refuse;
    let refusals: Vec<Problem> = tls.iter().filter(is_refusal).cloned().collect();
    refused(&refusals, FIELD, "tls is for an address with https://");
    let nowhere = Facts {
        prometheus: PrometheusPolicy::default(),
        ..facts()
    };
    refused(
        &validate(&of(json!({"auth": {"bearer": secret}})), &nowhere),
        FIELD,
        "there is no Prometheus that it could be for",
    );
}

#[test]
fn a_window_has_a_length() {
    refused(
        &validate(&rollout(json!({"analysis": {"interval": "0s"}})), &facts()),
        "spec.analysis.interval",
        "write at least 1s",
    );
}

/// Answers with the same facts, or cannot.
struct Known(Option<Facts>);

impl Lookup for Known {
    fn facts<'a>(&'a self, _: &'a CanaryRollout) -> BoxFuture<'a, Result<Facts, LookupError>> {
        Box::pin(async {
            self.0.clone().ok_or(LookupError::Service(
                kube::Error::LinesCodecMaxLineLengthExceeded,
            ))
        })
    }
}

fn request(old: Option<&CanaryRollout>, new: &CanaryRollout) -> Request {
    serde_json::from_value(json!({
        "uid": "1",
        "namespace": "shop",
        "name": "payment",
        "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
        "object": new,
        "oldObject": old,
    }))
    .unwrap()
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once() {
    let facts = with(
        facts(),
        "Service",
        json!({"spec": {"selector": {"app": "pay"}}}),
    );
    let wrong = rollout(json!({"service": {"ports": [1]}, "analysis": {"interval": "0s"}}));
    let Answer::Deny { message } = answer(&request(None, &wrong), &Known(Some(facts))).await else {
        panic!()
    };
    for part in [
        "spec.service.name: ",
        "; spec.service.ports[0]: ",
        "; spec.analysis.interval: ",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn missing_objects_are_only_worth_a_warning() {
    let facts = Facts {
        deployment: None,
        service: None,
        ..facts()
    };
    let answer = answer(&request(None, &rollout(json!({}))), &Known(Some(facts))).await;
    let Answer::Allow { warnings } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(warnings.len(), 2);
}

#[tokio::test]
async fn a_service_that_broke_later_keeps_nobody_from_suspending() {
    let facts = with(
        facts(),
        "Service",
        json!({"spec": {"selector": {"app": "pay"}}}),
    );
    let (old, new) = (rollout(json!({})), rollout(json!({"suspend": true})));
    let answer = answer(&request(Some(&old), &new), &Known(Some(facts.clone()))).await;
    let Answer::Allow { warnings } = answer else {
        panic!("{answer:?}")
    };
    assert!(
        warnings[0].contains("Service payment selects app=pay"),
        "{}",
        warnings[0]
    );

    let worse = rollout(json!({"suspend": true, "service": {"ports": [1]}}));
    let answer = super::answer(&request(Some(&old), &worse), &Known(Some(facts))).await;
    let Answer::Deny { message } = answer else {
        panic!("{answer:?}")
    };
    assert!(message.starts_with("spec.service.ports[0]: "), "{message}");
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_no_reason_to_refuse() {
    let answer = answer(&request(None, &rollout(json!({}))), &Known(None)).await;
    let Answer::Allow { warnings } = answer else {
        panic!("{answer:?}")
    };
    assert!(
        warnings[0].contains("Services cannot be read"),
        "{}",
        warnings[0]
    );
}
