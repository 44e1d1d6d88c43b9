//! The checks themselves: pure, each on its own, all of them reported.

use std::collections::BTreeMap;
use std::time::Duration;

use aviary_crds::{CanaryRollout, units};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::facts::{Facts, claim_names};
use super::{Problem, Severity, query};

/// Prometheus has nothing to say about less.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// Everything that is wrong with `rollout`, in the order of its fields.
pub fn validate(rollout: &CanaryRollout, facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    target(rollout, facts, &mut problems);
    service(rollout, facts, &mut problems);
    analysis(rollout, facts, &mut problems);
    problems
}

fn target(rollout: &CanaryRollout, facts: &Facts, problems: &mut Vec<Problem>) {
    const FIELD: &str = "spec.targetRef.name";
    let name = &rollout.spec.target_ref.name;
    if let Some(other) = older_on_same_target(rollout, &facts.rollouts) {
        problems.push(refuse(
            FIELD,
            format!(
                "CanaryRollout {0} already releases Deployment {name}, and the older one wins; delete it (kubectl delete canaryrollout {0} -n {1}) or choose another target",
                other.name_any(),
                other.namespace().unwrap_or_default(),
            ),
        ));
    }
    let Some(deployment) = &facts.deployment else {
        problems.push(wait(
            FIELD,
            format!("there is no Deployment {name} in this namespace yet; releases wait for it"),
        ));
        return;
    };
    let strategy = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        problems.push(refuse(
            FIELD,
            format!(
                "Deployment {name} has strategy Recreate, so two versions of it must not run side by side, which is what a canary is; change its spec.strategy.type to RollingUpdate if they may"
            ),
        ));
    }
    for claim in claim_names(deployment) {
        let modes = facts
            .claims
            .get(claim)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let is_shared = modes
            .iter()
            .any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany");
        if !modes.is_empty() && !is_shared {
            problems.push(refuse(
                FIELD,
                format!(
                    "Deployment {name} mounts PersistentVolumeClaim {claim} ({}), which stable and canary pods on different nodes cannot share; use a claim with ReadWriteMany or ReadOnlyMany",
                    modes.join(", ")
                ),
            ));
        }
    }
}

fn older_on_same_target<'a>(
    rollout: &CanaryRollout,
    others: &'a [CanaryRollout],
) -> Option<&'a CanaryRollout> {
    // A rollout that is being created has no time yet: every other is older.
    let age = |r: &CanaryRollout| {
        (
            r.metadata.creation_timestamp.is_none(),
            r.metadata.creation_timestamp.clone(),
            r.name_any(),
        )
    };
    others
        .iter()
        .filter(|other| other.name_any() != rollout.name_any())
        .filter(|other| other.spec.target_ref.name == rollout.spec.target_ref.name)
        .filter(|other| age(other) < age(rollout))
        .min_by_key(|other| age(other))
}

fn service(rollout: &CanaryRollout, facts: &Facts, problems: &mut Vec<Problem>) {
    const FIELD: &str = "spec.service.name";
    let name = &rollout.spec.service.name;
    let Some(service) = &facts.service else {
        problems.push(wait(
            FIELD,
            format!("there is no Service {name} in this namespace yet; releases wait for it"),
        ));
        return;
    };
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        problems.push(refuse(
            FIELD,
            format!("Service {name} is of type ExternalName: its requests go elsewhere; name a Service with a cluster IP"),
        ));
        return;
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        problems.push(refuse(
            FIELD,
            format!("Service {name} is headless (clusterIP: None): callers choose pods themselves, so there is nothing to split; name a Service with a cluster IP"),
        ));
        return;
    }
    if let Some(deployment) = &facts.deployment {
        problems.extend(selector(
            name,
            &spec.selector.unwrap_or_default(),
            deployment,
        ));
    }
    ports(rollout, service, problems);
}

