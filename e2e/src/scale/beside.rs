//! What the API server itself takes meanwhile: a ConfigMap is written again and again, and it is noted how long after it was
//! sent each write was seen by a watch. What an operator's writes take longer than that is its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio::task::JoinSet;

const NAME: &str = "beside";
const FIELD: &str = "sent";
const EVERY: Duration = Duration::from_millis(200);

/// Ends when it is dropped.
pub struct Beside {
    took: Arc<Mutex<Vec<u64>>>,
    _tasks: JoinSet<()>,
}

impl Beside {
    pub fn start(client: &Client) -> Beside {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        let took = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(watch(api.clone(), Arc::clone(&took)));
        tasks.spawn(write(api));
        Beside {
            took,
            _tasks: tasks,
        }
    }

    /// Milliseconds from the sending of each write until it was seen, so far.
    pub fn took(&self) -> Vec<u64> {
        let took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        took.clone()
    }
}

async fn write(api: Api<ConfigMap>) {
    let params = PatchParams::apply("bench").force();
    loop {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME},
            "data": {FIELD: now().to_string()},
        });
        // One that fails is not seen, and the next one comes soon.
        let _ = api.patch(NAME, &params, &Patch::Apply(map)).await;
        tokio::time::sleep(EVERY).await;
    }
}

async fn watch(api: Api<ConfigMap>, took: Arc<Mutex<Vec<u64>>>) {
    let only = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut changes = watcher(api, only)
        .default_backoff()
        .applied_objects()
        .boxed();
    while let Some(change) = changes.next().await {
        let sent = change
            .ok()
            .and_then(|map| map.data?.get(FIELD)?.parse::<u64>().ok());
        if let Some(sent) = sent {
            let mut took = took.lock().unwrap_or_else(PoisonError::into_inner);
            took.push(now().saturating_sub(sent));
        }
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}
