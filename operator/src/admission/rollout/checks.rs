//! The checks themselves: pure, each on its own, all of them reported.

use std::collections::BTreeMap;
use std::time::Duration;

use aviary_crds::prometheus::PrometheusRef;
use aviary_crds::{CanaryRollout, REVISION_LABEL, units};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::facts::{Facts, Rival, Target};
use super::{Problem, Severity, query};
use crate::error_budget;
use crate::mesh;

/// Prometheus has nothing to say about less.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// What fits into the value of a label.
const LONGEST_NAME: usize = 63;

/// The name of the canary copy is that of the Deployment with its revision, and has to be a name too. Kubernetes cuts
/// the names of the ReplicaSet and of the pods by itself, so nothing else limits it.
const LONGEST_TARGET: usize = 253 - "-canary-0123456789".len();

/// Everything that is wrong with `rollout`, in the order of its fields.
pub fn validate(rollout: &CanaryRollout, facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    name(rollout, &mut problems);
    target(rollout, facts, &mut problems);
    service(rollout, facts, &mut problems);
    analysis(rollout, facts, &mut problems);
    deadline(rollout, &mut problems);
    problems
}

fn name(rollout: &CanaryRollout, problems: &mut Vec<Problem>) {
    let name = rollout.name_any();
    if name.len() > LONGEST_NAME {
        problems.push(refuse(
            "metadata.name",
            format!(
                "{name} has {} characters, and at most {LONGEST_NAME} fit into the label {} that the Deployment gets; create it again under a shorter name, and delete this one (kubectl delete canaryrollout {name} -n {})",
                name.len(),
                aviary_crds::ROLLOUT_LABEL,
                rollout.namespace().unwrap_or_default(),
            ),
        ));
    }
}

