//! `spec.analysis.exposure`: read, and in words. Budgets are times in which every request of a Service fails.

use aviary_crds::spec::{CanaryRolloutSpec, Exposure};
use aviary_crds::units::{self, UnitError};
use rollout_core::exposure::{Defect, ErrorBudget, InvalidExposure};
use rollout_core::plan::{Percent, Step};
use rollout_core::time::Span;

/// Why there is no such budget. Says where in the spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBudget {
    #[error("spec.analysis.exposure.{field}: {source}")]
    Unit {
        field: &'static str,
        source: UnitError,
    },
    #[error("spec.analysis.{0}")]
    Range(#[from] InvalidExposure),
}

pub fn parse(exposure: &Exposure) -> Result<ErrorBudget, InvalidBudget> {
    let unit = |field| move |source| InvalidBudget::Unit { field, source };
    let millionths = |field, text: &str| {
        let thousandths = units::percent(text).map_err(unit(field))?;
        Ok::<u32, InvalidBudget>(thousandths * 10)
    };
    let objective = millionths("objective", &exposure.objective)?;
    let days = units::days(&exposure.window).map_err(unit("window"))?;
    let budget = millionths("budget", &exposure.budget)?;
    Ok(ErrorBudget::try_new(objective, days, budget)?)
}

/// What is wrong with the budget of a spec; `None`: there is none, or it lets a release begin. Before its first request
/// everything may be wrong with a canary, so its first step has to fit into the budget even if all of its requests fail.
pub fn problem(spec: &CanaryRolloutSpec) -> Option<String> {
    let exposure = spec.analysis.exposure.as_ref()?;
    let budget = match parse(exposure) {
        Ok(budget) => budget,
        Err(invalid) => return Some(invalid.to_string()),
    };
    let first = spec.steps.first()?;
    // What cannot be read is refused elsewhere.
    let soak = units::duration(&first.soak).ok()?;
    let step = Step {
        weight: Percent::new(i64::from(first.weight)).ok()?,
        soak: Span(i64::try_from(soak.as_millis()).unwrap_or(i64::MAX)),
        min_requests: 0,
        pause: None,
    };
    let (could, may) = (step.cost(Defect::ALL), budget.of_release());
    (could > may).then(|| {
        format!(
            "no release could begin: nothing is known of a canary before its first step, and if all of its requests fail, weight {} for {} spends {} of full outage; a release may spend {} ({}). Give the first step less weight or a shorter soak, or spec.analysis.exposure.budget a larger share",
            step.weight,
            first.soak,
            outage(could),
            outage(may),
            words(budget)
        )
    })
}

/// `5% of the error budget of 99.9% over 30d`
pub fn words(budget: ErrorBudget) -> String {
    let percent = |millionths: u32| f64::from(millionths) / 1e4;
    format!(
        "{}% of the error budget of {}% over {}d",
        percent(budget.share()),
        percent(budget.objective()),
        budget.days()
    )
}

/// A time in which everything fails, in seconds, or in minutes and seconds: two digits below ten seconds. Never below 0.
pub fn outage(time: Span) -> String {
    let millis = time.0.max(0);
    let seconds = millis as f64 / 1000.0;
    match millis {
        0 => "0s".to_owned(),
        1..1_000 => format!("{seconds:.2}s"),
        1_000..60_000 => format!("{seconds:.1}s"),
        _ => format!("{}m{:02}s", millis / 60_000, millis / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(exposure: Value, steps: Value) -> CanaryRolloutSpec {
        serde_json::from_value(json!({
            "targetRef": {"kind": "Deployment", "name": "a"},
            "service": {"name": "a"},
            "steps": steps,
            "analysis": {"exposure": exposure},
        }))
        .unwrap()
    }

    #[test]
    fn a_budget_is_read_with_its_defaults() {
        let of = |exposure: Value| {
            let spec = spec(exposure, json!([{"weight": 100}]));
            parse(spec.analysis.exposure.as_ref().unwrap())
        };
        let budget =
            |objective, days, share| Ok(ErrorBudget::try_new(objective, days, share).unwrap());
        assert_eq!(
            of(json!({"objective": "99.9%"})),
            budget(999_000, 30, 50_000)
        );
        let own = json!({"objective": "99.95%", "window": "28d", "budget": "0.5%"});
        assert_eq!(of(own), budget(999_500, 28, 5_000));
        for (exposure, says) in [
            (
                json!({"objective": "100%"}),
                "spec.analysis.exposure.objective is 100%: it has to be at least 50%",
            ),
            (
                json!({"objective": "high"}),
                "spec.analysis.exposure.objective: 'high' is not a percentage",
            ),
            (
                json!({"objective": "99%", "window": "4w"}),
                "spec.analysis.exposure.window: '4w' is not a number of days",
            ),
            (
                json!({"objective": "99%", "budget": "0%"}),
                "spec.analysis.exposure.budget is 0%: it has to be above 0%",
            ),
        ] {
            let error = of(exposure).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[test]
    fn a_budget_that_lets_nothing_begin_is_refused_with_the_numbers() {
        let tight = || json!({"objective": "99.99%"});
        let begins = json!([{"weight": 1}, {"weight": 100}]);
        assert_eq!(problem(&spec(tight(), begins)), None);
        let first = json!([{"weight": 10, "soak": "5m"}, {"weight": 100}]);
        let said = problem(&spec(tight(), first)).unwrap();
        let numbers = "weight 10% for 5m spends 30.0s of full outage; a release may spend 13.0s (5% of the error budget of 99.99% over 30d)";
        assert!(said.contains(numbers), "{said}");
        let off = spec(Value::Null, json!([{"weight": 100, "soak": "100h"}]));
        assert_eq!(problem(&off), None);
    }

    #[test]
    fn an_outage_is_said_with_the_digits_that_count() {
        let said =
            [-1, 0, 50, 600, 1_200, 12_960, 129_600, 7_200_000].map(|millis| outage(Span(millis)));
        assert_eq!(
            said,
            [
                "0s", "0s", "0.05s", "0.60s", "1.2s", "13.0s", "2m09s", "120m00s"
            ]
        );
    }
}
