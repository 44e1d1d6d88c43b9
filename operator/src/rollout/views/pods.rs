//! What is kept of a pod: a cluster has many, they change often, and little of them matters.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use aviary_crds::REVISION_LABEL;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec};
use kube::ResourceExt;
use traffic_core::inbound::Probe;
use traffic_core::telemetry::{METRICS_FLAG, MetricNames};

use super::Lacks;
use crate::key::Key;
use crate::names::{PROXY_CONTAINER, SKIP_INBOUND_ANNOTATION, WORKLOAD_VARIABLE};
use crate::probes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSeen {
    pub key: Key,
    /// A pod that takes the name of another one has another.
    pub uid: Box<str>,
    pub service_account: Option<Box<str>>,
    /// None before it has a network; others after its sandbox was made anew.
    pub addresses: Box<[IpAddr]>,
    /// Ports of which its sidecar sees nothing.
    pub skipped: Box<[u16]>,
    /// What the kubelet asks of it; of a pod without a sidecar nothing is kept.
    pub probes: Box<[Probe]>,
    /// By which policies select it; of a pod without a sidecar none are kept.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// The label of a copy's pod.
    pub revision: Option<Box<str>>,
    /// What its sidecar counts it as one of, where that lets it be known.
    pub workload: Option<Arc<str>>,
    /// The ReplicaSet that controls it.
    pub replica_set: Option<Box<str>>,
    pub sidecar: Sidecar,
    /// It is being deleted.
    pub leaves: bool,
    /// What it should have and has not.
    pub lacks: Option<Box<Lacks>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    None,
    /// It is in the pod's spec.
    Injected,
    Runs,
}

