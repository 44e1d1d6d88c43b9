//! `kubectl aviary why`: what was decided about a release, and what was known then. Pure, but for the asking.
//!
//! The status keeps the newest 20 decisions and the newest 20 judgements; older ones are Events, and in the operator's log.

mod words;

use aviary_crds::CanaryRollout;
use aviary_crds::status::{CanaryRolloutStatus, DecisionRecord};
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::args::{Output, WhyArgs};
use crate::cluster::{Cluster, ClusterError};
use crate::exit::Exit;
use crate::out;
use crate::view::{
    CheckView, Compared, ErrorBudget, Failure, failure, judgements, since_the_beginning,
};

/// Asks, and prints.
pub async fn print(cluster: &Cluster, args: &WhyArgs) -> Result<Exit, ClusterError> {
    let rollout = cluster.rollout(&args.name).await?;
    let why = why(&rollout, args.all);
    match args.output {
        Some(Output::Json) => {
            let text = serde_json::to_string_pretty(&why);
            out::line(text.expect("it has string keys and finite numbers"));
        }
        None => {
            for line in words::lines(&why, Timestamp::now()) {
                out::line(line);
            }
        }
    }
    Ok(Exit::Done)
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    pub namespace: String,
    pub name: String,
    /// Oldest first.
    pub releases: Vec<Release>,
    /// How the newest release that failed came to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What holds now.
    pub message: String,
}

/// One run of one revision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    pub revision: String,
    pub run: i64,
    pub decisions: Vec<Decision>,
    /// What was judged since the last decision.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<CheckView>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    pub at: Timestamp,
    pub decision: String,
    /// The user who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// From then on, in percent.
    pub weight: i32,
    /// Requests that were judged in the step by then.
    pub requests_judged: i64,
    /// The newest judgement then.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub judged: String,
    /// What the guard had seen of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Compared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_budget: Option<ErrorBudget>,
    /// The judgements since the decision before it, as far as the status keeps them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckView>,
}

/// `all`: every release that the status remembers, and not the newest alone.
pub fn why(rollout: &CanaryRollout, all: bool) -> Why {
    let default = CanaryRolloutStatus::default();
    let status = rollout.status.as_ref().unwrap_or(&default);
    let mut releases: Vec<Release> = Vec::new();
    let mut checks = judgements(status).into_iter().peekable();
    let mut until = |at: Timestamp| -> Vec<CheckView> {
        std::iter::from_fn(|| checks.next_if(|check| check.at <= at)).collect()
    };
    for record in &status.decisions {
        let before = until(record.at.0);
        let decision = decision(record, before);
        match releases
            .last_mut()
            .filter(|release| release.run == record.run)
        {
            Some(release) => release.decisions.push(decision),
            None => releases.push(Release {
                revision: record.revision.clone(),
                run: record.run,
                decisions: vec![decision],
                undecided: Vec::new(),
            }),
        }
    }
    if let Some(newest) = releases.last_mut() {
        newest.undecided = until(Timestamp::MAX);
    }
    if !all {
        releases.drain(..releases.len().saturating_sub(1));
    }
    Why {
        namespace: rollout.namespace().unwrap_or_default(),
        name: rollout.name_any(),
        releases,
        failure: failure(status),
        message: status.message.clone().unwrap_or_default(),
    }
}

fn decision(record: &DecisionRecord, checks: Vec<CheckView>) -> Decision {
    let guard = record.guard.as_ref();
    Decision {
        at: record.at.0,
        decision: record.decision.clone(),
        by: record.by.clone(),
        weight: record.weight,
        requests_judged: record.requests,
        judged: record.judged.clone(),
        seen: guard.map(since_the_beginning),
        evidence: guard.map(|guard| guard.evidence.clone()),
        error_budget: record.exposure.as_ref().map(ErrorBudget::of),
        // A release that begins has nothing to do with what was judged of the one before.
        checks: if record.decision == "ReleaseStarted" {
            Vec::new()
        } else {
            checks
        },
    }
}

#[cfg(test)]
mod tests;
