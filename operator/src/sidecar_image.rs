//! Which image sidecars have: that of the init container `aviary-proxy` of the operator's own pod.
//!
//! So whatever sets the images of manifests (kustomize's `images`, a registry mirror's webhook) sets the sidecar's too, and an
//! image that cannot be pulled keeps the new operator from starting, and reaches no pod of anybody.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::{Api, Client};

use crate::names;

/// Of the running operator. Without a pod of that name, which is so outside a cluster, [`names::PROXY_IMAGE`].
pub async fn of_own_pod(
    client: &Client,
    namespace: &str,
    pod: Option<&str>,
) -> kube::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = match pod {
        Some(name) => pods.get_opt(name).await?,
        None => None,
    };
    let image = pod.and_then(|pod| named_in(&pod.spec?));
    Ok(image.unwrap_or_else(|| names::PROXY_IMAGE.to_owned()))
}

/// What a pod of the operator names.
pub fn named_in(pod: &PodSpec) -> Option<String> {
    let mut containers = pod.init_containers.iter().flatten();
    let named = containers.find(|it| it.name == names::PROXY_CONTAINER)?;
    named.image.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_init_container_of_the_sidecars_name_says_it() {
        let pod = |name: &str| -> PodSpec {
            let init = json!([{"name": "other", "image": "x"}, {"name": name, "image": "proxy:2"}]);
            serde_json::from_value(json!({"containers": [], "initContainers": init})).unwrap()
        };
        assert_eq!(named_in(&pod("aviary-proxy")).as_deref(), Some("proxy:2"));
        assert_eq!(named_in(&pod("another")), None);
    }
}
