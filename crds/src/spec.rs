//! What a user asks for.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::hook::Hook;
use crate::prometheus::PrometheusRef;
use crate::status::CanaryRolloutStatus;
use crate::units::{
    DAYS_PATTERN, DNS_LABEL_PATTERN, DURATION_ABOVE_ZERO, DURATION_PATTERN, PERCENT_PATTERN,
    QUANTILE_PATTERN,
};

/// CEL: from 50% to below 100%, up to three decimals.
const OBJECTIVE: &str = r"self.matches('^[5-9][0-9]([.][0-9]{1,3})?%$')";

/// CEL: the name of a header or a cookie (RFC 9110, 5.6.2).
const TOKEN: &str = r"self.matches('^[-!#$%&*+.^_`|~0-9A-Za-z]+$')";
/// CEL: not a header of one connection, and not all cookies at once.
const SOMEBODYS: &str = "!(self.lowerAscii() in ['connection', 'content-length', 'cookie', 'expect', 'host', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade'])";

/// Releases new versions of a Deployment to a growing share of its users, and takes them away when they are bad.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "aviary.dev",
    version = "v1alpha1",
    kind = "CanaryRollout",
    plural = "canaryrollouts",
    shortname = "crollout",
    category = "aviary",
    namespaced,
    doc = "Releases new versions of a Deployment to a growing share of its users, and takes them away when they are bad.",
    derive = "PartialEq",
    status = "CanaryRolloutStatus",
    selectable = ".spec.targetRef.name",
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase in ['Stable', 'Failed', 'Unsettled'] || self.spec.targetRef == oldSelf.spec.targetRef")
        .message("spec.targetRef cannot change while a release runs: put the stable template back into the Deployment to end the release first"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase in ['Stable', 'Failed', 'Unsettled'] || (has(self.spec.split) == has(oldSelf.spec.split) && (!has(self.spec.split) || self.spec.split == oldSelf.spec.split))")
        .message("spec.split cannot change while a release runs, since it says who has the new version: wait for its end, or put the stable template back into the Deployment first"),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name: at most 63 characters, since it becomes the value of the label aviary.dev/rollout on the Deployment: choose a shorter name"),
    printcolumn(json_path = ".status.phase", name = "Phase", type_ = "string"),
    printcolumn(json_path = ".status.step.position", name = "Step", type_ = "string"),
    printcolumn(json_path = ".status.weight.sent", name = "Weight", type_ = "integer"),
    printcolumn(json_path = ".status.canary.revision", name = "Canary", type_ = "string"),
    printcolumn(json_path = ".status.verdict", name = "Verdict", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    printcolumn(json_path = ".status.message", name = "Message", type_ = "string", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.service.ports) || size(self.service.ports) == 0 || !has(self.analysis.prometheus) || !(self.analysis.prometheus.metrics in ['Istio', 'Linkerd'])")
        .message("spec.service.ports: the metrics of Istio and of Linkerd do not say to which port a request went: leave ports out, or spec.analysis.prometheus.metrics")
)]
pub struct CanaryRolloutSpec {
    /// The Deployment whose new templates are released step by step. It stays yours: nothing but
    /// `spec.paused` and one label are ever written into it. Cannot change while a release runs.
    pub target_ref: TargetRef,

    /// The Service whose requests are judged. The split itself holds on every Service that selects the
    /// Deployment's pods.
    pub service: ServiceRef,