impl From<Pod> for PodSeen {
    fn from(pod: Pod) -> PodSeen {
        let mut owners = pod.owner_references().iter();
        let owner =
            owners.find(|owner| owner.kind == "ReplicaSet" && owner.controller == Some(true));
        let sidecar = Sidecar::of(&pod);
        let meshed = pod.spec.as_ref().filter(|_| sidecar != Sidecar::None);
        PodSeen {
            lacks: Lacks::of(&pod, sidecar),
            key: Key::of(&pod),
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            service_account: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.service_account_name.as_deref())
                .map(Box::from),
            addresses: addresses(&pod),
            skipped: skipped(&pod),
            revision: pod
                .labels()
                .get(REVISION_LABEL)
                .map(|it| it.as_str().into()),
            replica_set: owner.map(|owner| owner.name.as_str().into()),
            workload: meshed.and_then(workload),
            labels: meshed.map(|_| labels(&pod)).unwrap_or_default(),
            sidecar,
            probes: meshed.map(probes::of).unwrap_or_default().into(),
            leaves: pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// Only that which counts under Istio's names, which know callers and called by it. As its injector wrote it.
fn workload(spec: &PodSpec) -> Option<Arc<str>> {
    let containers = spec.init_containers.iter().flatten();
    let mut containers = containers.chain(&spec.containers);
    let sidecar = containers.find(|container| container.name == PROXY_CONTAINER)?;
    let wanted = format!("--{METRICS_FLAG}={}", MetricNames::Istio);
    if !sidecar.args.iter().flatten().any(|flag| *flag == wanted) {
        return None;
    }
    let mut variables = sidecar.env.iter().flatten();
    let workload = variables.find(|variable| variable.name == WORKLOAD_VARIABLE)?;
    let name = workload.value.as_deref()?;
    (!name.is_empty()).then(|| name.into())
}

fn labels(pod: &Pod) -> Box<[(Box<str>, Box<str>)]> {
    let labels = pod.labels().iter();
    labels
        .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
        .collect()
}

fn addresses(pod: &Pod) -> Box<[IpAddr]> {
    let status = pod.status.iter();
    let all = status.flat_map(|status| {
        let more = status.pod_ips.iter().flatten().map(|each| each.ip.as_str());
        status.pod_ip.as_deref().into_iter().chain(more)
    });
    let mut addresses: Vec<IpAddr> = all.filter_map(|ip| ip.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into()
}

/// What is no port is refused by the injector.
fn skipped(pod: &Pod) -> Box<[u16]> {
    let text = pod.annotations().get(SKIP_INBOUND_ANNOTATION);
    let ports = text.iter().flat_map(|text| text.split(','));
    ports.filter_map(|port| port.trim().parse().ok()).collect()
}

impl Sidecar {
    fn of(pod: &Pod) -> Sidecar {
        let status = pod.status.iter();
        let mut statuses = status.flat_map(|status| {
            let init = status.init_container_statuses.iter();
            init.chain(&status.container_statuses).flatten()
        });
        let runs = |container: &ContainerStatus| {
            container.name == PROXY_CONTAINER && container.started == Some(true)
        };
        if statuses.any(runs) {
            return Sidecar::Runs;
        }
        let mut containers = pod.spec.iter().flat_map(|spec| {
            let init = spec.init_containers.iter().flatten();
            spec.containers.iter().chain(init)
        });
        if containers.any(|container| container.name == PROXY_CONTAINER) {
            Sidecar::Injected
        } else {
            Sidecar::None
        }
    }
}

impl PodSeen {
    /// Whether it has these labels, and perhaps others.
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(name, value)| {
            let mut own = self.labels.iter();
            own.any(|(of, is)| **of == **name && **is == **value)
        })
    }

    /// A copy's pod that nobody sees.
    pub fn is_unmeshed(&self) -> bool {
        !self.leaves && self.sidecar == Sidecar::None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(pod: Value) -> PodSeen {
        serde_json::from_value::<Pod>(pod).unwrap().into()
    }

    #[test]
    fn a_sidecar_is_injected_and_then_it_runs_wherever_it_is() {
        for (list, statuses) in [
            ("containers", "containerStatuses"),
            ("initContainers", "initContainerStatuses"),
        ] {
            let of = |name: &str, started: Value| {
                let mut spec = json!({"containers": [{"name": "app"}]});
                spec[list] = json!([{"name": name}]);
                let status = json!({statuses: [{
                    "name": name, "started": started, "ready": true, "restartCount": 0, "image": "", "imageID": "",
                }]});
                seen(json!({"metadata": {}, "spec": spec, "status": status})).sidecar
            };
            assert_eq!(of(PROXY_CONTAINER, json!(true)), Sidecar::Runs);
            assert_eq!(of(PROXY_CONTAINER, json!(false)), Sidecar::Injected);
            assert_eq!(of(PROXY_CONTAINER, json!(null)), Sidecar::Injected);
            assert_eq!(of("app", json!(true)), Sidecar::None);
        }
        assert_eq!(seen(json!({"metadata": {}})).sidecar, Sidecar::None);
    }

    #[test]
    fn who_a_pod_is_and_where_is_kept_of_it() {
        let pod = seen(json!({
            "metadata": {
                "namespace": "shop", "name": "web-1", "uid": "u1",
                "annotations": {"aviary.dev/skip-inbound-ports": "22, 9090,x"},
            },
            "spec": {"serviceAccountName": "web", "containers": []},
            "status": {"podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]},
        }));
        assert_eq!(
            (&*pod.uid, pod.service_account.as_deref()),
            ("u1", Some("web"))
        );
        let addresses = pod.addresses.iter().map(ToString::to_string);
        assert_eq!(addresses.collect::<Vec<_>>(), ["10.1.0.1", "fd00::1"]);
        assert_eq!(*pod.skipped, [22, 9090]);
        let young = seen(json!({"metadata": {}}));
        assert!(young.addresses.is_empty() && young.service_account.is_none());
    }

    #[test]
    fn whose_a_pod_is_is_in_its_label_or_in_the_replica_set_that_controls_it() {
        let owner = |kind: &str, name: &str, controller: bool| json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": controller});
        let pod = seen(json!({"metadata": {
            "namespace": "shop", "name": "web-1",
            "labels": {"aviary.dev/revision": "abc"},
            "ownerReferences": [owner("ReplicaSet", "other", false), owner("Job", "job", true), owner("ReplicaSet", "web", true)],
        }}));
        assert_eq!(pod.key, Key::new("shop", "web-1"));
        assert_eq!(pod.revision.as_deref(), Some("abc"));
        assert_eq!(pod.replica_set.as_deref(), Some("web"));
        assert!(pod.is_unmeshed());
        let leaves = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(!seen(leaves).is_unmeshed());
    }

    #[test]
    fn what_a_pod_is_one_of_is_known_only_where_its_sidecar_counts_under_istios_names() {
        let pod = |args: &[&str], workload: &str| {
            let sidecar = json!({
                "name": "aviary-proxy", "args": args,
                "env": [{"name": "POD_NAME"}, {"name": "AVIARY_WORKLOAD", "value": workload}],
            });
            let pod = seen(json!({"spec": {"containers": [], "initContainers": [sidecar]}}));
            pod.workload.as_deref().map(str::to_owned)
        };
        let asked = ["run", "--metrics=istio"];
        assert_eq!(pod(&asked, "web-canary-1").as_deref(), Some("web-canary-1"));
        assert_eq!(pod(&asked, ""), None);
        assert_eq!(pod(&["run", "--metrics=aviary"], "web"), None);
        assert_eq!(pod(&["run"], "web"), None);
    }
}
