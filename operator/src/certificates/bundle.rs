//! Keeps the root in the `caBundle` of our webhooks, without which the API server does not trust the operator.
//!
//! A strategic merge patch that names webhooks by their merge key and sets nothing but `caBundle`: server-side apply
//! would own (and prune) whole entries of the list, and a JSON patch would count on their order. Manifests without
//! `caBundle` can be applied again and again; if anything takes it out all the same, the watch puts it back.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use kube_runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::names;

/// After a patch that failed; also how often the bundle is looked at when nothing is heard.
const RETRY: Duration = Duration::from_secs(30);

/// A list of webhooks.
trait Configuration:
    Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl Configuration for MutatingWebhookConfiguration {
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|w| (w.name.as_str(), &w.client_config))
            .collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|w| (w.name.as_str(), &w.client_config))
            .collect()
    }
}

/// Never returns.
pub(super) async fn keep(client: Client, root_pem: &str) {
    let bundle = ByteString(root_pem.as_bytes().to_vec());
    tokio::join!(
        keep_one(
            Api::<MutatingWebhookConfiguration>::all(client.clone()),
            &bundle
        ),
        keep_one(Api::<ValidatingWebhookConfiguration>::all(client), &bundle),
    );
}

async fn keep_one<C: Configuration>(configurations: Api<C>, bundle: &ByteString) {
    let kind = C::kind(&());
    let selected = watcher::Config::default().fields(&format!("metadata.name={}", names::OPERATOR));
    let mut changes = watcher(configurations.clone(), selected)
        .default_backoff()
        .applied_objects()
        .boxed();
    loop {
        match tokio::time::timeout(RETRY, changes.try_next()).await {
            Ok(Ok(Some(_))) | Err(_) => {}
            Ok(Ok(None)) => tokio::time::sleep(RETRY).await,
            Ok(Err(error)) => {
                tracing::warn!(%error, kind = %kind, "webhook configuration cannot be watched");
                continue;
            }
        }
        match put(&configurations, bundle).await {
            Ok(Put::Unchanged) => {}
            Ok(Put::Written) => tracing::info!(kind = %kind, "caBundle written"),
            Err(error) => {
                tracing::warn!(%error, kind = %kind, "caBundle not written, trying again")
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Unchanged,
    Written,
}

async fn put<C: Configuration>(configurations: &Api<C>, bundle: &ByteString) -> kube::Result<Put> {
    let Some(configuration) = configurations.get_opt(names::OPERATOR).await? else {
        return Ok(Put::Unchanged);
    };
    let Some(patch) = patch(&configuration, bundle) else {
        return Ok(Put::Unchanged);
    };
    let params = PatchParams {
        field_manager: Some(aviary_crds::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    configurations
        .patch(names::OPERATOR, &params, &Patch::Strategic(patch))
        .await?;
    Ok(Put::Written)
}

/// What to write into `configuration`, or nothing if every webhook has the bundle.
fn patch<C: Configuration>(configuration: &C, bundle: &ByteString) -> Option<Value> {
    let webhooks: Vec<Value> = configuration
        .clients()
        .into_iter()
        .filter(|(_, client)| client.ca_bundle.as_ref() != Some(bundle))
        .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    (!webhooks.is_empty()).then(|| json!({"webhooks": webhooks}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundles: [Option<&str>; 2]) -> ValidatingWebhookConfiguration {
        let webhook = |name: &str, bundle: Option<&str>| {
            json!({
                "name": name,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": {
                    "service": {"name": "aviary-operator", "namespace": "aviary-system"},
                    "caBundle": bundle.map(|b| ByteString(b.as_bytes().to_vec())),
                },
            })
        };
        serde_json::from_value(json!({
            "metadata": {"name": "aviary-operator"},
            "webhooks": [webhook("a.aviary.dev", bundles[0]), webhook("b.aviary.dev", bundles[1])],
        }))
        .unwrap()
    }

    #[test]
    fn only_the_bundle_of_webhooks_that_lack_it_is_written() {
        let root = ByteString(b"root".to_vec());
        assert_eq!(
            patch(&configuration([Some("root"), Some("root")]), &root),
            None
        );
        assert_eq!(
            patch(&configuration([Some("root"), Some("older root")]), &root),
            Some(
                json!({"webhooks": [{"name": "b.aviary.dev", "clientConfig": {"caBundle": "cm9vdA=="}}]})
            )
        );
        let both = patch(&configuration([None, None]), &root).unwrap();
        assert_eq!(both["webhooks"].as_array().unwrap().len(), 2);
    }
}
