//! A namespace with a Deployment, a Service and a CanaryRollout, all named `web`: the ground of one case.

use std::time::Duration;

use serde_json::{Value, json};

use super::seen::Views;
use super::{Bench, Ended, Evidence, PluginError, RunningPlugin, Seen};
use crate::harness::{KubectlError, NotInTime, Said};

/// Longer than anything takes on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error(transparent)]
    NotInTime(#[from] NotInTime),
    #[error("kubectl does not print JSON")]
    Json(#[from] serde_json::Error),
}

/// The spec of a CanaryRollout, fast enough for tests: steps 50 and 100, windows and soaks of a second.
#[derive(Clone, Debug)]
pub struct Plan(Value);

impl Default for Plan {
    fn default() -> Self {
        Plan(json!({
            "targetRef": {"kind": "Deployment", "name": "web"},
            "service": {"name": "web"},
            "steps": [{"weight": 50, "soak": "1s"}, {"weight": 100, "soak": "1s"}],
            "analysis": {
                "interval": "1s",
                "failureLimit": 2,
                "checks": [{"name": "errors", "prometheus": {"query": Evidence::QUERY, "atMost": 0}}],
                "noEvidence": {"hold": "10m", "then": "Pause"},
            },
            "progressDeadline": "10m",
        }))
    }
}

impl Plan {
    /// Puts a value into the spec: `with("/analysis/interval", json!("5s"))`.
    #[must_use]
    pub fn with(mut self, pointer: &str, value: Value) -> Plan {
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer begins with /");
        let parent = self.0.pointer_mut(parent);
        parent.expect("the plan has what is changed")[field] = value;
        self
    }

    /// Its first step, of this weight, soaks until something else ends the run.
    #[must_use]
    pub fn soaking_at(self, weight: i64) -> Plan {
        self.with(
            "/steps",
            json!([{"weight": weight, "soak": "1h"}, {"weight": 100, "soak": "1s"}]),
        )
    }
}

/// The manifest of the CanaryRollout.
impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "web"}, "spec": self.0,
        })
        .fmt(f)
    }
}

pub struct Shop<'a> {
    pub bench: &'a Bench,
    pub namespace: String,
    views: Views,
}

