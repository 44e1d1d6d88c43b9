//! Who may call a pod.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::DNS_LABEL_PATTERN;

/// CEL: a name of a ServiceAccount, which is a name of DNS.
const ACCOUNT: &str = r"self.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$')";

/// Who may call the pods that it selects. Pods that no CallerPolicy selects can be called by everybody; a pod that one or
/// several select can be called by whom these allow, and by nobody else.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "aviary.dev",
    version = "v1alpha1",
    kind = "CallerPolicy",
    plural = "callerpolicies",
    shortname = "callers",
    category = "aviary",
    namespaced,
    doc = "Says who may call the pods that it selects. Pods that no CallerPolicy selects can be called by everybody; a pod that one or several select can be called by whom these allow, and by nobody else.",
    derive = "PartialEq",
    printcolumn(
        json_path = ".spec.selector.matchLabels",
        name = "Selects",
        type_ = "string"
    ),
    printcolumn(
        json_path = ".metadata.creationTimestamp",
        name = "Age",
        type_ = "date"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct CallerPolicySpec {
    /// The pods of this namespace that it holds for. `{}`: all of them. It holds for pods with a sidecar only.
    pub selector: PodSelector,

    /// Who may call them. What one entry allows, no other takes away. Default: nobody, so a CallerPolicy of an empty
    /// selector and nothing else closes a namespace. The kubelet's probes are let through in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub allow: Vec<Allow>,
}

/// Pods, by their labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// Labels that a pod must have, all of them. Default: none, which every pod has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// Some callers, and the ports that they may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    /// The ports of the pods (containerPort, not the Service's port). Default: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,

    /// The callers. A caller is known by its ServiceAccount, which its sidecar proves by mutual TLS; whoever has no sidecar
    /// is nobody.
    #[schemars(length(max = 50))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("spec.allow[].from: name at least one caller, for example {namespace: shop, serviceAccount: web}; to let nobody call, leave the whole entry out"))]
    pub from: Vec<Caller>,
}

/// The pods of a ServiceAccount, or of a whole namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// The namespace that the callers are in.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL_PATTERN))]
    pub namespace: String,
    /// The ServiceAccount that their pods run as. Default: every ServiceAccount of the namespace. Pods that name none run as
    /// `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(ACCOUNT).message("spec.allow[].from[].serviceAccount: not a name of a ServiceAccount; for every ServiceAccount of the namespace, leave it out"))]
    pub service_account: Option<String>,
}
