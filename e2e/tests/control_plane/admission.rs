//! What the API server refuses: every constraint of the schema, every rule with a sentence of its own, and every refusal of
//! the webhook. Each is applied as a user would, and its message read.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use aviary_crds::CanaryRollout;
use aviary_e2e::control_plane::{Plan, Shop, deployment, list, service};
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, CustomResourceExt};
use serde_json::{Value, json};

use super::hall::Scene;

/// The operator sees new objects within moments.
const PATIENCE: Duration = Duration::from_secs(180);

/// A spec that has everything; not admitted as a whole, since some of it is not supported yet.
fn everything() -> Value {
    json!({
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "service": {"name": "web", "ports": [80]},
        "steps": [
            {"weight": 1, "soak": "1m", "minRequests": 100, "pause": {"for": "10m"}},
            {"weight": 100, "soak": "1m"},
        ],
        "analysis": {
            "interval": "30s",
            "failureLimit": 2,
            "checks": [
                {"name": "success", "successRate": {"atLeast": "99%"}},
                {"name": "latency", "latency": {"quantile": "0.99", "atMost": "500ms"}},
                {"name": "queue", "prometheus": {"query": "up", "atMost": "1.5", "atLeast": 0}},
            ],
            "guard": {"falseAlarm": "0.1%", "maxErrorIncrease": "1%"},
            "exposure": {"objective": "99.9%", "window": "30d", "budget": "5%"},
            "noEvidence": {"hold": "10m", "then": "Pause"},
            "prometheus": {
                "address": "https://prometheus.monitoring:9090",
                "metrics": "Aviary",
                "job": "monitoring/proxies",
                "auth": {
                    "basic": {"secretRef": {"name": "login"}},
                    "bearer": {"secretRef": {"name": "token"}},
                    "headers": {"secretRef": {"name": "tenant"}},
                    "tls": {"secretRef": {"name": "tls"}},
                },
            },
        },
        "split": {"sticky": {"header": "x-user", "cookie": "user"}},
        "hooks": [{
            "name": "load-test", "when": "BeforeStep", "weights": [1], "url": "https://hooks.example/load", "timeout": "10s",
            "retries": 3, "interval": "30s", "onFailure": "Hold", "secretRef": {"name": "hook"},
        }],
        "onFailure": "Rollback",
        "progressDeadline": "10m",
        "capacity": "Proportional",
        "deletionPolicy": "Leave",
        "suspend": false,
    })
}

fn spec_schema() -> anyhow::Result<Value> {
    let crd = serde_json::to_value(CanaryRollout::crd())?;
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .cloned()
        .context("the CRD has a schema for spec")
}

/// One way to break one constraint of the schema.
struct Violation {
    /// Of the value, as a JSON pointer within the spec.
    at: String,
    /// The same as the API server writes it.
    path: String,
    /// `None`: the field is left out.
    value: Option<Value>,
    /// What the API server says of it.
    says: String,
}

/// Walks a schema and a value of it side by side, and notes how each constraint is broken.
#[derive(Default)]
struct Walk {
    violations: Vec<Violation>,
    /// Constraints that were met, each as its place in the schema.
    seen: BTreeSet<String>,
}