fn selector(
    service: &str,
    selector: &BTreeMap<String, String>,
    deployment: &Deployment,
) -> Option<Problem> {
    const FIELD: &str = "spec.service.name";
    let name = deployment.name_any();
    if selector.is_empty() {
        let message = format!(
            "Service {service} has no selector: give it one that matches the pods of Deployment {name}"
        );
        return Some(refuse(FIELD, message));
    }
    let template = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.metadata.as_ref());
    let labels = template
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    let lacking: BTreeMap<String, String> = selector
        .clone()
        .into_iter()
        .filter(|(key, value)| labels.get(key) != Some(value))
        .collect();
    (!lacking.is_empty()).then(|| {
        refuse(
            FIELD,
            format!(
                "Service {service} selects {}, and the pods of Deployment {name} have {}: its requests never reach them; change the Service's selector, or name the Deployment's own Service",
                labels_text(&lacking),
                labels_text(&labels)
            ),
        )
    })
}

fn ports(rollout: &CanaryRollout, service: &Service, problems: &mut Vec<Problem>) {
    let spec = service.spec.as_ref();
    let tcp: Vec<i32> = spec
        .and_then(|spec| spec.ports.as_ref())
        .into_iter()
        .flatten()
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
        .map(|port| port.port)
        .collect();
    let list: Vec<String> = tcp.iter().map(i32::to_string).collect();
    for (i, port) in rollout.spec.service.ports.iter().enumerate() {
        if !tcp.contains(port) {
            problems.push(refuse(
                &format!("spec.service.ports[{i}]"),
                format!(
                    "Service {} has no TCP port {port}; it has {}",
                    service.name_any(),
                    if list.is_empty() {
                        "none".to_owned()
                    } else {
                        list.join(", ")
                    }
                ),
            ));
        }
    }
}

fn analysis(rollout: &CanaryRollout, facts: &Facts, problems: &mut Vec<Problem>) {
    let analysis = &rollout.spec.analysis;
    match units::duration(&analysis.interval) {
        Ok(interval) if interval >= SHORTEST_WINDOW => {}
        Ok(_) => problems.push(refuse(
            "spec.analysis.interval",
            format!(
                "{} is too short for a window; write at least 1s",
                analysis.interval
            ),
        )),
        Err(error) => problems.push(refuse("spec.analysis.interval", error.to_string())),
    }
    for (i, check) in analysis.checks.iter().enumerate() {
        let Some(prometheus) = &check.prometheus else {
            continue;
        };
        if let Err(error) = query::check(&prometheus.query) {
            problems.push(refuse(
                &format!("spec.analysis.checks[{i}].prometheus.query"),
                format!("check {}: {error}", check.name),
            ));
        }
        if analysis.prometheus.is_none() && facts.prometheus.default.is_none() {
            problems.push(note(
                &format!("spec.analysis.checks[{i}].prometheus"),
                format!(
                    "check {} has no evidence: the operator has no Prometheus; start it with --prometheus-address, or name one of its allow-list in spec.analysis.prometheus.address",
                    check.name
                ),
            ));
        }
    }
    if let Some(prometheus) = &analysis.prometheus
        && !facts.prometheus.allows(&prometheus.address)
    {
        problems.push(refuse(
            "spec.analysis.prometheus.address",
            format!(
                "{} is not an address that the operator fetches from; leave it out, or have it allowed (operator flag --prometheus-allow={})",
                prometheus.address, prometheus.address
            ),
        ));
    }
}

fn refuse(field: &str, message: String) -> Problem {
    Problem {
        field: field.to_owned(),
        message,
        severity: Severity::Refuse,
    }
}

fn wait(field: &str, message: String) -> Problem {
    Problem {
        field: field.to_owned(),
        message,
        severity: Severity::Wait,
    }
}

fn note(field: &str, message: String) -> Problem {
    Problem {
        field: field.to_owned(),
        message,
        severity: Severity::Note,
    }
}

fn labels_text(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "no labels".to_owned();
    }
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}
