//! What is shown of one release: made of the CanaryRollout, its Deployment's template and Events, and of nothing else.
//!
//! `-o json` prints it as it is. Times are absolute, so that the same view says how long is left whenever it is looked at.

mod checks;
mod events;
mod next;
mod seen;

use aviary_crds::CanaryRollout;
use aviary_crds::condition::{EXCLUSIVE, OUTSIDE_CALLERS};
use aviary_crds::status::{CanaryRolloutStatus, ExposureStatus, Phase};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use serde::Serialize;

pub use checks::{CheckView, judgements};
pub use events::{EventView, newest_events};
pub use next::Next;
pub use seen::{Arm, Compared, since_the_beginning};

use crate::standing::{Standing, condition, standing};
use crate::template::Template;

/// One release, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub namespace: String,
    pub name: String,
    /// The Deployment.
    pub target: String,
    /// As the status says it; `Pending` before it says anything.
    pub phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_since: Option<Timestamp>,
    /// What the Deployment asks for; absent if it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Newest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// First attempts since the release began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Compared>,
    /// The same since the present weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_at_weight: Option<Compared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_budget: Option<ErrorBudget>,
    /// The newest judgement of each check.
    pub checks: Vec<CheckView>,
    /// Who holds the release, by `pause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<PausedBy>,
    /// How the newest release that failed came to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The operator's sentence.
    pub message: String,
    pub next: Next,
    /// What else people have to know of.
    pub remarks: Vec<String>,
    /// The newest Events, newest last.
    pub events: Vec<EventView>,
}

/// The template that the Deployment asks for, and how its release stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Newest {
    pub revision: String,
    /// Unseen, Blocked, Running, Waiting, Serving or Failed.
    pub standing: &'static str,
}

/// The revision that is released, or was last.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    pub revision: String,
    pub run: i64,
    /// It is being released, or taken back; else it is what was released last.
    pub runs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed: Option<i32>,
    /// Its requests that were judged in this step, and failed windows in a row.
    pub requests_judged: i64,
    pub failed_windows: i32,
}

/// Where the release is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Counted from 0.
    pub index: usize,
    pub position: String,
    pub weight: i32,
    /// The weights of all steps; empty when the spec was edited since the release began.
    pub weights: Vec<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak_ends_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_ends_at: Option<Timestamp>,
}

/// Percent, and proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Weight {
    pub wanted: i32,
    pub sent: i32,
    pub acknowledged: i32,
    pub proxies: i32,
}

/// The guard, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardView {
    pub evidence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foresight: Option<String>,
}

/// What the release has spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBudget {
    pub spent: String,
    pub budget: String,
    pub undetected: String,
}

impl ErrorBudget {
    pub(crate) fn of(status: &ExposureStatus) -> ErrorBudget {
        ErrorBudget {
            spent: status.spent.clone(),
            budget: status.budget.clone(),
            undetected: status.undetected.clone(),
        }
    }
}

/// A person's pause.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PausedBy {
    pub user: String,
    pub since: Timestamp,
}

/// The newest release that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub revision: String,
    pub cause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    pub message: String,
}

