//! The handlers, called as the API server calls them.

use std::convert::Infallible;

use aviary_crds::CanaryRollout;
use aviary_crds::status::Phase;
use axum::body::Body;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::gate::{Look, LookError, RolloutFacts};
use super::rollout::{Facts, LookupError};
use super::*;
use crate::options::PullPolicy;
use crate::revision::revision;

/// One CanaryRollout, `payment` in `shop`, at the template v1.
struct One;

impl Rollouts for One {
    fn get(&self, namespace: &str, name: &str) -> Option<RolloutFacts> {
        ((namespace, name) == ("shop", "payment")).then(|| RolloutFacts {
            name: "payment".to_owned(),
            target: "payment".to_owned(),
            weights: vec![1, 100],
            stable: Some(revision(&template("v1"))),
            canary: None,
            failed: None,
            phase: Some(Phase::Stable),
            suspended: false,
            deleting: false,
            illegible: false,
        })
    }

    fn look<'a>(&'a self, namespace: &'a str, name: &'a str) -> Look<'a> {
        Box::pin(async move { Ok(self.get(namespace, name)) })
    }
}

/// What it watches is behind: it has heard of none, or of one that released another Deployment. It asks, if it is answered.
struct Behind {
    heard: Option<RolloutFacts>,
    answered: bool,
}

impl Rollouts for Behind {
    fn get(&self, _: &str, _: &str) -> Option<RolloutFacts> {
        self.heard.clone()
    }

    fn look<'a>(&'a self, namespace: &'a str, name: &'a str) -> Look<'a> {
        Box::pin(async move {
            match self.answered {
                true => Ok(One.get(namespace, name)),
                false => Err(LookError::Timeout),
            }
        })
    }
}

struct NotYet;

impl Rollouts for NotYet {
    fn get(&self, _: &str, _: &str) -> Option<RolloutFacts> {
        None
    }

    fn look<'a>(&'a self, _: &'a str, _: &'a str) -> Look<'a> {
        Box::pin(async { Ok(None) })
    }

    fn synced(&self) -> bool {
        false
    }
}

struct Nothing;

impl Lookup for Nothing {
    fn facts<'a>(&'a self, _: &'a CanaryRollout) -> BoxFuture<'a, Result<Facts, LookupError>> {
        Box::pin(async { Ok(Facts::default()) })
    }
}

fn admission(rollouts: impl Rollouts + 'static) -> Admission {
    Admission {
        injector: Arc::new(Injector {
            image: "proxy:1".to_owned(),
            pull_policy: PullPolicy::Never,
            namespace: "aviary-system".to_owned(),
            root_pem: "PEM".to_owned(),
            mark: "1".to_owned(),
            demanded: Default::default(),
            policies: None,
            namespaces: None,
        }),
        rollouts: Arc::new(rollouts),
        lookup: Arc::new(Nothing),
        metrics: Metrics::default(),
    }
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "payment"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "payment", "namespace": "shop", "labels": {"aviary.dev/rollout": "payment"}},
        "spec": {"template": template(image)},
    })
}

/// An AdmissionReview as a 1.36 API server sends it.
fn review(kind: Value, resource: Value, operation: &str, old: Value, new: Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": new["metadata"]["name"],
            "namespace": "shop",
            "operation": operation,
            "userInfo": {"username": "kubernetes-admin", "groups": ["system:authenticated"], "extra": {"x": ["y"]}},
            "object": new,
            "oldObject": old,
            "dryRun": false,
            "options": {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl-edit"},
        }
    })
}

fn deployment_review(old: Value, new: Value) -> Value {
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let resource = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    review(kind, resource, "UPDATE", old, new)
}

