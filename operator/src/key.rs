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

/// Whether Kubernetes gives such a name to an object or a namespace. What somebody has written becomes a part of a request's path only if it is one: in
/// `web?watch=1` or `web/scale` there is another request.
pub(crate) fn is_name(text: &str) -> bool {
    let is_in_names =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    text.bytes().all(is_in_names)
        && text.starts_with(|first: char| first != '.')
        && text.len() <= LONGEST_NAME
}

/// Of a name, in bytes.
const LONGEST_NAME: usize = 253;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_another_request_is_no_name() {
        for name in ["web", "web-2.example", "7", &"n".repeat(253)] {
            assert!(is_name(name), "{name}");
        }
        for text in [
            "",
            ".",
            "..",
            "../web",
            "web/scale",
            "web?watch=1",
            "web#x",
            "web%2fscale",
            "Web",
            "w b",
            "w\u{e9}b",
            &"n".repeat(254),
        ] {
            assert!(!is_name(text), "{text}");
        }
    }
}
