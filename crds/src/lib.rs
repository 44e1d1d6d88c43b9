//! The user's contract: `CanaryRollout` and `CallerPolicy`, group `aviary.dev`, version `v1alpha1`.
//!
//! The doc comments of every field are user documentation: `kubectl explain canaryrollout.spec` prints them.
//! What the API server can check by itself is a CEL rule here, with a message that says how to mend it;
//! what needs other objects is checked by the operator. `crdgen` writes the YAML beside this crate, and a
//! test compares the two.

#![allow(
    unreachable_pub,
    reason = "the derives repeat the types inside functions of their own"
)]

pub mod condition;
pub mod decimal;
pub mod hook;
pub mod policy;
pub mod prometheus;
pub mod request;
pub mod revision;
pub mod spec;
pub mod status;
pub mod units;

pub use policy::{CallerPolicy, CallerPolicySpec};
pub use request::{REQUEST_ANNOTATION, REQUESTED_BY_ANNOTATION, Request, Verb};
pub use spec::{CanaryRollout, CanaryRolloutSpec};
pub use status::CanaryRolloutStatus;

/// Label on an adopted Deployment: the name of the CanaryRollout that releases it.
pub const ROLLOUT_LABEL: &str = "aviary.dev/rollout";
/// Label on the pods of a canary copy: their revision.
pub const REVISION_LABEL: &str = "aviary.dev/revision";
/// Label on a canary copy: the name of the CanaryRollout that made it.
pub const CANARY_OF_LABEL: &str = "aviary.dev/canary-of";
/// Annotation on a ReplicaSet that the operator made again from a template that it had kept: the revision.
pub const RESTORED_ANNOTATION: &str = "aviary.dev/restored";
/// Annotation on a Deployment that switches the gate off for it.
pub const BREAK_GLASS_ANNOTATION: &str = "aviary.dev/break-glass";
/// Namespace label (`enabled`) and pod label (`true`, `false`) that ask for a sidecar.
pub const INJECT_LABEL: &str = "aviary.dev/inject";
/// Annotation on a Secret that a CanaryRollout may name: the address that its values may be sent to.
pub const CREDENTIALS_ANNOTATION: &str = "aviary.dev/credentials-for";
/// The operator's name as a field manager and event reporter.
pub const FIELD_MANAGER: &str = "aviary-operator";
/// Finalizer on a CanaryRollout while there is a canary copy or a canary weight.
pub const FINALIZER: &str = "aviary.dev/traffic";

/// The CustomResourceDefinition as YAML, as it is committed in `crds/canaryrollouts.yaml`.
pub fn manifest() -> Result<String, serde_saphyr::SerializeError> {
    yaml::<CanaryRollout>()
}

/// The same of `crds/callerpolicies.yaml`.
pub fn policy_manifest() -> Result<String, serde_saphyr::SerializeError> {
    yaml::<CallerPolicy>()
}

fn yaml<K: kube::CustomResourceExt>() -> Result<String, serde_saphyr::SerializeError> {
    let yaml = serde_saphyr::to_string(&K::crd())?;
    Ok(format!(
        "# Generated from the crate aviary-crds by `make generate`: do not edit.\n{yaml}"
    ))
}
