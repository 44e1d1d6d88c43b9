//! What the cluster says about itself: asked for, and not judged.

use std::fmt::Debug;

use aviary_crds::{CanaryRollout, INJECT_LABEL};
use futures::future::join_all;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::configuration::{self, Known};
use super::ours::{self, Type};
use super::read::Read;
use super::sidecar::sidecar;
use crate::cluster::{Cluster, ClusterError, OPERATOR, OPERATOR_ADMIN};
use crate::template::Template;

/// The installation.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) version: Info,
    pub(super) namespace: String,
    pub(super) types: Vec<Type>,
    pub(super) operator: Read<Deployment>,
    /// Who decides, of the operator's replicas.
    pub(super) lease: Read<Lease>,
    pub(super) mutating: Read<MutatingWebhookConfiguration>,
    pub(super) validating: Read<ValidatingWebhookConfiguration>,
    /// Whether a pod that asks for a sidecar gets one; `Unknown`: what was said instead.
    pub(super) injected: Read<bool>,
    /// The operator's own metrics, as text.
    pub(super) metrics: Read<String>,
}

impl Facts {
    /// The image of the sidecars that the operator gives out.
    pub(super) fn proxy_image(&self) -> Option<&str> {
        let pod = self
            .operator
            .there()?
            .spec
            .as_ref()?
            .template
            .spec
            .as_ref()?;
        let mut variables = pod.containers.iter().flat_map(|it| it.env.iter().flatten());
        let named = variables.find(|it| it.name == "AVIARY_PROXY_IMAGE");
        let mut first = pod.init_containers.iter().flatten();
        let own = first.find(|it| it.name == "aviary-proxy");
        let named = named.and_then(|it| it.value.as_deref());
        named.or_else(|| own?.image.as_deref())
    }
}

/// A namespace that asked for sidecars, or that is looked at, and its pods.
#[derive(Debug)]
pub(super) struct Pods {
    pub(super) namespace: String,
    pub(super) injects: bool,
    pub(super) pods: Vec<Pod>,
}

/// A release, and what it depends on.
#[derive(Debug)]
pub(super) struct ReleaseFacts {
    pub(super) rollout: CanaryRollout,
    pub(super) deployment: Read<Deployment>,
    /// By the operator's rule.
    pub(super) template: Option<Template>,
    pub(super) service: Read<Service>,
    pub(super) autoscalers: Read<Vec<HorizontalPodAutoscaler>>,
    pub(super) budgets: Read<Vec<PodDisruptionBudget>>,
    /// What its pods need.
    pub(super) configuration: Vec<Known>,
}

pub(super) async fn of_installation(
    cluster: &Cluster,
    namespace: &str,
) -> Result<Facts, ClusterError> {
    let client = cluster.client();
    let version = client.apiserver_version().await;
    let version = version.map_err(|error| ClusterError::of("ask for the version", error))?;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let operators: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let (types, operator, lease, mutating, validating, injected, metrics) = tokio::join!(
        types(&crds),
        operators.get_opt(OPERATOR),
        leases.get_opt(OPERATOR),
        mutating.get_opt(OPERATOR),
        validating.get_opt(OPERATOR),
        injected(cluster, namespace),
        metrics(cluster, namespace),
    );
    Ok(Facts {
        version,
        namespace: namespace.to_owned(),
        types,
        operator: Read::of("read Deployments of the operator's namespace", operator),
        lease: Read::of("read the operator's Lease", lease),
        mutating: Read::of("read MutatingWebhookConfigurations", mutating),
        validating: Read::of("read ValidatingWebhookConfigurations", validating),
        injected,
        metrics,
    })
}

async fn types(crds: &Api<CustomResourceDefinition>) -> Vec<Type> {
    let read = ours::all().map(|ours| async {
        let theirs = crds.get_opt(&ours.name_any()).await;
        let theirs = Read::of("read CustomResourceDefinitions", theirs);
        Type { ours, theirs }
    });
    join_all(read).await
}

