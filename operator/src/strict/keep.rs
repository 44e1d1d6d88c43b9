//! Where it is written down which namespaces refuse plaintext: a ConfigMap with a key for each.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use aviary_crds::FIELD_MANAGER;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Demanded;
use crate::names;

/// The value of each key.
const STRICT: &str = "strict";

#[derive(Clone)]
pub struct Kept {
    maps: Api<ConfigMap>,
    /// May be silent for minutes.
    watched: Api<ConfigMap>,
}

#[derive(Debug, thiserror::Error)]
#[error("ConfigMap {name}: {verb} failed", name = names::STRICT_CONFIG_MAP)]
pub struct KeepError {
    verb: &'static str,
    source: kube::Error,
}

impl Kept {
    /// In the operator's own namespace.
    pub fn new(client: Client, watching: Client, namespace: &str) -> Kept {
        Kept {
            maps: Api::namespaced(client, namespace),
            watched: Api::namespaced(watching, namespace),
        }
    }

    /// Takes over what another replica writes, until `end`.
    pub async fn follow(self, demanded: Demanded, end: CancellationToken) {
        let changes = watcher::watch_object(self.watched.clone(), names::STRICT_CONFIG_MAP);
        let mut changes = pin!(changes.default_backoff());
        loop {
            let found = tokio::select! {
                () = end.cancelled() => return,
                found = changes.next() => found,
            };
            match found {
                Some(Ok(found)) => demanded.set(namespaces(found)),
                Some(Err(error)) => {
                    tracing::warn!(%error, "the watch of the ConfigMap with strict namespaces broke; it is taken up again");
                }
                None => return,
            }
        }
    }

    pub async fn read(&self) -> Result<BTreeSet<String>, KeepError> {
        let found = self.maps.get_opt(names::STRICT_CONFIG_MAP).await;
        let found = found.map_err(|source| KeepError {
            verb: "get",
            source,
        })?;
        Ok(namespaces(found))
    }

    /// These and no others.
    pub(super) async fn write(&self, namespaces: &BTreeSet<String>) -> Result<(), KeepError> {
        let data: BTreeMap<&str, &str> = namespaces
            .iter()
            .map(|namespace| (namespace.as_str(), STRICT))
            .collect();
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": names::STRICT_CONFIG_MAP},
            "data": data,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = self
            .maps
            .patch(names::STRICT_CONFIG_MAP, &params, &Patch::Apply(map))
            .await;
        written.map(drop).map_err(|source| KeepError {
            verb: "patch",
            source,
        })
    }
}

fn namespaces(found: Option<ConfigMap>) -> BTreeSet<String> {
    let data = found.and_then(|found| found.data).unwrap_or_default();
    let strict = data.into_iter().filter(|(_, value)| value == STRICT);
    strict.map(|(namespace, _)| namespace).collect()
}
