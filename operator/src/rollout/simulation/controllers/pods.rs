//! Pods, and the EndpointSlice of the Service that selects them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::api::{Api, Half, Type, key};
use crate::key::Key;

/// Makes pods, and says which are new: somebody has to start and to end them.
#[derive(Debug, Default)]
pub(in super::super) struct Pods {
    count: u64,
    /// Addresses are never used twice.
    pub(in super::super) addresses: BTreeMap<String, Key>,
}

impl Pods {
    pub(super) fn make(&mut self, api: &mut Api, set: &Value) -> Option<Arc<Value>> {
        self.count += 1;
        let address = format!(
            "10.{}.{}.{}",
            self.count / 62_500,
            self.count / 250 % 250,
            self.count % 250 + 1
        );
        let (owner, template) = (&set["metadata"], &set["spec"]["template"]);
        let name = format!("{}-{}", owner["name"].as_str()?, self.count);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": owner["namespace"], "labels": template["metadata"]["labels"],
                "annotations": {crate::names::INJECTION_ANNOTATION: crate::names::INJECTION.to_string()},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner["name"], "uid": owner["uid"], "controller": true}],
            },
            "spec": {
                "containers": template["spec"]["containers"],
                "initContainers": [{"name": crate::names::PROXY_CONTAINER}],
            },
            "status": {
                "podIP": address,
                "initContainerStatuses": [{"name": crate::names::PROXY_CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0, "started": true}],
            },
        });
        let pod = api.create(Type::Pod, pod).ok()?;
        self.addresses.insert(address, key(&pod));
        Some(pod)
    }
}

pub(in super::super) fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

pub(in super::super) fn set_ready(api: &mut Api, pod: &Key, ready: bool) {
    let status = if ready { "True" } else { "False" };
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    let _ = api.patch(Type::Pod, pod, &patch, Half::Status);
}

/// What runs in it.
pub(in super::super) fn image(template_spec: &Value) -> String {
    template_spec["containers"][0]["image"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// One slice for each Service.
pub(super) fn slices(api: &mut Api) {
    let services: Vec<Arc<Value>> = api.list(Type::Service).cloned().collect();
    for service in services {
        let endpoints: Vec<Value> = api
            .list(Type::Pod)
            .filter(|pod| selects(&service, pod) && pod["metadata"]["namespace"] == service["metadata"]["namespace"])
            .map(|pod| {
                let (ready, ends) = (is_ready(pod), pod["metadata"].get("deletionTimestamp").is_some());
                json!({
                    "addresses": [pod["status"]["podIP"]],
                    "conditions": {"ready": ready && !ends, "serving": ready, "terminating": ends},
                    "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]},
                })
            })
            .collect();
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        let of = key(&service).beside(format!("{name}-1"));
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": of.name, "namespace": of.namespace, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        });
        api.replace(Type::EndpointSlice, &of, slice);
    }
}

fn selects(service: &Value, pod: &Value) -> bool {
    service["spec"]["selector"]
        .as_object()
        .is_some_and(|selector| {
            selector
                .iter()
                .all(|(label, value)| pod["metadata"]["labels"].get(label) == Some(value))
        })
}
