//! Whether a pod has a sidecar.

use k8s_openapi::api::core::v1::{Container, Pod};

/// The name of its container.
pub(super) const PROXY: &str = "aviary-proxy";

/// In either form.
pub(super) fn sidecar(pod: &Pod) -> Option<&Container> {
    let spec = pod.spec.as_ref()?;
    let native = spec.init_containers.iter().flatten();
    native.chain(&spec.containers).find(|it| it.name == PROXY)
}
