//! What sidecars are made from, as the installation in a cluster says.

use std::path::PathBuf;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::options::{Options, PullPolicy};
use crate::{names, sidecar_image};
use clap::{Parser, ValueEnum};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installation {
    pub(super) image: String,
    pub(super) pull_policy: PullPolicy,
    pub(super) root_pem: String,
}

/// Where it is.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) context: Option<String>,
    pub(super) namespace: String,
}

#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    #[error(
        "no way to a cluster ({0}): set KUBECONFIG or --kubeconfig, or say --image and --root-certificate, with which no cluster is asked"
    )]
    NoCluster(String),
    #[error(
        "the cluster does not say {what}: {source}; name it with {flag}, or ask with an account that may read it"
    )]
    Unreadable {
        what: String,
        flag: &'static str,
        source: Box<kube::Error>,
    },
    #[error(
        "the operator has not written its certificate into MutatingWebhookConfiguration {name} yet: is it running? (kubectl -n {namespace} get pods); or name it with --root-certificate",
        name = names::OPERATOR
    )]
    NoRoot { namespace: String },
}

impl Source {
    pub(super) async fn ask(&self) -> Result<Installation, InstallationError> {
        let client = self.client().await?;
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let unreadable = |what: String, flag| {
            move |source| InstallationError::Unreadable {
                what,
                flag,
                source: Box::new(source),
            }
        };
        let what = format!("MutatingWebhookConfiguration {}", names::OPERATOR);
        let webhooks = webhooks.get(names::OPERATOR).await;
        let webhooks = webhooks.map_err(unreadable(what, "--root-certificate"))?;
        let deployments: Api<Deployment> = Api::namespaced(client, &self.namespace);
        let what = format!("Deployment {}/{}", self.namespace, names::OPERATOR);
        let deployment = deployments.get(names::OPERATOR).await;
        let deployment = deployment.map_err(unreadable(what, "--image"))?;
        let (image, pull_policy) = injects(&deployment);
        let root_pem = root(&webhooks).ok_or_else(|| InstallationError::NoRoot {
            namespace: self.namespace.clone(),
        })?;
        Ok(Installation {
            image,
            pull_policy,
            root_pem,
        })
    }

    async fn client(&self) -> Result<Client, InstallationError> {
        let no_cluster = |error: String| InstallationError::NoCluster(error);
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = if self.kubeconfig.is_none() && self.context.is_none() {
            Config::infer()
                .await
                .map_err(|error| no_cluster(error.to_string()))?
        } else {
            let kubeconfig = match &self.kubeconfig {
                Some(file) => Kubeconfig::read_from(file),
                None => Kubeconfig::read(),
            };
            let options = KubeConfigOptions {
                context: self.context.clone(),
                ..KubeConfigOptions::default()
            };
            let kubeconfig = kubeconfig.map_err(|error| no_cluster(error.to_string()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(|error| no_cluster(error.to_string()))?
        };
        Client::try_from(config).map_err(|error| no_cluster(error.to_string()))
    }
}

/// What the webhooks of the API server trust is what sidecars trust.
fn root(webhooks: &MutatingWebhookConfiguration) -> Option<String> {
    let mut bundles = webhooks.webhooks.iter().flatten();
    let bundle = bundles.find_map(|webhook| webhook.client_config.ca_bundle.clone())?;
    String::from_utf8(bundle.0)
        .ok()
        .filter(|pem| !pem.is_empty())
}

/// What the operator's environment or flags say, as far as they are written down there.
fn injects(deployment: &Deployment) -> (String, PullPolicy) {
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let containers = template.and_then(|template| Some(&template.spec.as_ref()?.containers));
    let containers = || containers.into_iter().flatten();
    let environment = |name: &str| {
        let mut variables = containers().flat_map(|container| container.env.iter().flatten());
        variables.find_map(|each| (each.name == name).then(|| each.value.clone())?)
    };
    let flag = |name: &str| {
        let mut args = containers().flat_map(|container| container.args.iter().flatten());
        args.find_map(|arg| Some(arg.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    };
    let defaults = Options::parse_from([names::OPERATOR]);
    let image = flag("--proxy-image").or_else(|| environment("AVIARY_PROXY_IMAGE"));
    let policy = flag("--proxy-image-pull-policy")
        .or_else(|| environment("AVIARY_PROXY_IMAGE_PULL_POLICY"))
        .and_then(|policy| PullPolicy::from_str(&policy, false).ok());
    (
        image
            .or_else(|| sidecar_image::named_in(template?.spec.as_ref()?))
            .unwrap_or_else(|| names::PROXY_IMAGE.to_owned()),
        policy.unwrap_or(defaults.proxy_image_pull_policy),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(pod: Value) -> Deployment {
        let spec = json!({"selector": {}, "template": {"spec": pod}});
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_is_injected_is_in_the_operators_flags_or_environment_or_its_own_pod() {
        let of = |container: Value| injects(&deployment(json!({"containers": [container]})));
        let own = json!({
            "initContainers": [{"name": "aviary-proxy", "image": "registry.example/proxy:3"}],
            "containers": [{"name": "operator"}],
        });
        assert_eq!(injects(&deployment(own)).0, "registry.example/proxy:3");
        assert_eq!(
            of(json!({"name": "operator", "env": [
                {"name": "AVIARY_PROXY_IMAGE", "value": "registry.example/proxy:1"},
                {"name": "AVIARY_PROXY_IMAGE_PULL_POLICY", "value": "Always"},
            ]})),
            ("registry.example/proxy:1".to_owned(), PullPolicy::Always)
        );
        assert_eq!(
            of(
                json!({"name": "operator", "args": ["--proxy-image=registry.example/proxy:2"], "env": [
                    {"name": "AVIARY_PROXY_IMAGE", "value": "registry.example/proxy:1"},
                ]})
            ),
            (
                "registry.example/proxy:2".to_owned(),
                PullPolicy::IfNotPresent
            )
        );
    }

    #[test]
    fn the_root_is_what_the_operator_wrote_for_the_api_server() {
        let webhooks = |bundle: Value| -> MutatingWebhookConfiguration {
            serde_json::from_value(json!({"metadata": {}, "webhooks": [{
                "name": "inject-by-pod.aviary.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"caBundle": bundle},
            }]}))
            .unwrap()
        };
        assert_eq!(root(&webhooks(json!("UEVN"))).as_deref(), Some("PEM"));
        assert_eq!(root(&webhooks(json!(null))), None);
        assert_eq!(root(&webhooks(json!(""))), None);
    }
}
