use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::check::Outcome;
use crate::template::Template;

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn facts() -> ReleaseFacts {
    let container = json!({"name": "app", "readinessProbe": {"httpGet": {"port": 80}}});
    let said = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": "R", "message": "so it is",
        "lastTransitionTime": "2026-03-04T10:00:00Z"})
    };
    ReleaseFacts {
        rollout: object(json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "payment", "namespace": "shop", "generation": 2},
            "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
            "status": {"observedGeneration": 2, "phase": "Stable", "stable": {"revision": "a"}, "verdict": "Pass",
                "conditions": [said("Stalled", "False"), said("Exclusive", "True"), said("OutsideCallers", "False")]},
        })),
        deployment: Read::There(object(json!({
            "metadata": {"name": "payment", "labels": {"aviary.dev/rollout": "payment"}},
            "spec": {"selector": {}, "template": {"metadata": {"labels": {"app": "payment", "tier": "1"}},
                "spec": {"containers": [container]}}},
        }))),
        template: Some(Template {
            revision: "a".to_owned(),
            content: String::new(),
        }),
        service: Read::There(object(
            json!({"metadata": {}, "spec": {"selector": {"app": "payment"}}}),
        )),
        autoscalers: Read::There(Vec::new()),
        budgets: Read::There(Vec::new()),
        configuration: Vec::new(),
    }
}

/// What does not pass.
fn found(facts: &ReleaseFacts) -> Vec<(Outcome, String)> {
    let findings = judge(facts).into_iter();
    let bad = findings.filter(|it| it.outcome != Outcome::Passed);
    bad.map(|it| (it.outcome, it.seen)).collect()
}

#[test]
fn a_rollout_at_rest_with_all_that_it_names_passes() {
    assert_eq!(found(&facts()), []);
}

#[test]
fn what_the_rollout_names_has_to_be_there_and_to_fit() {
    let mut missing = facts();
    missing.deployment = Read::Absent;
    assert_eq!(found(&missing)[0].0, Outcome::Failed);
    let mut service = facts();
    service.service = Read::There(object(
        json!({"metadata": {}, "spec": {"selector": {"app": "pay"}}}),
    ));
    let seen = "it wants app=pay, which the pod template does not have".to_owned();
    assert_eq!(found(&service), [(Outcome::Failed, seen)]);
    let mut other = facts();
    let Read::There(deployment) = &mut other.deployment else {
        unreachable!("it is there")
    };
    deployment
        .labels_mut()
        .insert(ROLLOUT_LABEL.to_owned(), "older".to_owned());
    let seen = "CanaryRollout older releases it".to_owned();
    assert_eq!(found(&other), [(Outcome::Failed, seen)]);
}

#[test]
fn what_else_acts_on_the_pods_is_told() {
    let mut facts = facts();
    let autoscaler = |metric: Value| {
        object(json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 5,
            "scaleTargetRef": {"kind": "Deployment", "name": "payment"}, "metrics": [metric]}}))
    };
    let resource = |name: &str, target: Value| json!({"type": "Resource", "resource": {"name": name, "target": target}});
    let share = json!({"type": "Utilization", "averageUtilization": 50});
    facts.autoscalers = Read::There(vec![autoscaler(resource("cpu", share.clone()))]);
    assert_eq!(found(&facts), []);
    facts.autoscalers = Read::There(vec![autoscaler(resource("memory", share))]);
    assert!(found(&facts)[0].1.ends_with("h scales by memory"));
    let amount = json!({"type": "AverageValue", "averageValue": "1"});
    facts.autoscalers = Read::There(vec![autoscaler(resource("cpu", amount))]);
    assert!(found(&facts)[0].1.ends_with("h scales by an amount of cpu"));
    facts.autoscalers = Read::There(Vec::new());
    let budget = |most: Value| {
        Read::There(vec![object(
            json!({"metadata": {"name": "p"}, "spec": {"maxUnavailable": most,
            "selector": {"matchLabels": {"app": "payment"}}}}),
        )])
    };
    facts.budgets = budget(json!("25%"));
    assert_eq!(found(&facts), []);
    facts.budgets = budget(json!(1));
    assert_eq!(found(&facts)[0].0, Outcome::Warning);
}

#[test]
fn what_the_operator_says_is_passed_on() {
    let mut facts = facts();
    let status = facts.rollout.status.as_mut().unwrap();
    status.conditions[0].status = "True".to_owned();
    status.conditions[1].status = "False".to_owned();
    status.verdict = Some(Verdict::NoEvidence);
    status.stable.as_mut().unwrap().revision = "b".to_owned();
    let outcomes: Vec<Outcome> = found(&facts).into_iter().map(|it| it.0).collect();
    use Outcome::{Failed, Warning};
    assert_eq!(outcomes, [Failed, Warning, Warning, Warning]);
    facts.rollout.metadata.generation = Some(3);
    assert_eq!(found(&facts)[0].1, "it has not seen it");
}

#[test]
fn pods_that_do_not_say_when_they_are_ready_are_a_warning() {
    let mut facts = facts();
    let Read::There(deployment) = &mut facts.deployment else {
        unreachable!("it is there")
    };
    let pod = deployment
        .spec
        .as_mut()
        .unwrap()
        .template
        .spec
        .as_mut()
        .unwrap();
    pod.containers[0].readiness_probe = None;
    assert_eq!(found(&facts)[0].0, Outcome::Warning);
}
