//! `kubectl aviary proxy`: who has acknowledged what, as the operator sees it, and what one sidecar really does.

mod config;
mod standing;

use jiff::Timestamp;
use serde_json::Value;

use crate::args::{Output, ProxyConfigArgs, ProxyStatusArgs};
use crate::cluster::{Cluster, ClusterError};
use crate::exit::Exit;
use crate::out;
use crate::text::table;
use standing::Proxy;

/// The sidecar's port for health, metrics and the dump of its configuration.
const SIDECAR_ADMIN: u16 = 15020;

/// Every proxy of the namespace, or those that call one rollout. Ends with 1 if one of them lags.
pub async fn status(cluster: &Cluster, args: &ProxyStatusArgs) -> Result<Exit, ClusterError> {
    let address = args.operator_address.as_deref();
    let text = cluster
        .ask_operator(&args.operator_namespace, address, "/proxies")
        .await?;
    let all: Vec<Proxy> = serde_json::from_str(&text).map_err(|error| {
        ClusterError::of(
            "read what the operator says",
            kube::Error::SerdeError(error),
        )
    })?;
    let rollout = args.rollout.as_ref();
    let rollout = rollout.map(|name| format!("{}/{name}", cluster.namespace()));
    let shown: Vec<Proxy> = all
        .into_iter()
        .filter(|proxy| match &rollout {
            // Callers are anywhere.
            Some(rollout) => proxy.rollouts.contains_key(rollout),
            None => args.all_namespaces || proxy.namespace == cluster.namespace(),
        })
        .filter(|proxy| args.pod.as_ref().is_none_or(|pod| proxy.pod == *pod))
        .collect();
    match args.output {
        Some(Output::Json) => {
            let text = serde_json::to_string_pretty(&shown);
            out::line(text.expect("it has string keys"));
        }
        None if shown.is_empty() => {
            eprintln!("no proxy here is, or was lately, connected to the operator");
        }
        None => {
            let rows = standing::rows(&shown, rollout.as_deref(), Timestamp::now());
            table(&rows).into_iter().for_each(out::line);
        }
    }
    let lags = shown.iter().any(|proxy| proxy.lags(rollout.as_deref()));
    Ok(if lags { Exit::Failed } else { Exit::Done })
}

/// What the sidecar of a pod has been told, and goes by.
pub async fn config(cluster: &Cluster, args: &ProxyConfigArgs) -> Result<Exit, ClusterError> {
    let text = cluster
        .ask_pod(&args.pod, SIDECAR_ADMIN, "/config_dump")
        .await?;
    let dump: Value = serde_json::from_str(&text).map_err(|error| {
        ClusterError::of("read what the sidecar says", kube::Error::SerdeError(error))
    })?;
    match args.output {
        Some(Output::Json) => out::line(text.trim_end()),
        None => config::lines(&dump).into_iter().for_each(out::line),
    }
    Ok(Exit::Done)
}