impl Walk {
    fn at(&mut self, schema: &Value, place: &str, value: &Value, at: &str, path: &str) {
        self.constraints(schema, place, value, at, path);
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let Some(value) = value.get(name) else {
                continue;
            };
            let place = format!("{place}.{name}");
            self.at(
                schema,
                &place,
                value,
                &format!("{at}/{name}"),
                &format!("{path}.{name}"),
            );
        }
        for (i, value) in value.as_array().into_iter().flatten().enumerate() {
            let place = format!("{place}[]");
            self.at(
                &schema["items"],
                &place,
                value,
                &format!("{at}/{i}"),
                &format!("{path}[{i}]"),
            );
        }
    }

    fn constraints(&mut self, schema: &Value, place: &str, value: &Value, at: &str, path: &str) {
        let mut broken = |keyword: &str, value: Value, says: String| {
            if self.seen.insert(format!("{place} {keyword}")) {
                let value = Some(value);
                let (at, path) = (at.to_owned(), path.to_owned());
                self.violations.push(Violation {
                    at,
                    path,
                    value,
                    says,
                });
            }
        };
        // All of them are whole.
        let number = |keyword: &str| schema[keyword].as_f64().map(|bound| bound as i64);
        if let Some(pattern) = schema["pattern"].as_str() {
            broken("pattern", json!("~"), format!("should match '{pattern}'"));
        }
        if let Some(longest) = schema["maxLength"].as_u64() {
            let text = "9".repeat(usize::try_from(longest).unwrap_or(0) + 1);
            broken(
                "maxLength",
                json!(text),
                format!("Too long: may not be more than {longest} "),
            );
        }
        if schema["minLength"].as_u64().is_some() {
            broken(
                "minLength",
                json!(""),
                "should be at least 1 chars long".to_owned(),
            );
        }
        if let Some(most) = number("maximum") {
            let says = "should be less than or equal to ".to_owned();
            broken("maximum", json!(most + 1), says);
        }
        if let Some(least) = number("minimum") {
            let says = "should be greater than or equal to ".to_owned();
            broken("minimum", json!(least - 1), says);
        }
        if schema["enum"].is_array() {
            broken(
                "enum",
                json!("Sometimes"),
                r#"Unsupported value: "Sometimes": supported values: "#.to_owned(),
            );
        }
        if let (Some(most), Some(first)) = (schema["maxItems"].as_u64(), value.get(0)) {
            let most = usize::try_from(most).unwrap_or(0);
            let many = vec![first.clone(); most + 1];
            broken(
                "maxItems",
                json!(many),
                format!("must have at most {most} items"),
            );
        }
        if schema["minItems"].as_u64().is_some() {
            broken(
                "minItems",
                json!([]),
                "should have at least 1 items".to_owned(),
            );
        }
        if schema["x-kubernetes-list-type"] == "map" {
            let twice = [value.clone(), value.clone()].map(|list| list[0].clone());
            broken("list-type", json!(twice), "Duplicate value".to_owned());
        }
        if schema["x-kubernetes-int-or-string"] == true {
            broken(
                "x-kubernetes-int-or-string",
                json!(0.05),
                "must be of type integer,string".to_owned(),
            );
        }
        if let Some(kind) = schema["type"].as_str() {
            // A number is called by its format.
            let called = schema["format"].as_str().unwrap_or(kind);
            let other = if kind == "boolean" {
                json!("no")
            } else {
                json!(true)
            };
            broken("type", other, format!("must be of type {called}"));
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            if schema["properties"][name].get("default").is_none()
                && self.seen.insert(format!("{place}.{name} required"))
            {
                self.violations.push(Violation {
                    at: format!("{at}/{name}"),
                    path: format!("{path}.{name}"),
                    value: None,
                    says: "Required value".to_owned(),
                });
            }
        }
    }
}

