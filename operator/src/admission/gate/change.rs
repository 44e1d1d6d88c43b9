//! An update of an adopted Deployment, as it comes to the gate.

use aviary_crds::ROLLOUT_LABEL;
use serde_json::Value;

/// An update of a Deployment, as raw JSON.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub old: &'a Value,
    pub new: &'a Value,
    /// Who makes it, as far as they say so.
    pub manager: Option<&'a str>,
}

impl<'a> Change<'a> {
    /// The CanaryRollout that releases the Deployment: the one of the old object, since only the operator adopts.
    pub fn rollout(&self) -> Option<&'a str> {
        label(self.old).or_else(|| label(self.new))
    }
}

/// The CanaryRollout that the label of a Deployment names.
pub(super) fn label(deployment: &Value) -> Option<&str> {
    deployment["metadata"]["labels"][ROLLOUT_LABEL]
        .as_str()
        .filter(|name| !name.is_empty())
}
