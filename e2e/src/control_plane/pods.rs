//! Pods that only seem to run: the part of a kubelet that the API server sees.
//!
//! One node with a lease; every pod that the scheduler puts there is Running and Ready at once,
//! with an address, and gone at once when it is deleted. Annotations make a pod behave otherwise,
//! in a template or on a pod that runs already: [`UNREADY`], [`NEVER_STARTS`], [`SILENT_NODE`].
//!
//! Sidecars named [`SIDECAR`] are not `started`, since no proxy runs that could connect to the
//! operator; with [`SIDECAR_STARTED`] one is, and is then a proxy that nobody hears.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A pod with this annotation is not Ready.
pub const UNREADY: &str = "e2e.aviary.dev/unready";
/// A pod with this annotation stays Pending, as one whose image cannot be pulled.
pub const NEVER_STARTS: &str = "e2e.aviary.dev/never-starts";
/// A pod with this annotation is on a node that does not answer: its status stays what it is, and
/// it is never gone when it is deleted.
pub const SILENT_NODE: &str = "e2e.aviary.dev/silent-node";
/// The sidecar of a pod with this annotation is started.
pub const SIDECAR_STARTED: &str = "e2e.aviary.dev/sidecar-started";
/// The mesh's sidecar.
pub const SIDECAR: &str = "aviary-proxy";

const NODE: &str = "simulated";
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// After what the server did not take.
const AGAIN: Duration = Duration::from_millis(200);
const TRIES: usize = 10;

#[derive(Debug, thiserror::Error)]
enum SimulatorError {
    #[error("its kubeconfig cannot be used")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("the API server refused the node or its lease")]
    Node(#[from] kube::Error),
}

/// Simulates pods on a thread of its own until the sender is dropped.
pub fn start(kubeconfig: PathBuf) -> io::Result<oneshot::Sender<()>> {
    let (sender, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("pods".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    result = simulate(kubeconfig) => if let Err(error) = result {
                        eprintln!("the pod simulator ended: {error} ({:?})", error.source());
                    }
                }
            });
        })?;
    Ok(sender)
}

async fn simulate(kubeconfig: PathBuf) -> Result<(), SimulatorError> {
    let options = KubeConfigOptions::default();
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    let client = Client::try_from(config)?;
    tokio::select! {
        result = keep_node(client.clone()) => result?,
        () = run_pods(client) => {}
    }
    Ok(())
}

async fn keep_node(client: Client) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let ours = PatchParams::apply("pod-simulator").force();
    nodes.patch(NODE, &ours, &Patch::Apply(node())).await?;
    loop {
        let status = Patch::Apply(node_status(Timestamp::now()));
        let lease = Patch::Apply(lease(Timestamp::now()));
        let renewed = async {
            nodes.patch_status(NODE, &ours, &status).await?;
            leases.patch(NODE, &ours, &lease).await
        };
        // The server may be on its way down, and the namespace comes a moment after it is ready.
        if let Err(error) = renewed.await {
            eprintln!("the pod simulator cannot renew its node: {error}");
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

async fn run_pods(client: Client) {
    let pods: Api<Pod> = Api::all(client.clone());
    let ours = watcher::Config::default().fields(&format!("spec.nodeName={NODE}"));
    let mut addresses = Addresses::default();
    let mut changes = watcher(pods, ours)
        .default_backoff()
        .applied_objects()
        .boxed();
    loop {
        match changes.try_next().await {
            Ok(Some(pod)) => {
                let address = addresses.of(&pod.uid().unwrap_or_default());
                for _ in 0..TRIES {
                    let Err(error) = advance(&client, &pod, address).await else {
                        break;
                    };
                    eprintln!(
                        "the pod simulator cannot advance {}: {error}",
                        pod.name_any()
                    );
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Ok(None) => return,
            // It comes back by itself; the server may be on its way down.
            Err(_) => {}
        }
    }
}

async fn advance(client: &Client, pod: &Pod, address: Ipv4Addr) -> kube::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let result = if has(pod, SILENT_NODE) {
        Ok(())
    } else if pod.metadata.deletion_timestamp.is_some() {
        let preconditions = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        let now = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default().grace_period(0)
        };
        pods.delete(&pod.name_any(), &now).await.map(drop)
    } else if !has(pod, NEVER_STARTS) && is_behind(pod) {
        let status = pod_status(pod, address, Timestamp::now());
        pods.patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(status),
        )
        .await
        .map(drop)
    } else {
        Ok(())
    };
    match result {
        // Gone, or replaced, since the watch told of it.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    }
}

fn has(pod: &Pod, annotation: &str) -> bool {
    pod.annotations().contains_key(annotation)
}

/// Not running yet, or Ready and not meant to be, or the other way round.
fn is_behind(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return true;
    };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    status.phase.as_deref() != Some("Running") || ready == has(pod, UNREADY)
}

/// One for each pod, and never the same again: 10.244.0.2 and on.
#[derive(Default)]
struct Addresses {
    by_uid: HashMap<String, Ipv4Addr>,
}

impl Addresses {
    fn of(&mut self, uid: &str) -> Ipv4Addr {
        let next =
            u32::from(Ipv4Addr::new(10, 244, 0, 2)) + u32::try_from(self.by_uid.len()).unwrap_or(0);
        *self
            .by_uid
            .entry(uid.to_owned())
            .or_insert_with(|| next.into())
    }
}

fn node() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": NODE}},
    })
}

