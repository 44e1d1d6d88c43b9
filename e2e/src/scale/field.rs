//! Many rollouts, a hundred to a namespace: each with a Deployment, a Service and a pod with a sidecar.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::gvk::GroupVersionKind;
use kube::{Client, Error};
use serde_json::{Value, json};

use crate::control_plane::Evidence;

const EACH_NAMESPACE: usize = 100;
/// Requests at the same time.
const AT_ONCE: usize = 24;
/// The namespace of the Service that all callers call, and the name of all that belongs to it.
pub const CALLED: &str = "called";

#[derive(Debug, thiserror::Error)]
#[error("the API server did not take {what}")]
pub struct FieldError {
    what: String,
    source: Error,
}

/// Makes and changes objects as an administrator.
#[derive(Clone)]
pub struct Field {
    client: Client,
}

/// Where the rollout of this number is.
pub fn namespace_of(number: usize) -> String {
    format!("scale-{}", number / EACH_NAMESPACE)
}

fn name_of(number: usize) -> String {
    format!("web-{number}")
}

impl Field {
    pub fn new(client: Client) -> Field {
        Field { client }
    }

    /// So many rollouts, whose steps soak for so many seconds. `progress` hears how many are there.
    pub async fn plant(
        &self,
        rollouts: usize,
        soak: u64,
        evidence: &Evidence,
        progress: impl Fn(usize),
    ) -> Result<(), FieldError> {
        for first in (0..rollouts).step_by(EACH_NAMESPACE) {
            let namespace = namespace_of(first);
            evidence.set(&namespace, 0);
            self.namespace(&namespace).await?;
        }
        let planted = AtomicUsize::new(0);
        self.each(0..rollouts, |number| {
            let planted = &planted;
            let progress = &progress;
            async move {
                let (namespace, name) = (namespace_of(number), name_of(number));
                self.create(&namespace, deployment(&name, 1)).await?;
                self.create(&namespace, service(&name, 1)).await?;
                let steps = steps(&[1, 10, 50, 100], &format!("{soak}s"));
                self.create(&namespace, rollout(&name, &name, &steps, "30s"))
                    .await?;
                let planted = planted.fetch_add(1, Ordering::Relaxed) + 1;
                if planted.is_multiple_of(500) {
                    progress(planted);
                }
                Ok(())
            }
        })
        .await
    }

    /// Another version of the first so many rollouts, one after the other.
    pub async fn change(
        &self,
        rollouts: usize,
        version: &str,
        pace: Duration,
    ) -> Result<(), FieldError> {
        let mut ticks = tokio::time::interval(pace);
        for number in 0..rollouts {
            ticks.tick().await;
            let (namespace, name) = (namespace_of(number), name_of(number));
            self.set_image(&namespace, &name, version).await?;
        }
        Ok(())
    }

