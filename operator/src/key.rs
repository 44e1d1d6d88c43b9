//! The name of a namespaced object: one type, wherever a rollout, a pod or a Deployment is spoken of.

use std::fmt;

use kube::ResourceExt;

/// `<namespace>/<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub fn of<K: ResourceExt>(object: &K) -> Key {
        Key::new(object.namespace().unwrap_or_default(), object.name_any())
    }

    /// As it is displayed.
    pub fn read(text: &str) -> Option<Key> {
        let (namespace, name) = text.split_once('/')?;
        Some(Key::new(namespace, name))
    }

    /// The object of this name in the same namespace.
    pub fn beside(&self, name: impl Into<String>) -> Key {
        Key::new(self.namespace.clone(), name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