fn target(rollout: &CanaryRollout, facts: &Facts, problems: &mut Vec<Problem>) {
    const FIELD: &str = "spec.targetRef.name";
    let name = &rollout.spec.target_ref.name;
    if let Some(other) = older_on_same_target(rollout, &facts.rollouts) {
        problems.push(refuse(
            FIELD,
            format!(
                "CanaryRollout {0} already releases Deployment {name}, and the older one wins; delete it (kubectl delete canaryrollout {0} -n {1}) or choose another target",
                other.name, other.namespace,
            ),
        ));
    }
    if name.len() > LONGEST_TARGET {
        problems.push(refuse(
            FIELD,
            format!(
                "the name of Deployment {name} has {} characters, and its canary would be called {name}-canary-<revision>, which is longer than the 253 that Kubernetes admits; at most {LONGEST_TARGET} leave room for it, so give the Deployment a shorter name",
                name.len()
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
    if deployment.strategy.as_deref() == Some("Recreate") {
        problems.push(refuse(
            FIELD,
            format!(
                "Deployment {name} has strategy Recreate, so two versions of it must not run side by side, which is what a canary is; change its spec.strategy.type to RollingUpdate if they may"
            ),
        ));
    }
    if deployment.selector.contains(REVISION_LABEL) {
        problems.push(refuse(
            FIELD,
            format!(
                "Deployment {name} selects its pods by the label {REVISION_LABEL}, by which the gate knows canary copies, so a changed template of it would roll out at once; a selector cannot be changed: create the Deployment again without it"
            ),
        ));
    }
    for claim in &deployment.claims {
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

fn older_on_same_target<'a>(rollout: &CanaryRollout, others: &'a [Rival]) -> Option<&'a Rival> {
    let this = Rival::from(rollout);
    let mut oldest: Option<&Rival> = None;
    for other in others {
        let rivals = (&other.namespace, &other.target) == (&this.namespace, &this.target)
            && other.name != this.name;
        if rivals
            && other.is_older_than(&this)
            && oldest.is_none_or(|oldest| other.is_older_than(oldest))
        {
            oldest = Some(other);
        }
    }
    oldest
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
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        problems.push(refuse(
            FIELD,
            format!(
                "Service {name} has sessionAffinity: ClientIP, which keeps each caller on one pod, so its requests cannot be divided by weight; take it out (kubectl patch service {name} -n {} -p '{{\"spec\":{{\"sessionAffinity\":\"None\"}}}}'), or name another Service. What keeps a user on one version is spec.split.sticky",
                rollout.namespace().unwrap_or_default()
            ),
        ));
    }
    if let Some(deployment) = &facts.deployment {
        problems.extend(selector(
            name,
            &spec.selector.unwrap_or_default(),
            deployment,
        ));
    }
    ports(rollout, service, problems);
    if mesh::has_faults(service) {
        let message = format!(
            "Service {name} asks for faults (aviary.dev/fault-delay, aviary.dev/fault-abort): there are none while a release is under way"
        );
        problems.push(note(FIELD, message));
    }
    problems.extend(mesh::unread(service).into_iter().map(|unread| {
        let (annotation, why) = (unread.annotation, unread.why);
        note(
            FIELD,
            format!("annotation {annotation} of Service {name} is ignored: {why}"),
        )
    }));
}

fn selector(
    service: &str,
    selector: &BTreeMap<String, String>,
    deployment: &Target,
) -> Option<Problem> {
    const FIELD: &str = "spec.service.name";
    let name = &deployment.name;
    if selector.is_empty() {
        let message = format!(
            "Service {service} has no selector: give it one that matches the pods of Deployment {name}"
        );
        return Some(refuse(FIELD, message));
    }
    let labels = &deployment.labels;
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
                labels_text(labels)
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
    if let Some(message) = error_budget::problem(&rollout.spec) {
        problems.push(refuse("spec.analysis.exposure", message));
    }
    let named = analysis.prometheus.as_ref();
    let address = named.and_then(|named| named.address.as_ref());
    for (i, check) in analysis.checks.iter().enumerate() {
        if let Some(latency) = &check.latency {
            let field = format!("spec.analysis.checks[{i}].latency.atMost");
            takes_time(&field, &latency.at_most, "500ms", problems);
        }
        let Some(prometheus) = &check.prometheus else {
            continue;
        };
        if let Err(error) = query::check(&prometheus.query) {
            problems.push(refuse(
                &format!("spec.analysis.checks[{i}].prometheus.query"),
                format!("check {}: {error}", check.name),
            ));
        }
        if address.is_none() && facts.prometheus.default.is_none() {
            problems.push(note(
                &format!("spec.analysis.checks[{i}].prometheus"),
                format!(
                    "check {} has no evidence: the operator has no Prometheus; start it with --prometheus-address, or name one of its allow-list in spec.analysis.prometheus.address",
                    check.name
                ),
            ));
        }
    }
    if let Some(address) = address
        && !facts.prometheus.allows(address)
    {
        problems.push(refuse(
            "spec.analysis.prometheus.address",
            format!(
                "{address} is not an address that the operator fetches from; leave it out, or have it allowed (operator flag --prometheus-allow={address})"
            ),
        ));
    }
    if let Some(named) = named {
        credentials(named, facts, problems);
    }
}

/// What is shown to an address that nobody knows, or that anybody can listen to.
fn credentials(named: &PrometheusRef, facts: &Facts, problems: &mut Vec<Problem>) {
    const FIELD: &str = "spec.analysis.prometheus.auth";
    let Some(auth) = &named.auth else {
        return;
    };
    let Some(address) = named.address.as_ref().or(facts.prometheus.default.as_ref()) else {
        problems.push(refuse(
            FIELD,
            "there is no Prometheus that it could be for: the operator has no --prometheus-address; name one of its allow-list in spec.analysis.prometheus.address".to_owned(),
        ));
        return;
    };
    if address.starts_with("https://") {
        return;
    }
    if auth.tls.is_some() {
        problems.push(refuse(
            FIELD,
            format!("tls is for an address with https://, and the operator's own is {address}: leave tls out, or have an address with https:// allowed"),
        ));
    }
    problems.push(note(
        FIELD,
        format!("what it shows goes to {address} unencrypted, and whoever is on the way can read it; use https://"),
    ));
}

fn deadline(rollout: &CanaryRollout, problems: &mut Vec<Problem>) {
    takes_time(
        "spec.progressDeadline",
        &rollout.spec.progress_deadline,
        "10m",
        problems,
    );
}

fn takes_time(field: &str, text: &str, example: &str, problems: &mut Vec<Problem>) {
    match units::duration(text) {
        Ok(Duration::ZERO) => problems.push(refuse(
            field,
            format!("{text} is no time at all; write for example {example}"),
        )),
        Ok(_) => {}
        Err(error) => problems.push(refuse(field, error.to_string())),
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
