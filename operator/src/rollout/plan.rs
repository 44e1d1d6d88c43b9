//! From the spec to the machine's plan. After this nobody reads the spec's strings.

use aviary_crds::spec::{
    CanaryRolloutSpec, Capacity as SpecCapacity, DeletionPolicy, Guard as SpecGuard,
    OnFailure as SpecOnFailure, Pause as SpecPause, Sticky, Then as SpecThen,
};
use aviary_crds::units::{self, UnitError};
use rollout_core::guard;
use rollout_core::plan::{
    Capacity, Deletion, InvalidPlan, Limits, OnFailure, Pause, Percent, Plan, Step, Then,
};
use rollout_core::time::Span;
use traffic_core::split::sticky::{InvalidKey, Key};

use super::checks::{Check, InvalidCheck};
use super::hooks::{Hook, InvalidHook};
use crate::error_budget::{self, InvalidBudget};

#[derive(Clone, Debug)]
pub struct Parsed {
    pub plan: Plan,
    pub checks: Vec<Check>,
    pub hooks: Vec<Hook>,
    /// `None`: the release wants no guard.
    pub guard: Option<guard::Limits>,
    /// What in a request says whose it is; `None`: requests do not follow their users.
    pub sticky: Option<Key>,
}

/// What the CRD's schema did not catch. Each says where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum InvalidSpec {
    #[error("spec.{field}: {source}")]
    Unit {
        field: &'static str,
        source: UnitError,
    },
    #[error("spec.steps: {0}")]
    Plan(#[from] InvalidPlan),
    #[error(transparent)]
    Check(#[from] InvalidCheck),
    #[error(transparent)]
    Hook(#[from] InvalidHook),
    #[error("spec.analysis.{0}")]
    Guard(#[from] guard::InvalidGuard),
    #[error("spec.split.sticky.{0}")]
    Sticky(#[from] InvalidKey),
    #[error("spec.split.sticky has exactly one of header and cookie")]
    StickyKeys,
    #[error(transparent)]
    Exposure(#[from] InvalidBudget),
}

pub(super) fn parse(spec: &CanaryRolloutSpec) -> Result<Parsed, InvalidSpec> {
    let mut steps = Vec::with_capacity(spec.steps.len());
    for step in &spec.steps {
        steps.push(Step {
            weight: Percent::new(i64::from(step.weight))?,
            soak: span("steps[].soak", &step.soak)?,
            min_requests: step
                .min_requests
                .map_or(0, |n| u64::try_from(n).unwrap_or(0)),
            pause: step.pause.as_ref().map(pause).transpose()?,
        });
    }
    let exposure = spec.analysis.exposure.as_ref();
    let limits = Limits {
        failure_limit: u32::try_from(spec.analysis.failure_limit).unwrap_or(0),
        interval: span("analysis.interval", &spec.analysis.interval)?,
        hold: span("analysis.noEvidence.hold", &spec.analysis.no_evidence.hold)?,
        then: match spec.analysis.no_evidence.then {
            SpecThen::Advance => Then::Advance,
            SpecThen::Pause => Then::Pause,
        },
        progress_deadline: span("progressDeadline", &spec.progress_deadline)?,
        capacity: match spec.capacity {
            SpecCapacity::Proportional => Capacity::Proportional,
            SpecCapacity::Full => Capacity::Full,
        },
        on_failure: match spec.on_failure {
            SpecOnFailure::Rollback => OnFailure::Rollback,
            SpecOnFailure::Pause => OnFailure::Pause,
        },
        deletion: match spec.deletion_policy {
            DeletionPolicy::Leave => Deletion::Leave,
            DeletionPolicy::Promote => Deletion::Promote,
        },
        exposure: exposure.map(error_budget::parse).transpose()?,
    };
    let plan = Plan::new(steps, limits)?;
    let checks = spec
        .analysis
        .checks
        .iter()
        .map(Check::parse)
        .collect::<Result<_, _>>()?;
    let hooks = spec.hooks.iter().map(Hook::parse);
    Ok(Parsed {
        plan,
        checks,
        hooks: hooks.collect::<Result<_, _>>()?,
        guard: guard(&spec.analysis.guard)?,
        sticky: sticky(spec)?,
    })
}

/// Read also where nothing else of the spec can be: who has the canary must not change with that.
pub(super) fn sticky(spec: &CanaryRolloutSpec) -> Result<Option<Key>, InvalidSpec> {
    let split = spec.split.as_ref();
    let Some(Sticky { header, cookie }) = split.and_then(|split| split.sticky.as_ref()) else {
        return Ok(None);
    };
    match (header, cookie) {
        (Some(name), None) => Ok(Some(Key::header(name)?)),
        (None, Some(name)) => Ok(Some(Key::cookie(name)?)),
        (Some(_), Some(_)) | (None, None) => Err(InvalidSpec::StickyKeys),
    }
}

/// A guard that may never be wrong never speaks.
fn guard(guard: &SpecGuard) -> Result<Option<guard::Limits>, InvalidSpec> {
    let millionths = |field, text: &str| {
        let thousandths = units::percent(text);
        thousandths
            .map(|thousandths| thousandths * 10)
            .map_err(|source| InvalidSpec::Unit { field, source })
    };
    let false_alarm = millionths("analysis.guard.falseAlarm", &guard.false_alarm)?;
    let increase = millionths("analysis.guard.maxErrorIncrease", &guard.max_error_increase)?;
    if false_alarm == 0 {
        return Ok(None);
    }
    Ok(Some(guard::Limits::try_new(false_alarm, increase)?))
}

fn pause(pause: &SpecPause) -> Result<Pause, InvalidSpec> {
    Ok(match &pause.duration {
        None => Pause::Promote,
        Some(length) => Pause::For(span("steps[].pause.for", length)?),
    })
}

fn span(field: &'static str, text: &str) -> Result<Span, InvalidSpec> {
    let duration = units::duration(text).map_err(|source| InvalidSpec::Unit { field, source })?;
    Ok(Span(
        i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: serde_json::Value) -> CanaryRolloutSpec {
        let mut spec = serde_json::json!({"targetRef": {"kind": "Deployment", "name": "a"}, "service": {"name": "a"}});
        spec.as_object_mut()
            .unwrap()
            .append(&mut more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn the_shortest_spec_gives_the_documented_plan() {
        let parsed = parse(&spec(serde_json::json!({}))).unwrap();
        let weights: Vec<u8> = parsed
            .plan
            .steps()
            .iter()
            .map(|step| step.weight.get())
            .collect();
        assert_eq!(weights, [1, 10, 50, 100]);
        assert_eq!(parsed.plan.step(2).soak, Span::seconds(300));
        assert_eq!(parsed.plan.interval, Span::seconds(30));
        assert_eq!(parsed.plan.progress_deadline, Span::seconds(600));
        assert_eq!(parsed.checks.len(), 2);
    }

    #[test]
    fn pauses_and_policies_are_read() {
        let spec = spec(serde_json::json!({
            "steps": [{"weight": 5, "pause": {}}, {"weight": 50, "pause": {"for": "10m"}}, {"weight": 100}],
            "onFailure": "Pause", "deletionPolicy": "Promote",
        }));
        let plan = parse(&spec).unwrap().plan;
        let pauses: Vec<_> = plan.steps().iter().map(|step| step.pause).collect();
        let ten = Pause::For(Span::seconds(600));
        assert_eq!(pauses, [Some(Pause::Promote), Some(ten), None]);
        assert_eq!(
            (plan.on_failure, plan.deletion),
            (OnFailure::Pause, Deletion::Promote)
        );
    }

    #[test]
    fn the_guard_is_on_and_a_guard_that_may_never_be_wrong_is_off() {
        let guard = |guard: serde_json::Value| {
            let spec = spec(serde_json::json!({"analysis": {"guard": guard}}));
            parse(&spec).map(|parsed| parsed.guard)
        };
        let limits = |alarm, increase| Ok(Some(guard::Limits::try_new(alarm, increase).unwrap()));
        assert_eq!(guard(serde_json::json!({})), limits(10_000, 5_000));
        let own = serde_json::json!({"falseAlarm": "0.1%", "maxErrorIncrease": "1%"});
        assert_eq!(guard(own), limits(1_000, 10_000));
        assert_eq!(guard(serde_json::json!({"falseAlarm": "0%"})), Ok(None));
        let wrong = guard(serde_json::json!({"falseAlarm": "51%"})).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "spec.analysis.guard.falseAlarm is 51%: it has to be above 0% and at most 50%"
        );
    }

    #[test]
    fn users_are_named_by_a_header_or_a_cookie() {
        let sticky = |sticky: serde_json::Value| {
            let spec = spec(serde_json::json!({"split": {"sticky": sticky}}));
            parse(&spec).map(|parsed| parsed.sticky)
        };
        assert_eq!(parse(&spec(serde_json::json!({}))).unwrap().sticky, None);
        assert_eq!(sticky(serde_json::Value::Null), Ok(None));
        let header = sticky(serde_json::json!({"header": "X-User-Id"}));
        assert_eq!(header, Ok(Some(Key::header("x-user-id").unwrap())));
        let cookie = sticky(serde_json::json!({"cookie": "Session"}));
        assert_eq!(cookie, Ok(Some(Key::cookie("Session").unwrap())));
        let none = sticky(serde_json::json!({})).unwrap_err();
        let both = sticky(serde_json::json!({"header": "a", "cookie": "b"})).unwrap_err();
        assert_eq!(none, both);
        let wrong = sticky(serde_json::json!({"header": "x user"})).unwrap_err();
        let says = "spec.split.sticky.header: 'x user' is no name of a header";
        assert!(wrong.to_string().starts_with(says), "{wrong}");
    }

    #[test]
    fn the_error_budget_is_the_plans() {
        let exposure = |exposure: serde_json::Value| {
            let spec = spec(serde_json::json!({"analysis": {"exposure": exposure}}));
            parse(&spec).map(|parsed| parsed.plan.exposure.map(|budget| budget.of_release()))
        };
        assert_eq!(exposure(serde_json::Value::Null), Ok(None));
        let given = exposure(serde_json::json!({"objective": "99.9%"}));
        assert_eq!(given, Ok(Some(Span(129_600))));
        let wrong = exposure(serde_json::json!({"objective": "100%"})).unwrap_err();
        let says = "spec.analysis.exposure.objective is 100%";
        assert!(wrong.to_string().starts_with(says), "{wrong}");
    }

    #[test]
    fn a_bad_unit_names_its_field() {
        let bad = spec(serde_json::json!({"progressDeadline": "soon"}));
        let error = parse(&bad).unwrap_err().to_string();
        assert!(
            error.starts_with("spec.progressDeadline: 'soon' is not a duration"),
            "{error}"
        );
    }
}