    pub async fn set_image(
        &self,
        namespace: &str,
        name: &str,
        version: &str,
    ) -> Result<(), FieldError> {
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image(version)}]}}}});
        let api = self.api("apps", "v1", "Deployment", namespace);
        let patched = api
            .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        patched.map(drop).map_err(|source| FieldError {
            what: format!("another version of {namespace}/{name}"),
            source,
        })
    }

    /// One rollout of many steps, and so many pods that may call its Service.
    /// `soak` is how long each of its weights is watched.
    pub async fn called(
        &self,
        callers: usize,
        soak: &str,
        evidence: &Evidence,
    ) -> Result<(), FieldError> {
        evidence.set(CALLED, 0);
        self.namespace(CALLED).await?;
        self.create(CALLED, deployment(CALLED, 1)).await?;
        self.create(CALLED, service(CALLED, 1)).await?;
        let weights: Vec<i64> = (1..=19).map(|step| step * 5).chain([100]).collect();
        self.create(
            CALLED,
            rollout(CALLED, CALLED, &steps(&weights, soak), "1s"),
        )
        .await?;
        self.create(CALLED, deployment("callers", callers)).await
    }

    /// CanaryRollouts that can never work: their Deployment or Service does not exist, or belongs to another one.
    pub async fn break_many(&self, rollouts: usize) -> Result<(), FieldError> {
        self.namespace("broken").await?;
        self.create("broken", deployment("shared", 1)).await?;
        self.create("broken", service("shared", 1)).await?;
        self.each(0..rollouts, |number| async move {
            let name = format!("broken-{number}");
            let nowhere = format!("nowhere-{number}");
            let (target, service) = match number % 3 {
                0 => (nowhere.as_str(), "shared"),
                1 => ("shared", nowhere.as_str()),
                _ => ("shared", "shared"),
            };
            let mut broken = rollout(&name, target, &steps(&[1, 100], "1s"), "1s");
            broken["spec"]["service"]["name"] = json!(service);
            match self.create("broken", broken).await {
                // Refused by the webhook: that is one answer to bad input.
                Err(FieldError {
                    source: Error::Api(status),
                    ..
                }) if status.code < 500 => Ok(()),
                other => other,
            }
        })
        .await
    }

    /// A rollout whose Deployment has so many pods.
    pub async fn of_pods(&self, pods: usize, evidence: &Evidence) -> Result<(), FieldError> {
        self.large("large", [pods, 1, 0], evidence).await
    }

    /// A rollout whose Service has so many ports.
    pub async fn of_ports(&self, ports: usize, evidence: &Evidence) -> Result<(), FieldError> {
        self.large("ports", [1, ports, 0], evidence).await
    }

    /// A rollout in a namespace with so many other Services.
    pub async fn among_services(
        &self,
        services: usize,
        evidence: &Evidence,
    ) -> Result<(), FieldError> {
        self.large("crowd", [1, 1, services], evidence).await
    }

    /// How many pods of this Deployment are Ready.
    pub async fn ready(&self, namespace: &str, name: &str) -> Result<usize, FieldError> {
        let api = self.api("apps", "v1", "Deployment", namespace);
        let deployment = api.get(name).await.map_err(|source| FieldError {
            what: format!("a question for {namespace}/{name}"),
            source,
        })?;
        let ready = deployment.data.pointer("/status/readyReplicas");
        Ok(ready
            .and_then(Value::as_u64)
            .and_then(|ready| usize::try_from(ready).ok())
            .unwrap_or(0))
    }

    async fn large(
        &self,
        namespace: &str,
        [pods, ports, services]: [usize; 3],
        evidence: &Evidence,
    ) -> Result<(), FieldError> {
        evidence.set(namespace, 0);
        self.namespace(namespace).await?;
        self.create(namespace, deployment("web", pods)).await?;
        self.create(namespace, service("web", ports)).await?;
        self.each(0..services, |number| async move {
            self.create(namespace, service(&format!("other-{number}"), 1))
                .await
        })
        .await?;
        self.create(
            namespace,
            rollout("web", "web", &steps(&[50, 100], "1s"), "1s"),
        )
        .await
    }

    async fn namespace(&self, name: &str) -> Result<(), FieldError> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"aviary.dev/inject": "enabled"}},
        });
        self.create("", namespace).await
    }

    /// Something that is there already stays as it is.
    async fn create(&self, namespace: &str, object: Value) -> Result<(), FieldError> {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (group, kind) = (text("/apiVersion"), text("/kind"));
        let what = format!("{kind} {namespace}/{}", text("/metadata/name"));
        let (group, version) = group.split_once('/').unwrap_or(("", &group));
        let api = self.api(group, version, &kind, namespace);
        let failed = |source| FieldError {
            what: what.clone(),
            source,
        };
        let object =
            serde_json::from_value(object).map_err(|error| failed(Error::SerdeError(error)))?;
        match api.create(&PostParams::default(), &object).await {
            Err(Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
            other => other.map(drop).map_err(failed),
        }
    }

    fn api(&self, group: &str, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    async fn each<F>(
        &self,
        numbers: std::ops::Range<usize>,
        work: impl Fn(usize) -> F,
    ) -> Result<(), FieldError>
    where
        F: Future<Output = Result<(), FieldError>>,
    {
        stream::iter(numbers)
            .map(work)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }
}

fn deployment(name: &str, replicas: usize) -> Value {
    let mut deployment = crate::control_plane::deployment(name, "v1");
    deployment["spec"]["replicas"] = json!(replicas);
    deployment
}

fn service(name: &str, ports: usize) -> Value {
    let ports: Vec<Value> = (0..ports)
        .map(|port| json!({"name": format!("http-{port}"), "port": 80 + port, "targetPort": 8080}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports},
    })
}

fn steps(weights: &[i64], soak: &str) -> Value {
    weights
        .iter()
        .map(|weight| json!({"weight": weight, "soak": soak}))
        .collect()
}

fn rollout(name: &str, target: &str, steps: &Value, interval: &str) -> Value {
    json!({
        "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout", "metadata": {"name": name},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": target},
            "service": {"name": target},
            "steps": steps,
            "analysis": {
                "interval": interval,
                "checks": [{"name": "errors", "prometheus": {"query": Evidence::QUERY, "atMost": 0}}],
            },
        },
    })
}

fn image(version: &str) -> String {
    format!("shop.test/app:{version}")
}
