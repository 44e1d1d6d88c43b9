//! Whether a pod has a sidecar.

use k8s_openapi::api::core::v1::{Container, Pod};

/// The name of its container.
pub(super) const PROXY: &str = "aviary-proxy";

/// The pod has asked for another image than the others have.
pub(super) const IMAGE_ANNOTATION: &str = "aviary.dev/proxy-image";
/// Ports of the application that the sidecar does not see, separated by commas.
pub(super) const SKIPPED_ANNOTATION: &str = "aviary.dev/skip-inbound-ports";

/// In either form.
pub(super) fn sidecar(pod: &Pod) -> Option<&Container> {
    let spec = pod.spec.as_ref()?;
    let native = spec.init_containers.iter().flatten();
    native.chain(&spec.containers).find(|it| it.name == PROXY)
}
