//! What is true now, and all that a restarted operator needs to go on from the same place.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// How far a release is, what is served, and what was judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryRolloutStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the release is: Stable, Starting, Scaling, Shifting, Soaking, Paused, Promoting, Returning, RollingBack or Failed;
    /// Unsettled while it is not clear which revision serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When the phase began; a hold moves it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_since: Option<MicroTime>,
    /// One sentence: what happens now, and what happens next and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The revision that serves everyone, or everyone but the canary's share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<StableStatus>,
    /// The revision that is released, or was released last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,
    /// The step that the release is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepStatus>,
    /// Who has paused the release, by the request `pause`: nothing of it is raised until somebody resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<PausedByStatus>,
    /// The canary's weight: wanted, sent to the proxies, and how many of them have acknowledged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<WeightStatus>,
    /// The verdict of the newest window: Pass, Fail or NoEvidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The newest judgements, newest last; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub verdicts: Vec<VerdictRecord>,
    /// The newest decisions and what they were made of, newest last; at most 20. Older ones are Events, and in the operator's log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub decisions: Vec<DecisionRecord>,
    /// What the guard has seen of the present release: first attempts under a weight, as the calling proxies report them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardStatus>,
    /// What the present release has spent of its error budget, if spec.analysis.exposure gives it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<ExposureStatus>,
    /// How the last release that failed came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureStatus>,
    /// The operator's memory of the release: not for people, and not to be edited. Without it, the operator begins afresh
    /// with the revision that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// Ready, Reconciling and Stalled by the rules of kstatus, and Analysis, Promoted, RolledBack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The stable revision serves everyone; nothing is being released.
    Stable,
    /// The canary's first pods are coming up; its weight is 0.
    Starting,
    /// The canary's pods for the next step are coming up; the weight is still that of the step before.
    Scaling,
    /// A new weight was sent, and not every proxy has acknowledged it yet.
    Shifting,
    /// Every proxy uses the weight; the checks judge.
    Soaking,
    /// The weight stays where it is until a person, or the end of a pause, lets the release go on; the checks judge.
    Paused,
    /// The last step passed; the Deployment rolls while the canary carries the traffic.
    Promoting,
    /// A promotion was left: the stable pods come back, and take over from the canary as they become Ready.
    Returning,
    /// The canary's weight is 0; its pods finish what they have and go.
    RollingBack,
    /// The release failed; the stable revision serves everyone, and the Deployment waits for another template.
    Failed,
    /// It is not clear which revision serves: the Deployment is rolling or half rolled, or break-glass is on. Nothing is
    /// split, and nothing is released until it is.
    Unsettled,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Stable => "Stable",
            Phase::Starting => "Starting",
            Phase::Scaling => "Scaling",
            Phase::Shifting => "Shifting",
            Phase::Soaking => "Soaking",
            Phase::Paused => "Paused",
            Phase::Promoting => "Promoting",
            Phase::Returning => "Returning",
            Phase::RollingBack => "RollingBack",
            Phase::Failed => "Failed",
            Phase::Unsettled => "Unsettled",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StableStatus {
    /// Hash of the pod template.
    pub revision: String,
    /// The same hash without the template's annotations.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStatus {
    /// Hash of the pod template.
    pub revision: String,
    /// The same hash without the template's annotations.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// The number of this run of the rollout; a later run has a higher one.
    pub run: i64,
    /// When the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<MicroTime>,
    /// The canary's pods that are Ready, and how many this step needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<i32>,
    /// Since when no pod of the canary, or not enough for its weight, has been Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unready_since: Option<MicroTime>,
    /// Requests that were judged in this step, and failed windows in a row.
    #[serde(default)]
    pub requests: i64,
    #[serde(default)]
    pub failed_windows: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Counted from 0.
    pub index: i32,
    /// For people: `2/4` is the second of four steps.
    pub position: String,
    /// The step's weight, in percent.
    pub weight: i32,
    /// When the soak ends; set once every proxy has acknowledged the weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak_ends_at: Option<MicroTime>,
    /// When the pause of the step ends by itself; not set for one that waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ends_at: Option<MicroTime>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PausedByStatus {
    /// As the API server authenticated them; `somebody, unknown` when nobody knows who it was.
    pub user: String,
    pub since: MicroTime,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightStatus {
    /// The canary's weight that the release asks for, in percent.
    pub desired: i32,
    /// The weight that the proxies were sent, in percent: lower than desired while the canary's pods are not Ready.
    pub sent: i32,
    /// How many proxies have acknowledged it.
    pub acknowledged: i32,
    /// How many proxies have to.
    pub proxies: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The check holds.
    Pass,
    /// The check does not hold, and there were enough requests to say so.
    Fail,
    /// Nobody can tell: too few requests, no data, or Prometheus away. Never counts as a failure.
    NoEvidence,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "Pass",
            Verdict::Fail => "Fail",
            Verdict::NoEvidence => "NoEvidence",
        }
    }
}

