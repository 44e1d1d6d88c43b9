//! What is kept of watched objects: a cluster has more pods than the operator has memory for all that is in them.

use aviary_crds::REVISION_LABEL;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, PodSpec,
    PodStatus, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::names::PROXY_CONTAINER;

/// What `kubectl apply` keeps of the manifest: as large as the object itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn deployment(deployment: &mut DynamicObject) {
    deployment.managed_fields_mut().clear();
    deployment.annotations_mut().remove(LAST_APPLIED);
}

pub(super) fn claim(claim: &mut PersistentVolumeClaim) {
    claim.managed_fields_mut().clear();
    claim.annotations_mut().clear();
    claim.labels_mut().clear();
    claim.status = None;
    claim.spec = claim.spec.take().map(|spec| PersistentVolumeClaimSpec {
        access_modes: spec.access_modes,
        ..PersistentVolumeClaimSpec::default()
    });
}

pub(super) fn service(service: &mut Service) {
    service.managed_fields_mut().clear();
    service.annotations_mut().clear();
    service.labels_mut().clear();
    service.status = None;
}

pub(super) fn slice(slice: &mut EndpointSlice) {
    slice.managed_fields_mut().clear();
    slice.annotations_mut().clear();
    slice.owner_references_mut().clear();
    slice.metadata.generate_name = None;
    for endpoint in slice.endpoints.iter_mut().flatten() {
        endpoint.node_name = None;
        endpoint.zone = None;
        endpoint.hints = None;
        if let Some(target) = &mut endpoint.target_ref {
            target.uid = None;
            target.namespace = None;
        }
    }
}

pub(super) fn pod(pod: &mut Pod) {
    pod.managed_fields_mut().clear();
    pod.annotations_mut().clear();
    pod.labels_mut().retain(|label, _| label == REVISION_LABEL);
    pod.metadata.generate_name = None;
    let spec = pod.spec.take().unwrap_or_default();
    let named = |containers: Vec<Container>| -> Vec<Container> {
        let of = |container: Container| Container {
            name: container.name,
            ..Container::default()
        };
        let ours = containers
            .into_iter()
            .filter(|each| each.name == PROXY_CONTAINER);
        ours.map(of).collect()
    };
    pod.spec = Some(PodSpec {
        containers: named(spec.containers),
        init_containers: spec.init_containers.map(named),
        ..PodSpec::default()
    });
    let started = |statuses: Vec<ContainerStatus>| -> Vec<ContainerStatus> {
        let of = |status: ContainerStatus| ContainerStatus {
            name: status.name,
            started: status.started,
            ..ContainerStatus::default()
        };
        let ours = statuses
            .into_iter()
            .filter(|each| each.name == PROXY_CONTAINER);
        ours.map(of).collect()
    };
    let status = pod.status.take().unwrap_or_default();
    pod.status = Some(PodStatus {
        init_container_statuses: status.init_container_statuses.map(started),
        container_statuses: status.container_statuses.map(started),
        ..PodStatus::default()
    });
}