fn node_status(now: Timestamp) -> Value {
    let much = json!({"cpu": "640", "memory": "2560Gi", "pods": "100000"});
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
        "status": {
            "capacity": much, "allocatable": much,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Simulated", "lastHeartbeatTime": seconds(now), "lastTransitionTime": seconds(now)}],
            "addresses": [{"type": "InternalIP", "address": "10.244.0.1"}],
        },
    })
}

fn lease(now: Timestamp) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE},
        "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": format!("{now:.6}")},
    })
}

fn pod_status(pod: &Pod, address: Ipv4Addr, now: Timestamp) -> Value {
    let ready = !has(pod, UNREADY);
    let now = seconds(now);
    let (init, containers) = pod
        .spec
        .as_ref()
        .map(|spec| {
            (
                spec.init_containers.as_deref().unwrap_or_default(),
                spec.containers.as_slice(),
            )
        })
        .unwrap_or_default();
    let runs = |container: &Container| {
        let started = container.name != SIDECAR || has(pod, SIDECAR_STARTED);
        json!({
            "name": container.name, "image": container.image, "imageID": container.image,
            "ready": ready, "started": started, "restartCount": 0, "state": {"running": {"startedAt": now}},
        })
    };
    let done = |container: &Container| {
        let end =
            json!({"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now});
        json!({
            "name": container.name, "image": container.image, "imageID": container.image,
            "ready": true, "restartCount": 0, "state": {"terminated": end},
        })
    };
    // A native sidecar is an init container that goes on running.
    let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let init = init.iter().map(|container| {
        if is_sidecar(container) {
            runs(container)
        } else {
            done(container)
        }
    });
    let condition = |kind: &str, holds: bool| json!({"type": kind, "status": if holds { "True" } else { "False" }, "lastTransitionTime": now});
    json!({"status": {
        "phase": "Running", "hostIP": "10.244.0.1", "podIP": address, "podIPs": [{"ip": address}], "startTime": now,
        "conditions": [
            condition("PodScheduled", true), condition("Initialized", true),
            condition("ContainersReady", ready), condition("Ready", ready),
        ],
        "initContainerStatuses": init.collect::<Vec<_>>(),
        "containerStatuses": containers.iter().map(runs).collect::<Vec<_>>(),
    }})
}

/// Kubernetes's `Time` has no fractions.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotations: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": annotations},
            "spec": {
                "initContainers": [{"name": "init"}, {"name": "aviary-proxy", "restartPolicy": "Always"}],
                "containers": [{"name": "app"}],
            },
        }))
        .unwrap()
    }

    fn status(annotations: Value) -> Value {
        pod_status(
            &pod(annotations),
            Ipv4Addr::new(10, 244, 0, 9),
            Timestamp::UNIX_EPOCH,
        )["status"]
            .take()
    }

    #[test]
    fn a_native_sidecar_runs_and_an_init_container_is_done() {
        let status = status(json!({}));
        assert!(status["initContainerStatuses"][0]["state"]["terminated"].is_object());
        assert!(status["initContainerStatuses"][1]["state"]["running"].is_object());
        assert_eq!(
            status["conditions"][3],
            json!({"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"})
        );
        assert_eq!(status["podIP"], "10.244.0.9");
    }

    #[test]
    fn a_pod_can_be_told_never_to_get_ready() {
        let status = status(json!({UNREADY: ""}));
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["conditions"][3]["status"], "False");
        assert_eq!(status["containerStatuses"][0]["ready"], false);
    }

    #[test]
    fn a_sidecar_is_started_only_where_it_is_asked_for() {
        let sidecar =
            |annotations| status(annotations)["initContainerStatuses"][1]["started"].take();
        assert_eq!(sidecar(json!({})), false);
        assert_eq!(sidecar(json!({SIDECAR_STARTED: ""})), true);
    }

    #[test]
    fn a_pod_that_runs_follows_its_annotation() {
        let running = |ready: &str, annotations| {
            let mut pod = pod(annotations);
            pod.status = serde_json::from_value(json!({
                "phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
            }))
            .unwrap();
            is_behind(&pod)
        };
        assert!(is_behind(&pod(json!({}))), "it has no status yet");
        assert!(!running("True", json!({})));
        assert!(running("True", json!({UNREADY: ""})));
        assert!(!running("False", json!({UNREADY: ""})));
        assert!(running("False", json!({})));
    }

    #[test]
    fn a_pod_keeps_its_address_and_shares_it_with_no_other() {
        let mut addresses = Addresses::default();
        let one = addresses.of("one");
        assert_ne!(one, addresses.of("two"));
        assert_eq!(one, addresses.of("one"));
    }

    #[test]
    fn the_lease_is_renewed_in_microseconds() {
        assert_eq!(
            lease(Timestamp::UNIX_EPOCH)["spec"]["renewTime"],
            "1970-01-01T00:00:00.000000Z"
        );
    }
}
