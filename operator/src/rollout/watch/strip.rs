//! What is kept of watched objects: a cluster has more pods than the operator has memory for all that is in them.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::mesh::bounds;

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
    let is_read = |name: &String| bounds::ANNOTATIONS.contains(&name.as_str());
    service.annotations_mut().retain(|name, _| is_read(name));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_service_the_annotations_that_say_something_are_kept() {
        let mut annotated = Service::default();
        let annotations = annotated.annotations_mut();
        for name in bounds::ANNOTATIONS.into_iter().chain([LAST_APPLIED]) {
            annotations.insert(name.to_owned(), "1s".to_owned());
        }
        service(&mut annotated);
        let kept: Vec<&String> = annotated.annotations().keys().collect();
        assert_eq!(kept.len(), bounds::ANNOTATIONS.len(), "{kept:?}");
        assert!(!annotated.annotations().contains_key(LAST_APPLIED));
    }
}