    /// The weights that the canary gets, one after the other, and how long each is watched.
    /// Default: 1% for 1m, 10% for 2m, 50% for 5m, 100% for 1m.
    #[serde(default = "Step::defaults")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(
        validation = Rule::new("self.all(i, s, i == 0 || s.weight > self[i - 1].weight)")
            .message("spec.steps: weights must rise from step to step, for example 1, 10, 50, 100"),
        validation = Rule::new("self[size(self) - 1].weight == 100")
            .message("spec.steps: the last step must have weight 100, so that the whole load is tried before the promotion")
    )]
    pub steps: Vec<Step>,

    /// How requests are divided. Left out, they are interleaved exactly by weight, whoever sends them. Cannot change while a
    /// release runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,

    /// How each step is judged.
    #[serde(default)]
    pub analysis: Analysis,

    /// Who is asked before a weight is raised or the release promoted, or told how it ended, over HTTP. They can hold a
    /// raise, or roll back; nothing that lowers, judges or ends a release waits for them. Asked in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub hooks: Vec<Hook>,

    /// What happens when more windows fail in a row than analysis.failureLimit tolerates: Rollback (the canary's weight goes
    /// to 0 at once) or Pause (the weight stays where it is, users included, and never rises until a person puts the stable
    /// template back, or lets the step be judged anew: see steps[].pause). Lost pods, a pod without a sidecar and a missed
    /// progressDeadline roll back in any case. Default Rollback.
    #[serde(default)]
    pub on_failure: OnFailure,

    /// How long the canary's pods may take, or be lost for, before the release is rolled back; and how long everything else
    /// may take (the proxies' acknowledgement of a weight, the promotion, the way back) before it is said to be stalled.
    /// A pause, a soak and a suspension do not count. Default 10m.
    #[serde(default = "default_progress_deadline")]
    #[schemars(regex(pattern = DURATION_PATTERN), length(max = 32))]
    #[x_kube(validation = Rule::new(DURATION_ABOVE_ZERO).message("spec.progressDeadline must be longer than 0s, for example 10m"))]
    pub progress_deadline: String,

    /// How many pods the canary gets. Proportional: its weight's share of the Deployment's replicas, rounded up,
    /// at least one. Full: as many as the Deployment has.
    #[serde(default)]
    pub capacity: Capacity,

    /// What becomes of the Deployment when this CanaryRollout is deleted while a release runs: Leave (all
    /// traffic goes to the stable version, and the Deployment stays paused) or Promote (the same, and then the Deployment
    /// rolls to the new version by its own strategy, without further steps; not if the release failed, or its newest window
    /// did). Default Leave.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// True holds the release where it is: the weight stays, no step is taken, and no new release starts.
    /// Checks still run, and a bad canary is still rolled back.
    #[serde(default)]
    pub suspend: bool,
}

/// The Deployment that is released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// `apps/v1`.
    #[serde(default = "apps_v1")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self == 'apps/v1'").message("spec.targetRef.apiVersion must be apps/v1"))]
    pub api_version: String,
    /// `Deployment`.
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self == 'Deployment'").message("spec.targetRef.kind must be Deployment: no other kind can be released"))]
    pub kind: String,
    /// The Deployment's name, in the namespace of the CanaryRollout.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The Service whose requests are judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// The Service's name, in the namespace of the CanaryRollout. Its selector has to match the Deployment's pods.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL_PATTERN))]
    pub name: String,
    /// The Service's ports that are judged. Default: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
}

/// One weight, and how long it is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The canary's share of the requests, in percent.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// How long this weight is watched. Starts when every live proxy has acknowledged the weight. Default 1m.
    #[serde(default = "default_soak")]
    #[schemars(regex(pattern = DURATION_PATTERN), length(max = 32))]
    pub soak: String,
    /// How many of the canary's requests have to be judged before this step can end. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub min_requests: Option<i64>,
    /// What this step waits for once it has passed; the checks go on meanwhile. `{}`: until a person lets it go on, with the
    /// annotation aviary.dev/request: promote:REVISION@WEIGHT on the CanaryRollout (status.message has the command), or takes the
    /// pause out of the spec. `{for: 10m}`: the same, or this long. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

impl Step {
    fn defaults() -> Vec<Step> {
        [(1, "1m"), (10, "2m"), (50, "5m"), (100, "1m")]
            .map(|(weight, soak)| Step {
                weight,
                soak: soak.to_owned(),
                min_requests: None,
                pause: None,
            })
            .to_vec()
    }
}

/// What a step waits for once it has passed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Pause {
    /// Go on by itself after this time. Default: only when a person says so.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION_PATTERN), length(max = 32))]
    #[x_kube(validation = Rule::new(DURATION_ABOVE_ZERO).message("steps[].pause.for must be longer than 0s: write for example 10m, or pause: {} to wait for a person"))]
    pub duration: Option<String>,
}

/// How requests are divided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Split {
    /// Keeps each user on one revision. The weight is then the share of users: a higher one adds some and takes the canary
    /// from none, and a rollback gives all of them back. Requests that do not say whose they are, and connections
    /// that are no HTTP, are interleaved by weight. Default: all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