/// Every constraint that a schema has, by the same names; and those that this test does not know.
fn constraints(schema: &Value, place: &str, all: &mut BTreeSet<String>) {
    const NONE: [&str; 10] = [
        "default",
        "description",
        "format",
        "items",
        "nullable",
        "properties",
        "required",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match keyword.as_str() {
            "properties" => {
                for (name, schema) in value.as_object().into_iter().flatten() {
                    constraints(schema, &format!("{place}.{name}"), all);
                }
            }
            "items" => constraints(value, &format!("{place}[]"), all),
            "x-kubernetes-list-type" if value == "map" => {
                all.insert(format!("{place} list-type"));
            }
            keyword if NONE.contains(&keyword) => {}
            keyword => {
                all.insert(format!("{place} {keyword}"));
            }
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if schema["properties"][name].get("default").is_none() {
            all.insert(format!("{place}.{name} required"));
        }
    }
}

pub(crate) async fn whatever_the_schema_forbids_is_refused_with_the_fields_path(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::empty(scene.bench, &scene.namespace).await?;
    let (schema, base) = (spec_schema()?, everything());
    let mut walk = Walk::default();
    walk.at(&schema, "spec", &base, "", "spec");
    let mut all = BTreeSet::new();
    constraints(&schema, "spec", &mut all);
    let forgotten: Vec<_> = all.difference(&walk.seen).collect();
    ensure!(forgotten.is_empty(), "nothing breaks {forgotten:?}");
    let mut wrong = Vec::new();
    for violation in &walk.violations {
        let spec = with(&base, &violation.at, violation.value.clone());
        let said = refusal(&shop, &spec).await?;
        if !(said.contains(&violation.path) && said.contains(&violation.says)) {
            wrong.push(format!("{} {:?}: {said:?}", violation.path, violation.says));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Breaks each rule of the CRD: where, and with what.
fn rules() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "/analysis/checks/1/latency/atMost",
            json!("0s"),
            "latency.atMost must be longer than 0s: nothing is answered at once; write for example 500ms",
        ),
        (
            "/analysis/checks/2/prometheus",
            json!({"query": "up"}),
            "a prometheus check needs atMost or atLeast",
        ),
        (
            "/analysis/checks/0",
            json!({"name": "success"}),
            "a check has exactly one of successRate, latency and prometheus",
        ),
        (
            "/analysis/interval",
            json!("0s"),
            "spec.analysis.interval is the length of a window and must be longer than 0s: write at least 1s, for example 30s",
        ),
        (
            "/analysis/exposure/objective",
            json!("100%"),
            "spec.analysis.exposure.objective must be at least 50% and below 100%, since what it leaves is the error budget: write for example 99.9%",
        ),
        (
            "/analysis/exposure/budget",
            json!("0.0%"),
            "spec.analysis.exposure.budget must be above 0%: a release that may spend nothing never begins; write for example 5%",
        ),
        (
            "/progressDeadline",
            json!("0m"),
            "spec.progressDeadline must be longer than 0s, for example 10m",
        ),
        (
            "/hooks",
            json!([{"name": "a", "when": "Gate", "url": "https://a", "timeout": "0s"}]),
            "hooks[].timeout must be longer than 0s, for example 10s",
        ),
        (
            "/hooks",
            json!([{"name": "a", "when": "Gate", "url": "https://a", "interval": "0s"}]),
            "hooks[].interval must be longer than 0s, for example 30s",
        ),
        (
            "/hooks",
            json!([{"name": "a", "when": "AfterResult", "url": "https://a", "weights": [1]}]),
            "hooks[].weights: only BeforeStep and Gate are asked before a weight; leave weights out",
        ),
        (
            "/hooks",
            json!([{"name": "a", "when": "Gate", "url": "https://a", "onFailure": "Ignore"}]),
            "hooks[].onFailure: a Gate is waited for and an AfterResult is not, whatever they answer; leave onFailure out",
        ),
        (
            "/steps/0/pause",
            json!({"for": "0s"}),
            "steps[].pause.for must be longer than 0s: write for example 10m, or pause: {} to wait for a person",
        ),
        (
            "/steps",
            json!([{"weight": 50}, {"weight": 10}, {"weight": 100}]),
            "spec.steps: weights must rise from step to step, for example 1, 10, 50, 100",
        ),
        (
            "/steps",
            json!([{"weight": 1}, {"weight": 10}]),
            "spec.steps: the last step must have weight 100, so that the whole load is tried before the promotion",
        ),
        (
            "/targetRef/apiVersion",
            json!("apps/v2"),
            "spec.targetRef.apiVersion must be apps/v1",
        ),
        (
            "/targetRef/kind",
            json!("StatefulSet"),
            "spec.targetRef.kind must be Deployment: no other kind can be released",
        ),
        (
            "/analysis/prometheus",
            json!({"auth": {}}),
            "spec.analysis.prometheus.auth names at least one of basic, bearer, headers and tls: leave it out for a Prometheus that asks for none",
        ),
        (
            "/analysis/prometheus",
            json!({"auth": {"basic": {"secretRef": {"name": "a"}}, "bearer": {"secretRef": {"name": "b"}}}}),
            "spec.analysis.prometheus.auth has either basic or bearer: both would be the header Authorization",
        ),
        (
            "/analysis/prometheus",
            json!({"address": "http://prometheus.monitoring:9090", "auth": {"tls": {"secretRef": {"name": "a"}}}}),
            "spec.analysis.prometheus.auth.tls is for an address with https://: write one, or leave tls out",
        ),
        (
            "/analysis/prometheus",
            json!({"metrics": "Istio"}),
            "spec.service.ports: the metrics of Istio and of Linkerd do not say to which port a request went: leave ports out, or spec.analysis.prometheus.metrics",
        ),
        (
            "/split",
            json!({"sticky": {"header": "x-user", "cookie": "user"}}),
            "spec.split.sticky has exactly one of header and cookie: write for example sticky: {header: x-user-id}",
        ),
        (
            "/split",
            json!({"sticky": {"header": "x user"}}),
            "spec.split.sticky.header is the name of a request header, of letters, digits and hyphens: write for example x-user-id",
        ),
        (
            "/split",
            json!({"sticky": {"header": "Cookie"}}),
            "spec.split.sticky.header: this one does not say whose a request is: name a header that is the same in every request of a user, or write cookie: NAME for one cookie",
        ),
        (
            "/split",
            json!({"sticky": {"cookie": "user=1"}}),
            "spec.split.sticky.cookie is the name of a cookie, without spaces, '=' and ';': write for example session",
        ),
    ]
}

pub(crate) async fn every_rule_of_the_type_says_how_to_mend_it(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::with_deployment(scene.bench, &scene.namespace, |_| {}).await?;
    let mut base = everything();
    for unsupported in ["/split", "/analysis/prometheus", "/hooks"] {
        base = with(&base, unsupported, None);
    }
    let whole = admits(&shop, "tried", &base).await?;
    ensure!(whole.is_none(), "{whole:?}");
    let mut said = String::new();
    for (at, value, says) in rules() {
        let refused = refusal(&shop, &with(&base, at, Some(value))).await?;
        ensure!(refused.contains(says), "{at}: {says:?}: {refused:?}");
        said += &refused;
    }
    let long = refusal_of(&shop, &"w".repeat(64), &base).await?;
    ensure!(
        long.contains("metadata.name: at most 63 characters"),
        "{long}"
    );
    said += &long;
    shop.adopt(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    for (edit, says) in [
        (
            r#"{"spec":{"targetRef":{"name":"other"}}}"#,
            "spec.targetRef cannot change while a release runs: put the stable template back into the Deployment to end the release first",
        ),
        (
            r#"{"spec":{"split":{"sticky":{"header":"x-user"}}}}"#,
            "spec.split cannot change while a release runs, since it says who has the new version: wait for its end, or put the stable template back into the Deployment first",
        ),
    ] {
        let patch = [
            "patch",
            "canaryrollout/web",
            "--type=merge",
            "--patch",
            edit,
        ];
        let edited = shop.try_kubectl(&patch, "").await?;
        ensure!(!edited.ok && edited.stderr.contains(says), "{edited}");
        said += &edited.stderr;
    }
    let crd = serde_json::to_value(CanaryRollout::crd())?;
    let mut messages = Vec::new();
    rule_messages(&crd, &mut messages);
    ensure!(
        messages.len() > 10,
        "rules are found in the CRD: {messages:?}"
    );
    let unread: Vec<_> = messages
        .iter()
        .filter(|each| !said.contains(each.as_str()))
        .collect();
    ensure!(unread.is_empty(), "no case reads {unread:?}");
    Ok(())
}

fn rule_messages(of: &Value, messages: &mut Vec<String>) {
    if let Some(rules) = of.get("x-kubernetes-validations").and_then(Value::as_array) {
        messages.extend(
            rules
                .iter()
                .filter_map(|rule| Some(rule["message"].as_str()?.to_owned())),
        );
    }
    match of {
        Value::Object(fields) => fields
            .values()
            .for_each(|each| rule_messages(each, messages)),
        Value::Array(items) => items.iter().for_each(|each| rule_messages(each, messages)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(crate) async fn every_refusal_of_the_webhook_names_the_field_and_the_mend(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::empty(scene.bench, &scene.namespace).await?;
    let base = Plan::default();
    shop.apply(&list(&objects())).await?;
    let older = Plan::default().with("/targetRef/name", json!("taken"));
    shop.apply(&older.with("/service/name", json!("taken")).to_string())
        .await?;
    let service = |name: &str| base.clone().with("/service/name", json!(name));
    let target = |name: &str| base.clone().with("/targetRef/name", json!(name));
    let query = |text: &str| {
        base.clone()
            .with("/analysis/checks/0/prometheus/query", json!(text))
    };
    let namespace = &shop.namespace;
    let placeholder = "spec.analysis.checks[0].prometheus.query: check errors: '{{ canary.rev }}' is no placeholder; there are '{{ canary.revision }}', '{{ stable.revision }}'";
    let cases = [
        (target("taken"), format!("spec.targetRef.name: CanaryRollout web already releases Deployment taken, and the older one wins; delete it (kubectl delete canaryrollout web -n {namespace}) or choose another target")),
        (target(&"w".repeat(236)), "has 236 characters, and its canary would be called".to_owned()),
        (target("recreated"), "spec.targetRef.name: Deployment recreated has strategy Recreate, so two versions of it must not run side by side, which is what a canary is; change its spec.strategy.type to RollingUpdate if they may".to_owned()),
        (target("mounting"), "spec.targetRef.name: Deployment mounting mounts PersistentVolumeClaim disk (ReadWriteOnce), which stable and canary pods on different nodes cannot share; use a claim with ReadWriteMany or ReadOnlyMany".to_owned()),
        (service("external"), "spec.service.name: Service external is of type ExternalName: its requests go elsewhere; name a Service with a cluster IP".to_owned()),
        (service("headless"), "spec.service.name: Service headless is headless (clusterIP: None): callers choose pods themselves, so there is nothing to split; name a Service with a cluster IP".to_owned()),
        (service("sessions"), format!("spec.service.name: Service sessions has sessionAffinity: ClientIP, which keeps each caller on one pod, so its requests cannot be divided by weight; take it out (kubectl patch service sessions -n {namespace} -p '{{\"spec\":{{\"sessionAffinity\":\"None\"}}}}'), or name another Service")),
        (service("selectorless"), "spec.service.name: Service selectorless has no selector: give it one that matches the pods of Deployment web".to_owned()),
        (service("elsewhere"), "spec.service.name: Service elsewhere selects app=other, and the pods of Deployment web have app=web: its requests never reach them; change the Service's selector, or name the Deployment's own Service".to_owned()),
        (base.clone().with("/service/ports", json!([80, 81])), "spec.service.ports[1]: Service web has no TCP port 81; it has 80".to_owned()),
        (base.clone().with("/hooks", json!([{"name": "load-test", "when": "Gate", "url": "http://169.254.169.254/latest"}])), "spec.hooks[0].url: hook load-test: the operator does not call http://169.254.169.254: have it allowed (operator flag --hook-allow=http://169.254.169.254), or use an address that is".to_owned()),
        (base.clone().with("/hooks", json!([{"name": "load-test", "when": "Gate", "url": scene.bench.receiver.url("a", "b"), "timeout": "61s"}])), "spec.hooks, load-test: timeout is at most 1m".to_owned()),
        (base.clone().with("/steps", json!([{"weight": 50, "soak": "10m"}, {"weight": 100}])).with("/analysis/exposure", json!({"objective": "99.9%"})), "spec.analysis.exposure: no release could begin: nothing is known of a canary before its first step, and if all of its requests fail, weight 50% for 10m spends 5m00s of full outage; a release may spend 2m09s (5% of the error budget of 99.9% over 30d). Give the first step less weight or a shorter soak, or spec.analysis.exposure.budget a larger share".to_owned()),
        (base.clone().with("/analysis/interval", json!("999ms")), "spec.analysis.interval: 999ms is too short for a window; write at least 1s".to_owned()),
        (query(r#"x{a="{{ canary.rev }}"}"#), placeholder.to_owned()),
        (query("x{{"), "spec.analysis.checks[0].prometheus.query: check errors: '{{' without '}}'".to_owned()),
        (query("sum("), "spec.analysis.checks[0].prometheus.query: check errors: no PromQL: ".to_owned()),
        (query("up[5m]"), "spec.analysis.checks[0].prometheus.query: check errors: gives a range vector, and has to give one number: an instant vector or a scalar".to_owned()),
        (base.clone().with("/analysis/prometheus", json!({"address": "http://elsewhere.test:9090"})), "spec.analysis.prometheus.address: http://elsewhere.test:9090 is not an address that the operator fetches from; leave it out, or have it allowed (operator flag --prometheus-allow=http://elsewhere.test:9090)".to_owned()),
        (base.clone().with("/analysis/prometheus", json!({"auth": {"tls": {"secretRef": {"name": "a"}}}})), format!("spec.analysis.prometheus.auth: tls is for an address with https://, and the operator's own is {}: leave tls out, or have an address with https:// allowed", scene.bench.evidence.url())),
    ];
    for (plan, says) in cases {
        let plan: Value = serde_json::from_str(&plan.to_string())?;
        let refused = tokio::time::timeout(PATIENCE, refused_with(&shop, &plan["spec"], &says));
        refused
            .await
            .with_context(|| format!("it never says {says:?}"))??;
    }
    Ok(())
}

pub(crate) async fn a_field_that_does_not_exist_is_named(scene: &Scene<'_>) -> anyhow::Result<()> {
    let shop = Shop::empty(scene.bench, &scene.namespace).await?;
    let plan = Plan::default().with("/stepz", json!([{"weight": 100}]));
    let said = shop
        .try_kubectl(&["apply", "-f", "-"], &plan.to_string())
        .await?;
    ensure!(
        !said.ok && said.stderr.contains(r#"unknown field "spec.stepz""#),
        "{said}"
    );
    Ok(())
}

/// A Deployment `web` with its Service, and Deployments and Services that cannot be released.
fn objects() -> Vec<Value> {
    let changed = |mut object: Value, name: &str, fields: Value| {
        object["metadata"]["name"] = json!(name);
        for (field, value) in fields.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        object
    };
    let mut mounting = deployment("mounting", "v1");
    let pod = &mut mounting["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]);
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let idle = json!({"replicas": 0});
    vec![
        changed(deployment("web", "v1"), "web", idle.clone()),
        changed(deployment("taken", "v1"), "taken", idle.clone()),
        changed(mounting, "mounting", idle.clone()),
        changed(
            deployment("recreated", "v1"),
            "recreated",
            json!({"replicas": 0, "strategy": {"type": "Recreate"}}),
        ),
        claim,
        service(),
        changed(
            service(),
            "external",
            json!({"type": "ExternalName", "externalName": "elsewhere.test", "selector": null}),
        ),
        changed(service(), "headless", json!({"clusterIP": "None"})),
        changed(
            service(),
            "sessions",
            json!({"sessionAffinity": "ClientIP"}),
        ),
        changed(service(), "selectorless", json!({"selector": null})),
        changed(
            service(),
            "elsewhere",
            json!({"selector": {"app": "other"}}),
        ),
    ]
}

/// `base` with one field changed, or left out.
fn with(base: &Value, at: &str, value: Option<Value>) -> Value {
    let mut spec = base.clone();
    let Some((parent, field)) = at.rsplit_once('/') else {
        return value.unwrap_or(Value::Null);
    };
    let parent = spec.pointer_mut(parent);
    match (parent, value) {
        (Some(Value::Object(fields)), Some(value)) => {
            fields.insert(field.to_owned(), value);
        }
        (Some(Value::Object(fields)), None) => {
            fields.remove(field);
        }
        (Some(Value::Array(items)), Some(value)) => {
            let item = field.parse().ok().and_then(|i: usize| items.get_mut(i));
            *item.expect("the list has it") = value;
        }
        (_, _) => panic!("the spec has no {at}"),
    }
    spec
}

/// Why it is refused.
async fn refusal(shop: &Shop<'_>, spec: &Value) -> anyhow::Result<String> {
    refusal_of(shop, "tried", spec).await
}

async fn refusal_of(shop: &Shop<'_>, name: &str, spec: &Value) -> anyhow::Result<String> {
    let refused = admits(shop, name, spec).await?;
    refused.with_context(|| format!("it was admitted: {spec}"))
}

/// `None`: it would be stored; else why not.
async fn admits(shop: &Shop<'_>, name: &str, spec: &Value) -> anyhow::Result<Option<String>> {
    let kind = ApiResource::erase::<CanaryRollout>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(shop.bench.client.clone(), &shop.namespace, &kind);
    let mut object = DynamicObject::new(name, &kind);
    object.data = json!({"spec": spec});
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match api.create(&dry, &object).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => bail!(error),
    }
}

/// Waits until the operator knows the objects that it looks at.
async fn refused_with(shop: &Shop<'_>, spec: &Value, says: &str) -> anyhow::Result<()> {
    let mut last = None;
    loop {
        let said = admits(shop, "tried", spec).await?;
        if said.as_deref().is_some_and(|said| said.contains(says)) {
            return Ok(());
        }
        if last != said {
            eprintln!("{says:?}: not yet, but {said:?}");
            last = said;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
