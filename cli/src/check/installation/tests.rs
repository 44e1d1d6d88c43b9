use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::version::Info;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::check::Outcome;
use crate::check::ours::{self, Type};

/// Long before it expires.
const NOW: u64 = 1_772_618_400;

fn object<T: DeserializeOwned>(value: Value) -> Read<T> {
    Read::There(serde_json::from_value(value).unwrap())
}

fn lease(holder: &str, renewed: u64) -> Read<Lease> {
    let renewed = Timestamp::from_second(i64::try_from(renewed).unwrap()).unwrap();
    let renewed = renewed.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    object(json!({"metadata": {}, "spec": {"holderIdentity": holder, "renewTime": renewed}}))
}

fn facts() -> Facts {
    let operator = json!({"metadata": {"name": OPERATOR}, "spec": {"replicas": 1, "selector": {}, "template": {}},
        "status": {"readyReplicas": 1}});
    let webhooks = json!({"metadata": {"name": OPERATOR}, "webhooks": []});
    let expires = NOW + 365 * 24 * 3600;
    let metrics = EXPIRIES
        .map(|Expiry { metric: name, .. }| format!("# TYPE {name} gauge\n{name} {expires}.0\n"));
    Facts {
        version: Info {
            major: "1".to_owned(),
            minor: "36".to_owned(),
            ..Info::default()
        },
        namespace: "aviary-system".to_owned(),
        types: ours::all()
            .map(|ours| Type {
                theirs: Read::There(ours.clone()),
                ours,
            })
            .into(),
        operator: object::<Deployment>(operator),
        lease: lease("aviary-operator-0", NOW),
        mutating: object::<MutatingWebhookConfiguration>(webhooks.clone()),
        validating: object::<ValidatingWebhookConfiguration>(webhooks),
        injected: Read::There(true),
        metrics: Read::There(metrics.concat()),
    }
}

/// What was found about what has this in its words.
fn found(facts: &Facts, about: &str) -> Finding {
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let findings = judge(facts, now);
    let about = findings.iter().find(|it| it.what.contains(about));
    about.unwrap_or_else(|| panic!("{findings:#?}")).clone()
}

#[test]
fn what_is_right_passes() {
    let facts = facts();
    for about in [
        "Kubernetes 1.36",
        "CanaryRollout",
        "CallerPolicy",
        "operator runs",
        "gets one",
        "the issuer",
    ] {
        assert_eq!(found(&facts, about).outcome, Outcome::Passed, "{about}");
    }
}

#[test]
fn an_old_cluster_is_refused() {
    let mut facts = facts();
    facts.version.minor = "29+".to_owned();
    assert_eq!(found(&facts, "Kubernetes").outcome, Outcome::Failed);
    facts.version.minor = "30+".to_owned();
    assert_eq!(found(&facts, "Kubernetes").outcome, Outcome::Passed);
}

#[test]
fn types_of_another_version_are_told_by_their_fields() {
    for (place, kind, field) in [
        (0, "CanaryRollout", "hooks"),
        (1, "CallerPolicy", "selector"),
    ] {
        let mut facts = facts();
        let theirs = |facts: &mut Facts, change: &dyn Fn(&mut Value)| {
            let mut crd = serde_json::to_value(&facts.types[place].ours).unwrap();
            change(&mut crd["spec"]["versions"][0]);
            facts.types[place].theirs = object::<CustomResourceDefinition>(crd);
        };
        let fields = |version: &mut Value| {
            let spec = "/schema/openAPIV3Schema/properties/spec/properties";
            let spec = version.pointer_mut(spec).unwrap();
            spec.as_object_mut().unwrap().remove(field);
        };
        theirs(&mut facts, &fields);
        let finding = found(&facts, kind);
        assert_eq!(finding.outcome, Outcome::Failed, "{kind}");
        assert!(
            finding.seen.contains(&format!("such as spec.{field}")),
            "{}",
            finding.seen
        );
        theirs(&mut facts, &|version| version["name"] = json!("v1"));
        let seen = found(&facts, kind).seen;
        assert_eq!(seen, "it serves v1, and this plugin speaks v1alpha1");
        theirs(&mut facts, &|version| version["served"] = json!(false));
        assert_eq!(found(&facts, kind).outcome, Outcome::Failed);
        facts.types[place].theirs = Read::Absent;
        assert_eq!(found(&facts, kind).outcome, Outcome::Failed);
        facts.types[place].theirs = Read::Unknown("you may not".to_owned());
        assert_eq!(found(&facts, kind).outcome, Outcome::Unknown);
    }
}