/// What in a request says whose it is: exactly one of header and cookie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.header) != has(self.cookie)").message("spec.split.sticky has exactly one of header and cookie: write for example sticky: {header: x-user-id}"))]
pub struct Sticky {
    /// A header of the request that is the same in all requests of a user and another one in those of others, for example
    /// `x-user-id`. Its case does not matter, and of several the first counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(
        validation = Rule::new(TOKEN).message("spec.split.sticky.header is the name of a request header, of letters, digits and hyphens: write for example x-user-id"),
        validation = Rule::new(SOMEBODYS).message("spec.split.sticky.header: this one does not say whose a request is: name a header that is the same in every request of a user, or write cookie: NAME for one cookie")
    )]
    pub header: Option<String>,
    /// A cookie of the request that is the same in all requests of a user, for example `session`. Its case matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(TOKEN).message("spec.split.sticky.cookie is the name of a cookie, without spaces, '=' and ';': write for example session"))]
    pub cookie: Option<String>,
}

/// How each step is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// The length of a window: every check is judged once for each. At least twice the scrape interval of
    /// Prometheus, or windows are empty. Default 30s.
    #[serde(default = "default_interval")]
    #[schemars(regex(pattern = DURATION_PATTERN), length(max = 32))]
    #[x_kube(validation = Rule::new(DURATION_ABOVE_ZERO).message("spec.analysis.interval is the length of a window and must be longer than 0s: write at least 1s, for example 30s"))]
    pub interval: String,
    /// How many failed windows in a row are tolerated: one more rolls the release back. Default 2.
    #[serde(default = "default_failure_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub failure_limit: i32,
    /// What has to hold. Default: a success rate of at least 99%, and a p99 latency of at most 500ms.
    #[serde(default = "Check::defaults")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub checks: Vec<Check>,
    /// The sequential test of the canary against the stable revision, every second, by what the calling proxies report: it
    /// needs no Prometheus, and rolls back at once.
    #[serde(default)]
    pub guard: Guard,
    /// What a release may spend of the Service's error budget: a raise that could spend more than is left of that waits, and
    /// so does a promotion when too much is spent. Nothing is lowered for it. Default: nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// What to do when a step cannot be judged: too few requests, no data, or Prometheus away.
    #[serde(default)]
    pub no_evidence: NoEvidence,
    /// Which Prometheus is asked, as whom, and whose metrics it has. Default: the operator's flag --prometheus-address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusRef>,
}

impl Default for Analysis {
    fn default() -> Self {
        Analysis {
            interval: default_interval(),
            failure_limit: default_failure_limit(),
            checks: Check::defaults(),
            guard: Guard::default(),
            exposure: None,
            no_evidence: NoEvidence::default(),
            prometheus: None,
        }
    }
}

/// One thing that has to hold: exactly one of successRate, latency and prometheus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.successRate), has(self.latency), has(self.prometheus)].filter(x, x).size() == 1").message("a check has exactly one of successRate, latency and prometheus"))]
pub struct Check {
    /// A name of your own; it appears in the status and in events.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The share of the canary's requests that succeed, as the calling proxies see it: first attempts only;
    /// a status of 500 or above, a failed gRPC status, a reset and a refused connection are failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// How long the canary takes to answer, as the calling proxies see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// A query of your own; it has to give exactly one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusCheck>,
}

impl Check {
    fn defaults() -> Vec<Check> {
        vec![
            Check {
                name: "success-rate".to_owned(),
                success_rate: Some(SuccessRate {
                    at_least: "99%".to_owned(),
                }),
                latency: None,
                prometheus: None,
            },
            Check {
                name: "latency".to_owned(),
                success_rate: None,
                latency: Some(Latency {
                    quantile: default_quantile(),
                    at_most: "500ms".to_owned(),
                }),
                prometheus: None,
            },
        ]
    }
}

/// A lower bound of the success rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRate {
    /// For example `99%` or `99.5%`. A window fails only when its requests are enough to be sure (one-sided 95%).
    #[schemars(regex(pattern = PERCENT_PATTERN), length(max = 8))]
    pub at_least: String,
}

/// An upper bound of a latency quantile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// For example `0.99` (a string: no floats in this API). Default 0.99.
    #[serde(default = "default_quantile")]
    #[schemars(regex(pattern = QUANTILE_PATTERN), length(max = 12))]
    pub quantile: String,
    /// For example `500ms`.
    #[schemars(regex(pattern = DURATION_PATTERN), length(max = 32))]
    #[x_kube(validation = Rule::new(DURATION_ABOVE_ZERO).message("latency.atMost must be longer than 0s: nothing is answered at once; write for example 500ms"))]
    pub at_most: String,
}