async fn call(admission: Admission, path: &str, body: Value) -> (StatusCode, Vec<u8>) {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let response: Result<_, Infallible> = router(admission).oneshot(request).await;
    let response = response.unwrap();
    let status = response.status();
    (
        status,
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
}

async fn ask(admission: Admission, path: &str, body: Value) -> Value {
    let (status, body) = call(admission, path, body).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let review: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(review["kind"], "AdmissionReview");
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(
        review["response"]["uid"],
        "705ab4f5-6393-11e8-b7cc-42010a800002"
    );
    review["response"].clone()
}

fn patch(response: &Value) -> Value {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    serde_json::from_slice(&bytes.0).unwrap()
}

#[tokio::test]
async fn the_gate_pauses_over_http() {
    let body = deployment_review(deployment("v1"), deployment("v2"));
    let response = ask(admission(One), "/gate", body).await;
    assert_eq!(response["allowed"], json!(true));
    assert_eq!(response["patchType"], "JSONPatch");
    assert_eq!(
        patch(&response),
        json!([{"op": "add", "path": "/spec/paused", "value": true}])
    );
    assert_eq!(response["warnings"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_gate_lets_go_of_a_deployment_without_a_rollout() {
    let mut old = deployment("v1");
    old["metadata"]["labels"]["aviary.dev/rollout"] = json!("gone");
    let mut new = deployment("v2");
    new["metadata"]["labels"]["aviary.dev/rollout"] = json!("gone");
    let response = ask(admission(One), "/gate", deployment_review(old, new)).await;
    assert_eq!(
        patch(&response),
        json!([{"op": "remove", "path": "/metadata/labels/aviary.dev~1rollout"}])
    );
}

#[tokio::test]
async fn the_gate_asks_before_it_lets_go_of_a_deployment() {
    let other = RolloutFacts {
        target: "another".to_owned(),
        ..RolloutFacts::default()
    };
    for heard in [None, Some(other)] {
        let behind = |answered| Behind {
            heard: heard.clone(),
            answered,
        };
        let body = || deployment_review(deployment("v1"), deployment("v2"));
        let response = ask(admission(behind(true)), "/gate", body()).await;
        assert_eq!(
            patch(&response),
            json!([{"op": "add", "path": "/spec/paused", "value": true}]),
            "{heard:?}"
        );
        // Whoever takes the label away at once gets no further.
        let mut without = deployment("v2");
        without["metadata"]["labels"] = json!({});
        let unlabelled = deployment_review(deployment("v1"), without);
        let response = ask(admission(behind(true)), "/gate", unlabelled).await;
        let edits = patch(&response);
        assert!(edits.to_string().contains("aviary.dev~1rollout"), "{edits}");
        let (status, text) = call(admission(behind(false)), "/gate", body()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("try again in a moment"), "{text}");
    }
}

#[tokio::test]
async fn the_gate_does_not_guess_before_it_knows_the_rollouts() {
    let body = deployment_review(deployment("v1"), deployment("v2"));
    let (status, text) = call(admission(NotYet), "/gate", body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        String::from_utf8(text)
            .unwrap()
            .contains("try again in a moment")
    );
}

#[tokio::test]
async fn a_pod_gets_its_sidecar_over_http() {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "payment-", "creationTimestamp": null},
        "spec": {"containers": [{"name": "app", "image": "shop/payment:1", "resources": {}}]},
    });
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    let body = review(kind, resource, "CREATE", Value::Null, pod.clone());
    // The API server leaves the name out of the review of a generated name, and may write null.
    let response = ask(admission(One), "/inject", {
        let mut body = body;
        body["request"].as_object_mut().unwrap().remove("name");
        body
    })
    .await;
    let mut injected = pod;
    let operations: json_patch::Patch = serde_json::from_value(patch(&response)).unwrap();
    json_patch::patch(&mut injected, &operations).unwrap();
    assert_eq!(
        injected["spec"]["initContainers"][1]["name"],
        "aviary-proxy"
    );
    assert_eq!(
        injected["spec"]["initContainers"][1]["imagePullPolicy"],
        "Never"
    );
}

#[tokio::test]
async fn a_pod_with_a_bad_annotation_is_refused_by_name() {
    let pod = json!({
        "metadata": {"name": "payment-0", "annotations": {"aviary.dev/skip-inbound-ports": "http"}},
        "spec": {"containers": []},
    });
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let body = review(kind.clone(), kind, "CREATE", Value::Null, pod);
    let response = ask(admission(One), "/inject", body).await;
    assert_eq!(response["allowed"], json!(false));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("pod shop/payment-0: annotation aviary.dev/skip-inbound-ports: 'http'"),
        "{message}"
    );
}

#[tokio::test]
async fn a_rollout_before_its_deployment_is_admitted_with_warnings() {
    let rollout = json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"name": "payment", "namespace": "shop"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
    });
    let kind = json!({"group": "aviary.dev", "version": "v1alpha1", "kind": "CanaryRollout"});
    let body = review(kind.clone(), kind, "CREATE", Value::Null, rollout);
    let response = ask(admission(One), "/validate", body).await;
    assert_eq!(response["allowed"], json!(true));
    assert_eq!(response["warnings"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_request_gets_its_name_over_http() {
    let rollout = json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"name": "payment", "namespace": "shop"},
    });
    let mut asked = rollout.clone();
    asked["metadata"]["annotations"] = json!({"aviary.dev/request": "abort:7f9c2a41d0"});
    let kind = json!({"group": "aviary.dev", "version": "v1alpha1", "kind": "CanaryRollout"});
    let body = review(kind.clone(), kind, "UPDATE", rollout, asked);
    let response = ask(admission(One), "/request", body).await;
    assert_eq!(
        patch(&response),
        json!([{
            "op": "add",
            "path": "/metadata/annotations/aviary.dev~1requested-by",
            "value": "kubernetes-admin",
        }])
    );
}

#[tokio::test]
async fn answers_are_counted() {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let admission = Admission {
        metrics,
        ..admission(One)
    };
    ask(
        admission,
        "/gate",
        deployment_review(deployment("v1"), deployment("v2")),
    )
    .await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(
        text.contains(r#"aviary_admission_answers_total{webhook="gate",answer="patch"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_no_review_is_refused() {
    let (status, _) = call(admission(One), "/gate", json!({"hello": 1})).await;
    assert!(status.is_client_error());
}