#[test]
fn an_operator_that_is_away_fails_and_one_that_nobody_stands_by_for_is_a_warning() {
    for (replicas, ready, outcome) in [
        (1, 0, Outcome::Failed),
        (0, 0, Outcome::Failed),
        (2, 1, Outcome::Warning),
        (2, 2, Outcome::Passed),
    ] {
        let mut facts = facts();
        let Read::There(operator) = &mut facts.operator else {
            unreachable!("it is there")
        };
        operator.spec.as_mut().unwrap().replicas = Some(replicas);
        operator.status.as_mut().unwrap().ready_replicas = Some(ready);
        let found = found(&facts, "operator runs").outcome;
        assert_eq!(found, outcome, "{ready} of {replicas}");
    }
}

#[test]
fn an_operator_that_was_scaled_away_is_scaled_back() {
    let mut facts = facts();
    let Read::There(operator) = &mut facts.operator else {
        unreachable!("it is there")
    };
    operator.spec.as_mut().unwrap().replicas = Some(0);
    operator.status.as_mut().unwrap().ready_replicas = None;
    let finding = found(&facts, "operator runs");
    // What only it can put right, or tell, is no second failure.
    facts.lease = Read::Absent;
    facts.injected = Read::Unknown("failed calling webhook".to_owned());
    for about in ["decides", "gets one", "certificates hold"] {
        assert_eq!(found(&facts, about).outcome, Outcome::Unknown, "{about}");
    }
    assert_eq!(
        finding.mend,
        "kubectl -n aviary-system scale deployment aviary-operator --replicas=2"
    );
}

#[test]
fn somebody_has_to_decide() {
    let mut facts = facts();
    let mut outcome = |lease| {
        facts.lease = lease;
        found(&facts, "decides").outcome
    };
    assert_eq!(
        outcome(lease("aviary-operator-1", NOW - 30)),
        Outcome::Passed
    );
    assert_eq!(
        outcome(lease("aviary-operator-1", NOW - 90)),
        Outcome::Failed
    );
    assert_eq!(outcome(lease("", NOW)), Outcome::Failed);
    assert_eq!(outcome(Read::Absent), Outcome::Failed);
    assert_eq!(
        outcome(Read::Unknown("you may not".to_owned())),
        Outcome::Unknown
    );
}

#[test]
fn webhooks_without_a_root_fail() {
    let mut facts = facts();
    let hook = json!({"name": "gate", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"]});
    facts.mutating = object(json!({"metadata": {}, "webhooks": [hook]}));
    let finding = found(&facts, "the mutating webhooks");
    assert_eq!(finding.outcome, Outcome::Failed);
    assert_eq!(finding.seen, "1 of 1 have no caBundle");
}

#[test]
fn what_the_api_server_says_of_a_dead_webhook_is_a_failure_and_another_refusal_is_not() {
    let mut facts = facts();
    let dead = "cannot create pods: failed calling webhook \"inject-by-pod.aviary.dev\": connection refused";
    facts.injected = Read::Unknown(dead.to_owned());
    assert_eq!(found(&facts, "gets one").outcome, Outcome::Failed);
    let strange = "failed calling webhook \"inject-by-pod.aviary.dev\": x509: certificate signed by unknown authority";
    facts.injected = Read::Unknown(strange.to_owned());
    assert!(found(&facts, "gets one").mend.contains("caBundle"));
    facts.injected = Read::Unknown("you may not create pods here".to_owned());
    assert_eq!(found(&facts, "gets one").outcome, Outcome::Unknown);
    facts.injected = Read::There(false);
    assert_eq!(found(&facts, "gets one").outcome, Outcome::Failed);
}

#[test]
fn certificates_are_judged_by_what_the_operator_says() {
    let mut facts = facts();
    let metric = EXPIRIES[0].metric;
    let mut expires = |at: u64| {
        facts.metrics = Read::There(format!("{metric} {at}\n"));
        found(&facts, "operator's certificate").outcome
    };
    assert_eq!(expires(NOW - 1), Outcome::Failed);
    assert_eq!(expires(NOW + 1800), Outcome::Warning);
    // It lives for a day, and is renewed when half of it is left.
    assert_eq!(expires(NOW + 12 * 3600), Outcome::Passed);
    let issuer = found(&facts, "the issuer of pods' certificates");
    assert_eq!(issuer.outcome, Outcome::Warning, "it has none");
}