/// A PromQL query and its bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.atMost) || has(self.atLeast)").message("a prometheus check needs atMost or atLeast"))]
pub struct PrometheusCheck {
    /// PromQL that gives exactly one number. `{{ canary.revision }}`, `{{ stable.revision }}`, `{{ namespace }}`,
    /// `{{ service }}`, `{{ deployment }}` and `{{ interval }}` are replaced.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// The number may be at most this: an integer, or a decimal in quotes such as `"0.05"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub at_most: Option<Decimal>,
    /// The number has to be at least this: an integer, or a decimal in quotes such as `"1.5"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub at_least: Option<Decimal>,
}

/// When the canary is worse than the stable revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// How often a good release may be rolled back at most, over its whole life; at most 50%. 0% switches the guard off.
    /// Default 1%.
    #[serde(default = "default_false_alarm")]
    #[schemars(regex(pattern = PERCENT_PATTERN), length(max = 8))]
    pub false_alarm: String,
    /// How much higher than the stable revision's the canary's error rate may be, in points of a percent; at most 50%.
    /// Default 0.5%.
    #[serde(default = "default_error_increase")]
    #[schemars(regex(pattern = PERCENT_PATTERN), length(max = 8))]
    pub max_error_increase: String,
}

impl Default for Guard {
    fn default() -> Self {
        Guard {
            false_alarm: default_false_alarm(),
            max_error_increase: default_error_increase(),
        }
    }
}

/// What a release may spend of the Service's error budget. The objective leaves it: 99.9% of 30 days leaves 43 minutes in which
/// every request fails, or ten times as long in which a tenth does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// The service level objective: the share of the Service's requests that has to succeed, at least 50% and below 100%, for
    /// example `99.9%`.
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new(OBJECTIVE).message("spec.analysis.exposure.objective must be at least 50% and below 100%, since what it leaves is the error budget: write for example 99.9%"))]
    pub objective: String,
    /// Over how many days the objective holds, 1d to 366d. Default 30d.
    #[serde(default = "default_window")]
    #[schemars(regex(pattern = DAYS_PATTERN), length(max = 8))]
    pub window: String,
    /// The share of that window's error budget that one release may spend, above 0%. Default 5%.
    #[serde(default = "default_budget")]
    #[schemars(regex(pattern = PERCENT_PATTERN), length(max = 8))]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("spec.analysis.exposure.budget must be above 0%: a release that may spend nothing never begins; write for example 5%"))]
    pub budget: String,
}

/// What to do when a step cannot be judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoEvidence {
    /// How long to wait for evidence after the soak. Default 10m.
    #[serde(default = "default_hold")]
    #[schemars(regex(pattern = DURATION_PATTERN), length(max = 32))]
    pub hold: String,
    /// Then: Advance (only if at least 15 of the canary's requests were judged in this step, no window failed, and the guard has no doubts;
    /// else the step waits on) or Pause. A step that waits goes on when there is evidence, or when a person says so as after
    /// a pause. Default Advance.
    #[serde(default)]
    pub then: Then,
}

impl Default for NoEvidence {
    fn default() -> Self {
        NoEvidence {
            hold: default_hold(),
            then: Then::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// The weight goes to 0 at once.
    #[default]
    Rollback,
    /// The weight stays, and never rises before a person says so.
    Pause,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Capacity {
    #[default]
    Proportional,
    Full,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The Deployment stays paused.
    #[default]
    Leave,
    /// The Deployment rolls to its new template by itself.
    Promote,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Then {
    #[default]
    Advance,
    Pause,
}

fn apps_v1() -> String {
    "apps/v1".to_owned()
}

fn default_soak() -> String {
    "1m".to_owned()
}

fn default_interval() -> String {
    "30s".to_owned()
}

fn default_false_alarm() -> String {
    "1%".to_owned()
}

fn default_error_increase() -> String {
    "0.5%".to_owned()
}

fn default_window() -> String {
    "30d".to_owned()
}

fn default_budget() -> String {
    "5%".to_owned()
}

fn default_failure_limit() -> i32 {
    2
}

fn default_quantile() -> String {
    "0.99".to_owned()
}

fn default_hold() -> String {
    "10m".to_owned()
}

fn default_progress_deadline() -> String {
    "10m".to_owned()
}
