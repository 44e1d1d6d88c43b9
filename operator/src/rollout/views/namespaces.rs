//! What is kept of a namespace whose pods get sidecars.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use traffic_core::telemetry::OF_NAMESPACES;

use super::lacks;
use crate::key::Key;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSeen {
    pub key: Key,
    /// Annotations that hold for all its pods.
    pub wishes: Vec<(&'static str, Box<str>)>,
}

impl NamespaceSeen {
    /// Under which one is found.
    pub fn key_of(namespace: &str) -> Key {
        lacks::named(namespace)
    }
}

impl From<PartialObjectMeta<Namespace>> for NamespaceSeen {
    fn from(namespace: PartialObjectMeta<Namespace>) -> NamespaceSeen {
        let annotations = namespace.annotations();
        let wishes = OF_NAMESPACES.into_iter().filter_map(|name| {
            let value = annotations.get(name)?;
            Some((name, value.as_str().into()))
        });
        NamespaceSeen {
            wishes: wishes.collect(),
            key: Key::of(&namespace),
        }
    }
}