/// A pod that asks for a sidecar is created, in all but fact (`dryRun`). It is as restricted as a namespace can want.
async fn injected(cluster: &Cluster, operator: &str) -> Read<bool> {
    // Nobody gets one in these, however much they ask.
    let namespace = match cluster.namespace() {
        here if here == operator || here == "kube-system" => "default",
        here => here,
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "aviary-check", "labels": {INJECT_LABEL: "true"}},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": "aviary.local/check",
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), namespace);
    let pod: Pod = serde_json::from_value(pod).expect("it is a pod");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match pods.create(&dry, &pod).await {
        Ok(pod) => Read::There(sidecar(&pod).is_some()),
        Err(error) => {
            Read::Unknown(ClusterError::of("create pods here, to try one", error).to_string())
        }
    }
}

/// Of the replica that decides, through the API server.
async fn metrics(cluster: &Cluster, namespace: &str) -> Read<String> {
    let pod = match cluster.operator_pod(namespace).await {
        Ok(pod) => pod,
        Err(error) => return Read::Unknown(error.to_string()),
    };
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{OPERATOR_ADMIN}/proxy/metrics");
    let request = http::Request::get(path)
        .body(Vec::new())
        .expect("it is a path");
    let text = cluster.client().request_text(request).await;
    Read::of("read the operator's metrics (pods/proxy)", text.map(Some))
}

/// Those of the namespaces that asked for sidecars; `alone`: of this namespace, whether or not it has.
pub(super) async fn of_pods(cluster: &Cluster, alone: bool) -> Read<Vec<Pods>> {
    let namespaces: Api<Namespace> = Api::all(cluster.client().clone());
    let found = if alone {
        let found = namespaces.get_opt(cluster.namespace()).await;
        found.map(|found| found.into_iter().collect())
    } else {
        let asks = ListParams::default().labels(&format!("{INJECT_LABEL}=enabled"));
        namespaces.list(&asks).await.map(|list| list.items)
    };
    let found: Vec<Namespace> = match Read::of("read Namespaces", found.map(Some)) {
        Read::There(found) => found,
        Read::Absent => return Read::Absent,
        Read::Unknown(why) => return Read::Unknown(why),
    };
    let mut all = Vec::new();
    for namespace in found {
        match list::<Pod>(cluster.client(), &namespace.name_any(), "list pods").await {
            Read::There(pods) => all.push(Pods {
                namespace: namespace.name_any(),
                injects: namespace
                    .labels()
                    .get(INJECT_LABEL)
                    .is_some_and(|it| it == "enabled"),
                pods,
            }),
            Read::Absent => {}
            Read::Unknown(why) => return Read::Unknown(why),
        }
    }
    Read::There(all)
}

pub(super) async fn of_release(
    cluster: &Cluster,
    name: &str,
) -> Result<ReleaseFacts, ClusterError> {
    let rollout = cluster.rollout(name).await?;
    let (client, namespace) = (cluster.client(), cluster.namespace());
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let (deployment, template, service, autoscalers, budgets, sets) = tokio::join!(
        deployments.get_opt(&rollout.spec.target_ref.name),
        cluster.template(&rollout),
        services.get_opt(&rollout.spec.service.name),
        list(client, namespace, "list HorizontalPodAutoscalers"),
        list(client, namespace, "list PodDisruptionBudgets"),
        list(client, namespace, "list ReplicaSets"),
    );
    let deployment = Read::of("read Deployments", deployment);
    Ok(ReleaseFacts {
        configuration: configuration::read(client, namespace, &deployment, &sets).await,
        deployment,
        template: template.ok().flatten(),
        service: Read::of("read Services", service),
        autoscalers,
        budgets,
        rollout,
    })
}

async fn list<K>(client: &Client, namespace: &str, what: &'static str) -> Read<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let list = api.list(&ListParams::default()).await;
    Read::of(what, list.map(|list| Some(list.items)))
}
