//! The types of ours: as this plugin has them, and as the cluster has them.

use aviary_crds::{CallerPolicy, CanaryRollout};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::read::Read;

/// One of them.
#[derive(Debug)]
pub(super) struct Type {
    pub(super) ours: CustomResourceDefinition,
    pub(super) theirs: Read<CustomResourceDefinition>,
}

/// Every one, as this plugin has it.
pub(super) fn all() -> [CustomResourceDefinition; 2] {
    [CanaryRollout::crd(), CallerPolicy::crd()]
}
