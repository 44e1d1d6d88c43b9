//! What the checks said last.

use aviary_crds::status::{CanaryRolloutStatus, Source};
use jiff::Timestamp;
use serde::Serialize;

/// One judgement of one check.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    pub check: String,
    pub verdict: &'static str,
    pub at: Timestamp,
    /// The canary's weight then, in percent.
    pub weight: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<i64>,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
}

/// All that the status keeps, oldest first.
pub fn judgements(status: &CanaryRolloutStatus) -> Vec<CheckView> {
    let records = status.verdicts.iter();
    let checks = records.map(|record| CheckView {
        check: record.check.clone(),
        verdict: record.verdict.name(),
        at: record.at.0,
        weight: record.weight,
        requests: record.requests,
        reason: record.reason.clone(),
        source: record.source.map(name),
    });
    checks.collect()
}

/// The newest judgement of each check, in the order in which they were judged; of the release that is shown.
pub(super) fn newest(status: &CanaryRolloutStatus) -> Vec<CheckView> {
    let began = status.canary.as_ref().and_then(|it| it.started_at.as_ref());
    let began = began.map(|it| it.0);
    let mut newest: Vec<CheckView> = Vec::new();
    for check in judgements(status) {
        if began.is_some_and(|began| check.at < began) {
            continue;
        }
        match newest.iter_mut().find(|it| it.check == check.check) {
            Some(old) => *old = check,
            None => newest.push(check),
        }
    }
    newest
}

fn name(source: Source) -> &'static str {
    match source {
        Source::Prometheus => "Prometheus",
        Source::Sidecars => "Sidecars",
    }
}
