//! Which Prometheus is asked, as whom, and whose metrics it has.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names of Secrets: lower-case letters, digits, dots and hyphens.
const SECRET_NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";

/// Names of scrape jobs: what `job_name`, ServiceMonitors and PodMonitors (`namespace/name`) make.
const JOB_PATTERN: &str = r"^[A-Za-z0-9][A-Za-z0-9_./:-]*$";

/// Where the metrics are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.auth) || !has(self.auth.tls) || !has(self.address) || self.address.startsWith('https://')")
        .message("spec.analysis.prometheus.auth.tls is for an address with https://: write one, or leave tls out")
)]
pub struct PrometheusRef {
    /// For example `http://prometheus.monitoring:9090`. Has to be the operator's own address or in its allow-list.
    /// Default: the operator's own, its flag --prometheus-address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://"))]
    pub address: Option<String>,
    /// Whose metrics successRate and latency read. Aviary: those of Aviary's sidecars. Istio: `istio_requests_total` as the
    /// callers' sidecars report it. Linkerd: `response_total` as the called pods' proxies report it. Envoy:
    /// `envoy_cluster_upstream_rq_xx` of an Envoy that has its clusters from Aviary. What each of them cannot see is in
    /// docs/prometheus.md. Default Aviary.
    #[serde(default)]
    pub metrics: MetricsSource,
    /// The scrape job of those metrics: only series with this label `job` count. Prometheus sets it itself (with `honor_labels`
    /// off), so that no pod of another job can forge them. Default: `aviary-proxy` for Aviary's; for another mesh's none, since
    /// nobody knows under which name it is scraped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = JOB_PATTERN))]
    pub job: Option<String>,
    /// How the operator proves who it is, and whom it trusts. Every part names a Secret in the namespace of the CanaryRollout.
    /// The Secret says for which address it is, by the annotation `aviary.dev/credentials-for`, and the operator has to be
    /// allowed to get it by its name (docs/prometheus.md has the commands). Read for every window. Default: nothing; at the
    /// operator's own address, what its flags --prometheus-auth-* say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<PrometheusAuth>,
}

/// Whose metrics the built-in checks read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MetricsSource {
    #[default]
    Aviary,
    Istio,
    Linkerd,
    Envoy,
}

/// How the operator proves who it is, and whom it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.basic) || has(self.bearer) || has(self.headers) || has(self.tls)")
        .message("spec.analysis.prometheus.auth names at least one of basic, bearer, headers and tls: leave it out for a Prometheus that asks for none"),
    validation = Rule::new("!has(self.basic) || !has(self.bearer)")
        .message("spec.analysis.prometheus.auth has either basic or bearer: both would be the header Authorization")
)]
pub struct PrometheusAuth {
    /// A user's name and password: the keys `username` and `password`, as in a Secret of type kubernetes.io/basic-auth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<SecretSource>,
    /// A bearer token: the key `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretSource>,
    /// Headers of every request: each key is the name of a header, such as X-Scope-OrgID, and its value that of the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<SecretSource>,
    /// Certificates, in PEM: `ca.crt` is trusted instead of the authorities that the operator trusts otherwise; `tls.crt` and
    /// `tls.key` are shown as the client's, as in a Secret of type kubernetes.io/tls. One of the two is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SecretSource>,
}

/// Where values are that nobody else may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// A Secret in the namespace of the CanaryRollout.
    pub secret_ref: SecretRef,
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_NAME_PATTERN))]
    pub name: String,
}