/// What is shown. `template`: `None` if the Deployment cannot be read, or is not there.
pub fn view(rollout: &CanaryRollout, template: Option<&Template>, events: Vec<EventView>) -> View {
    let default = CanaryRolloutStatus::default();
    let status = rollout.status.as_ref().unwrap_or(&default);
    let newest = template.map(|template| Newest {
        revision: template.revision.clone(),
        standing: name(&standing(rollout, template)),
    });
    let runs = status.phase.is_some_and(is_running);
    let seen = status.guard.as_ref().map(seen::since_the_beginning);
    View {
        namespace: rollout.namespace().unwrap_or_default(),
        name: rollout.name_any(),
        target: rollout.spec.target_ref.name.clone(),
        phase: status.phase.map_or("Pending", Phase::name).to_owned(),
        phase_since: time(status.phase_since.as_ref()),
        newest,
        stable: status.stable.as_ref().map(|it| it.revision.clone()),
        canary: status.canary.as_ref().map(|it| Canary {
            revision: it.revision.clone(),
            run: it.run,
            runs,
            started_at: time(it.started_at.as_ref()),
            ready: it.ready,
            needed: it.needed,
            requests_judged: it.requests,
            failed_windows: it.failed_windows,
        }),
        step: step(rollout, status),
        weight: status.weight.as_ref().filter(|_| runs).map(|it| Weight {
            wanted: it.desired,
            sent: it.sent,
            acknowledged: it.acknowledged,
            proxies: it.proxies,
        }),
        seen_at_weight: seen
            .as_ref()
            .and_then(|all| seen::at_this_weight(all, status)),
        seen,
        guard: status.guard.as_ref().map(|it| GuardView {
            evidence: it.evidence.clone(),
            foresight: it.foresight.clone(),
        }),
        error_budget: status.exposure.as_ref().map(ErrorBudget::of),
        checks: checks::newest(status),
        paused_by: status.paused_by.as_ref().map(|it| PausedBy {
            user: it.user.clone(),
            since: it.since.0,
        }),
        failure: failure(status),
        message: status.message.clone().unwrap_or_default(),
        next: next::next(rollout, status),
        remarks: remarks(rollout, status),
        events: events::of_this_release(events, status),
    }
}

/// A revision has, or is about to get, or has just lost a share of the requests.
pub fn is_running(phase: Phase) -> bool {
    match phase {
        Phase::Starting
        | Phase::Scaling
        | Phase::Shifting
        | Phase::Soaking
        | Phase::Paused
        | Phase::Promoting
        | Phase::Returning
        | Phase::RollingBack => true,
        Phase::Stable | Phase::Failed | Phase::Unsettled => false,
    }
}

fn name(standing: &Standing) -> &'static str {
    match standing {
        Standing::Unseen => "Unseen",
        Standing::Blocked { .. } => "Blocked",
        Standing::Runs => "Running",
        Standing::Waits { .. } => "Waiting",
        Standing::Serves => "Serving",
        Standing::Failed { .. } => "Failed",
    }
}

fn step(rollout: &CanaryRollout, status: &CanaryRolloutStatus) -> Option<Step> {
    let of = status.step.as_ref()?;
    let index = usize::try_from(of.index).ok()?;
    let steps = next::steps_in_force(rollout, of);
    Some(Step {
        index,
        position: of.position.clone(),
        weight: of.weight,
        weights: steps.iter().map(|step| step.weight).collect(),
        soak_ends_at: time(of.soak_ends_at.as_ref()),
        pause_ends_at: time(of.pause_ends_at.as_ref()),
    })
}

/// How the newest release that failed came to its end.
pub fn failure(status: &CanaryRolloutStatus) -> Option<Failure> {
    let failure = status.failure.as_ref()?;
    Some(Failure {
        revision: failure.revision.clone(),
        cause: format!("{:?}", failure.cause),
        at: time(failure.at.as_ref()),
        message: failure.message.clone(),
    })
}

fn remarks(rollout: &CanaryRollout, status: &CanaryRolloutStatus) -> Vec<String> {
    let said = |type_: &str, value: &str| {
        let condition = condition(status, type_)?;
        (condition.status == value).then(|| condition.message.clone())
    };
    let suspended = "spec.suspend is true: nothing is raised, and no release begins";
    let asked = rollout
        .annotations()
        .get(aviary_crds::request::REQUEST_ANNOTATION);
    let old = status.observed_generation != rollout.metadata.generation;
    [
        rollout.spec.suspend.then(|| suspended.to_owned()),
        asked.map(|asked| format!("asked for, and not answered yet: {asked}")),
        old.then(|| "the operator has not seen the newest spec yet".to_owned()),
        said(OUTSIDE_CALLERS, "True"),
        said(EXCLUSIVE, "False"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn time(of: Option<&MicroTime>) -> Option<Timestamp> {
    of.map(|MicroTime(time)| *time)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
