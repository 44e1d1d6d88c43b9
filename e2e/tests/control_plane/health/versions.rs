//! Every version of a CanaryRollout and of its Deployment, as a watch tells of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use aviary_e2e::control_plane::Shop;
use aviary_e2e::harness::{Waited, eventually};
use futures::StreamExt;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::gvk::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use tokio::task::JoinSet;

pub(crate) struct Versions {
    all: Arc<Mutex<Vec<Value>>>,
    _watches: JoinSet<()>,
}

impl Versions {
    /// Of both that are named `web`, from now on.
    pub(crate) fn of_web(shop: &Shop<'_>) -> Versions {
        let all = Arc::new(Mutex::new(Vec::new()));
        let mut watches = JoinSet::new();
        for (group, version, kind) in [
            ("aviary.dev", "v1alpha1", "CanaryRollout"),
            ("apps", "v1", "Deployment"),
        ] {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let client = shop.bench.client.clone();
            let api: Api<DynamicObject> = Api::namespaced_with(client, &shop.namespace, &resource);
            let web = watcher::Config::default().fields("metadata.name=web");
            let all = Arc::clone(&all);
            watches.spawn(async move {
                let mut seen = watcher(api, web).default_backoff().boxed();
                while let Some(event) = seen.next().await {
                    let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) =
                        event
                    else {
                        continue;
                    };
                    let Ok(mut object) = serde_json::to_value(object) else {
                        continue;
                    };
                    object["apiVersion"] = resource.api_version.clone().into();
                    object["kind"] = resource.kind.clone().into();
                    all.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(object);
                }
            });
        }
        Versions {
            all,
            _watches: watches,
        }
    }

    /// Those of a kind, oldest first.
    pub(crate) fn of(&self, kind: &str) -> Vec<Value> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|each| each["kind"] == kind)
            .cloned()
            .collect()
    }

    /// Waits until what the API server has now was told.
    pub(crate) async fn caught_up(&self, shop: &Shop<'_>) -> anyhow::Result<()> {
        for (what, kind) in [
            ("canaryrollout/web", "CanaryRollout"),
            ("deployment/web", "Deployment"),
        ] {
            let now = shop.get(what).await?;
            let version = &now["metadata"]["resourceVersion"];
            ensure!(version.is_string());
            eventually("its watch has told it", Duration::from_secs(60), || async {
                let all = self.of(kind);
                let mut all = all.iter().map(|each| &each["metadata"]["resourceVersion"]);
                if all.any(|told| told == version) {
                    Waited::There(())
                } else {
                    Waited::not_yet(version)
                }
            })
            .await?;
        }
        Ok(())
    }
}

/// One of the conditions of an object.
pub(crate) fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|each| each["type"] == type_)
}