/// One judgement of one check over one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerdictRecord {
    /// The end of the window.
    pub at: MicroTime,
    /// The canary's weight then, in percent.
    pub weight: i32,
    /// The check's name.
    pub check: String,
    pub verdict: Verdict,
    /// Requests to the canary in the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<i64>,
    /// What was measured, and what was asked for.
    pub reason: String,
    /// Who said so: Prometheus, or the calling sidecars themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Source {
    Prometheus,
    Sidecars,
}

/// What the operator decided, and what it knew then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    pub at: MicroTime,
    /// The reason of its Event: WeightRaised, RolledBack and so on.
    pub decision: String,
    /// The revision that was decided about, and the number of its run.
    pub revision: String,
    pub run: i64,
    /// The weight that the revision has from then on, in percent.
    pub weight: i32,
    /// Its requests that were judged in the step by then.
    pub requests: i64,
    /// The user who asked for it; `somebody, unknown` when nobody knows who it was. Not set for what nobody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The newest judgement: of a check, or of the guard.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub judged: String,
    /// What the guard had seen of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardStatus>,
    /// What the run had spent of its error budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<ExposureStatus>,
}

/// Why a weight went to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CauseStatus {
    /// More failed windows in a row than spec.analysis.failureLimit.
    AnalysisFailed,
    /// The guard: the canary is worse than the stable revision in the same seconds.
    WorseThanStable,
    /// The canary's pods took longer than spec.progressDeadline.
    ProgressDeadlineExceeded,
    /// The canary's pods were taken away, or not Ready for longer than spec.progressDeadline.
    CanaryLost,
    /// A canary pod has no sidecar.
    NotMeshed,
    /// A person aborted the release.
    Aborted,
    /// A hook whose onFailure is Rollback did not agree.
    HookRefused,
    /// A proxy has seen this run revoked.
    Revoked,
    /// The Deployment's template is the stable one again.
    TemplateReverted,
    /// The CanaryRollout was deleted.
    Deleted,
    /// A person has taken over, by the annotation aviary.dev/break-glass.
    BreakGlass,
    /// Nothing was released: the Deployment was found paused on a template that does not serve.
    FoundPaused,
}

/// Canary beside stable, in the same seconds. Written with whatever else is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuardStatus {
    /// First attempts of the canary, and how many of them failed.
    pub requests: i64,
    pub failed: i64,
    /// The same of the stable revision.
    pub stable_requests: i64,
    pub stable_failed: i64,
    /// How far the evidence against the canary is on its way to an alarm: at 100% the release is rolled back.
    pub evidence: String,
    /// What it would see, and when, at the pace of the canary's requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foresight: Option<String>,
}

/// What a release has spent of its error budget, as time in which every request of the Service fails. Written with whatever else
/// is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExposureStatus {
    /// What it has spent: the canary's failures beyond the stable revision's rate in the same seconds. While that is more than
    /// the budget, nothing is raised and nothing promoted.
    pub spent: String,
    /// What it may spend: the share spec.analysis.exposure.budget of what the objective leaves of the window.
    pub budget: String,
    /// So much more of the canary's requests than of the stable revision's could fail without having been seen, in points of a
    /// percent (one-sided 95%).
    pub undetected: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    pub revision: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// The run that failed.
    #[serde(default)]
    pub run: i64,
    /// Why the weight went to 0.
    pub cause: CauseStatus,
    /// When the weight went to 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<MicroTime>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What the operator remembers, in a form of its own, with a version. Kept as text: the parsed form is many times as large,
/// and is read when a rollout is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine(Box<str>);

impl From<&Value> for Machine {
    fn from(value: &Value) -> Machine {
        Machine(value.to_string().into_boxed_str())
    }
}

impl From<&Machine> for Value {
    fn from(Machine(text): &Machine) -> Value {
        serde_json::from_str(text).unwrap_or(Value::Null)
    }
}

impl Serialize for Machine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Machine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Machine, D::Error> {
        Value::deserialize(deserializer).map(|value| Machine::from(&value))
    }
}

impl JsonSchema for Machine {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Machine".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}
