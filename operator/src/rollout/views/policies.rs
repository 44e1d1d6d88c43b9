//! What is kept of a CallerPolicy: whom it lets call whose pods.

use std::collections::BTreeMap;

use aviary_crds::CallerPolicy;
use aviary_crds::policy::{Allow, CallerPolicySpec};
use kube::core::DeserializeGuard;

use crate::key::Key;

#[derive(Clone, Debug, PartialEq)]
pub struct Allowing {
    pub key: Key,
    /// Labels of the pods that it selects.
    pub selector: BTreeMap<String, String>,
    pub allow: Vec<Allow>,
}

impl Allowing {
    /// Whether it selects a pod with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let mut wanted = self.selector.iter();
        wanted.all(|(name, value)| labels.get(name) == Some(value))
    }
}

impl From<DeserializeGuard<CallerPolicy>> for Allowing {
    /// One that this version cannot read selects whatever it can be seen to select, and allows nobody: to leave it out would let everybody call.
    fn from(DeserializeGuard(read): DeserializeGuard<CallerPolicy>) -> Allowing {
        match read {
            Ok(policy) => {
                let key = Key::of(&policy);
                let CallerPolicySpec { selector, allow } = policy.spec;
                Allowing {
                    key,
                    selector: selector.match_labels,
                    allow,
                }
            }
            Err(invalid) => {
                let metadata = invalid.metadata;
                let key = Key::new(
                    metadata.namespace.unwrap_or_default(),
                    metadata.name.unwrap_or_default(),
                );
                tracing::error!(
                    policy = %key,
                    error = invalid.error,
                    "this CallerPolicy cannot be read: until it is mended, nobody may call any pod of its namespace"
                );
                Allowing {
                    key,
                    selector: BTreeMap::new(),
                    allow: Vec::new(),
                }
            }
        }
    }
}
