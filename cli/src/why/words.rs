//! Decisions in words.

use jiff::Timestamp;

use super::{Decision, Release, Why};
use crate::text::{clock, count, plural, share};
use crate::view::{Arm, CheckView};

pub(super) fn lines(why: &Why, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if why.releases.is_empty() {
        lines.push(format!(
            "{}/{}: nothing was decided yet",
            why.namespace, why.name
        ));
    }
    for release in &why.releases {
        lines.extend(of_release(why, release, now));
    }
    if let Some(failure) = &why.failure {
        let at = failure
            .at
            .map_or_else(String::new, |at| format!(" at {}", clock(at, now)));
        lines.push(format!(
            "revision {} was rolled back{at}: {}",
            failure.revision, failure.cause
        ));
        if !failure.message.is_empty() {
            lines.push(format!("  {}", failure.message));
        }
    }
    if !why.message.is_empty() {
        lines.push(format!("now: {}", why.message));
    }
    lines
}

fn of_release(why: &Why, release: &Release, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!(
        "{}/{}: revision {}, release {}",
        why.namespace, why.name, release.revision, release.run
    )];
    for decision in &release.decisions {
        lines.push(String::new());
        lines.extend(of_decision(decision, now));
    }
    lines.push(String::new());
    if !release.undecided.is_empty() {
        lines.push("since then".to_owned());
        lines.extend(release.undecided.iter().map(|check| judged(check, now)));
        lines.push(String::new());
    }
    lines
}

fn of_decision(decision: &Decision, now: Timestamp) -> Vec<String> {
    let by = decision.by.as_ref();
    let by = by.map_or_else(String::new, |by| format!(" (asked for by {by})"));
    let mut lines = vec![format!(
        "{}  {}: {}{by}",
        clock(decision.at, now),
        decision.decision,
        meaning(decision)
    )];
    if decision.requests_judged > 0 {
        lines.push(format!(
            "  judged in the step: {}",
            plural(decision.requests_judged, "request")
        ));
    }
    lines.extend(decision.checks.iter().map(|check| judged(check, now)));
    // The newest one is said anyway, unless it is too old to be kept among the judgements.
    if decision.checks.is_empty() && !decision.judged.is_empty() {
        lines.push(format!("  the newest judgement then: {}", decision.judged));
    }
    if let Some(seen) = decision
        .seen
        .filter(|seen| seen.canary.requests + seen.stable.requests > 0)
    {
        let evidence = decision.evidence.as_deref().unwrap_or("nothing");
        lines.push(format!(
            "  seen so far: {}; {}; {evidence} of the evidence that it takes to roll back",
            arm("canary", seen.canary),
            arm("stable", seen.stable)
        ));
    }
    if let Some(budget) = &decision.error_budget {
        lines.push(format!(
            "  error budget: {} of {} of full outage spent; {} more of its requests could fail unseen",
            budget.spent, budget.budget, budget.undetected
        ));
    }
    lines
}

fn judged(check: &CheckView, now: Timestamp) -> String {
    let by = check
        .source
        .map_or_else(String::new, |by| format!(" ({by})"));
    format!(
        "  {}  {} {} at {}%: {}{by}",
        clock(check.at, now),
        check.check,
        check.verdict,
        check.weight,
        check.reason
    )
}

fn arm(name: &str, arm: Arm) -> String {
    let rate =
        share(arm.failed, arm.requests).map_or_else(String::new, |rate| format!(" ({rate})"));
    format!(
        "{name} failed {} of {}{rate}",
        count(arm.failed),
        plural(arm.requests, "first attempt")
    )
}

/// What a decision comes to; the reasons are those of the operator's Events.
fn meaning(decision: &Decision) -> String {
    let weight = decision.weight;
    match decision.decision.as_str() {
        "ReleaseStarted" => "its pods come up; it has no requests yet".to_owned(),
        "WeightRaised" => format!("it has {weight}% of the requests from then on"),
        "AdvancedWithoutEvidence" => {
            "nobody could judge the step in spec.analysis.noEvidence.hold, and its `then` is Advance".to_owned()
        }
        "Paused" => format!("the step has passed, and its pause begins at {weight}%"),
        "FailurePaused" => format!("too many windows failed, and spec.onFailure is Pause: it keeps {weight}%"),
        "StableFailing" => format!("the stable revision fails the same checks: it keeps {weight}%"),
        "LetOn" => format!("a person let it go on from {weight}%"),
        "JudgedAnew" => format!("a person has it judged anew at {weight}%"),
        "JudgementSkipped" => "a person skips what is left of its steps and of their judgement".to_owned(),
        "PausedByPerson" => format!("a person holds it at {weight}%"),
        "Resumed" => "a person lets it go on".to_owned(),
        "Retried" => "a person wants it to be tried again".to_owned(),
        "LeaseLapsed" => {
            "no operator renewed its weight: the proxies went back to stable, and it begins again".to_owned()
        }
        "Superseded" => "a newer template took its place: weight 0%".to_owned(),
        "RolledBack" => "weight 0%; the stable revision serves everyone".to_owned(),
        "Promoting" => "every step has passed: the Deployment rolls to it".to_owned(),
        "Promoted" => "it is the stable revision".to_owned(),
        "Returning" | "PromotionAborted" => "its promotion was left: the stable pods take over again".to_owned(),
        _ => format!("weight {weight}% from then on"),
    }
}