impl<'a> Shop<'a> {
    /// An empty namespace whose pods get sidecars.
    pub async fn empty(bench: &'a Bench, namespace: &str) -> Result<Shop<'a>, ShopError> {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"aviary.dev/inject": "enabled"}},
        });
        bench
            .kubectl
            .apply("default", &manifest.to_string())
            .await?;
        bench.evidence.set(namespace, 0);
        Ok(Shop {
            bench,
            namespace: namespace.to_owned(),
            views: Views::start(&bench.client, namespace),
        })
    }

    /// Version v1 serves with three pods, and nothing releases it.
    pub async fn with_deployment(
        bench: &'a Bench,
        namespace: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Shop<'a>, ShopError> {
        let shop = Shop::empty(bench, namespace).await?;
        let mut web = deployment("web", "v1");
        change(&mut web);
        shop.apply(&list(&[web, service()])).await?;
        shop.until("v1 serves", |seen| (seen.ready("v1") == 3).then_some(()))
            .await?;
        Ok(shop)
    }

    /// Version v1 serves, and the CanaryRollout is at rest.
    pub async fn open(
        bench: &'a Bench,
        namespace: &str,
        plan: &Plan,
    ) -> Result<Shop<'a>, ShopError> {
        let shop = Shop::with_deployment(bench, namespace, |_| {}).await?;
        shop.adopt(plan).await?;
        Ok(shop)
    }

    /// Applies the CanaryRollout and waits until it is at rest.
    pub async fn adopt(&self, plan: &Plan) -> Result<(), ShopError> {
        self.plan(plan).await?;
        self.until("the Deployment is adopted", |seen| {
            seen.is_stable().then_some(())
        })
        .await?;
        Ok(())
    }

    pub async fn plan(&self, plan: &Plan) -> Result<Said, ShopError> {
        self.apply(&plan.to_string()).await
    }

    /// `kubectl apply -f -`
    pub async fn apply(&self, manifest: &str) -> Result<Said, ShopError> {
        Ok(self.bench.kubectl.apply(&self.namespace, manifest).await?)
    }

    /// kubectl in this namespace; it has to succeed.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Said, ShopError> {
        let namespace = format!("--namespace={}", self.namespace);
        let args = [args, &[&namespace]].concat();
        Ok(self.bench.kubectl.ok(&args).await?)
    }

    /// kubectl in this namespace; that it fails is an answer too.
    pub async fn try_kubectl(&self, args: &[&str], input: &str) -> Result<Said, ShopError> {
        let namespace = format!("--namespace={}", self.namespace);
        let args = [args, &[&namespace]].concat();
        Ok(self.bench.kubectl.run_with(&args, input).await?)
    }

    /// `kubectl set image`
    pub async fn change_to(&self, version: &str) -> Result<Said, ShopError> {
        let image = format!("app={}", image(version));
        self.kubectl(&["set", "image", "deployment/web", &image])
            .await
    }

    /// Changes the template and waits until its canary soaks.
    pub async fn soak(&self, version: &str) -> Result<Seen, ShopError> {
        self.change_to(version).await?;
        self.until(&format!("{version} soaks"), |seen| {
            let soaks = seen.phase() == "Soaking" && seen.copies_are(version);
            soaks.then(|| seen.clone())
        })
        .await
    }

    /// Changes the template and waits until everyone has it.
    pub async fn release(&self, version: &str) -> Result<Seen, ShopError> {
        let before = self.seen().stable().to_owned();
        self.change_to(version).await?;
        self.until(&format!("{version} is promoted"), |seen| {
            let promoted = seen.is_stable() && seen.stable() != before && seen.copies().is_empty();
            (promoted && seen.ready(version) == 3).then(|| seen.clone())
        })
        .await
    }

    /// Changes the template to one whose checks fail, and waits until it is rolled back.
    pub async fn fail(&self, version: &str) -> Result<Seen, ShopError> {
        self.bench.evidence.set(&self.namespace, 9);
        self.change_to(version).await?;
        let failed = self
            .until(&format!("{version} is rolled back"), |seen| {
                let over = seen.phase() == "Failed" && seen.copies().is_empty();
                over.then(|| seen.clone())
            })
            .await?;
        self.bench.evidence.set(&self.namespace, 0);
        Ok(failed)
    }

    /// `kubectl aviary` in this namespace, run to its end.
    pub async fn plugin(&self, args: &[&str]) -> Result<Ended, PluginError> {
        let namespace = format!("--namespace={}", self.namespace);
        let args = [args, &[&namespace]].concat();
        self.bench.plugin().await?.run(&args).await
    }

    /// The same, to be listened to while it runs.
    pub async fn start_plugin(&self, args: &[&str]) -> Result<RunningPlugin, PluginError> {
        let namespace = format!("--namespace={}", self.namespace);
        let args = [args, &[&namespace]].concat();
        self.bench.plugin().await?.start(&args)
    }

    pub fn seen(&self) -> Seen {
        self.views.seen()
    }

    /// Waits until `look` finds it.
    pub async fn until<T>(
        &self,
        what: &str,
        look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T, ShopError> {
        Ok(self.views.until(what, PATIENCE, look).await?)
    }

    /// The same with a patience of its own.
    pub async fn until_within<T>(
        &self,
        within: Duration,
        what: &str,
        look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T, ShopError> {
        Ok(self.views.until(what, within, look).await?)
    }

    /// Fails as soon as `look` finds it, for as long as a release of this plan would take.
    pub async fn never<T>(
        &self,
        what: &str,
        within: Duration,
        look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<(), Seen> {
        match self.views.until(what, within, look).await {
            Ok(_) => Err(self.seen()),
            Err(_) => Ok(()),
        }
    }

    /// What the API server has now, not what the watches have shown.
    pub async fn get(&self, what: &str) -> Result<Value, ShopError> {
        let said = self.kubectl(&["get", what, "--output=json"]).await?;
        Ok(serde_json::from_str(&said.stdout)?)
    }

    /// Leaves the namespace to the controllers.
    pub async fn close(&self) -> Result<(), ShopError> {
        let delete = ["delete", "namespace", &self.namespace, "--wait=false"];
        self.bench.kubectl.ok(&delete).await?;
        Ok(())
    }
}

/// `web` in a version, or another Deployment of the same kind.
pub fn deployment(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "app", "image": image(version), "resources": {"requests": {"cpu": "1m"}}}],
                },
            },
        },
    })
}

pub fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

pub fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn image(version: &str) -> String {
    format!("shop.test/app:{version}")
}
