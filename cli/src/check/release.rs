//! Whether a release could go well: what the rollout names, and what else acts on the same pods.

use std::collections::BTreeMap;

use aviary_crds::condition::{ANALYSIS, EXCLUSIVE, OUTSIDE_CALLERS, STALLED};
use aviary_crds::status::{CanaryRolloutStatus, Phase, Verdict};
use aviary_crds::{BREAK_GLASS_ANNOTATION, ROLLOUT_LABEL};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::configuration;
use super::facts::ReleaseFacts;
use super::finding::{Finding, Group};
use super::read::Read;
use crate::standing::condition;

pub(super) fn judge(facts: &ReleaseFacts) -> Vec<Finding> {
    let mut group = Group::new("release");
    if let Some(deployment) = target(&mut group, facts) {
        service(&mut group, facts, deployment);
        probes(&mut group, deployment);
        autoscalers(&mut group, facts);
        budgets(&mut group, facts, deployment);
        configuration::judge(&mut group, &facts.configuration);
    }
    status(&mut group, facts);
    group.findings
}

fn target<'a>(group: &mut Group, facts: &'a ReleaseFacts) -> Option<&'a Deployment> {
    let name = &facts.rollout.spec.target_ref.name;
    let what = format!("Deployment {name} is there, and this CanaryRollout has adopted it");
    let deployment = match &facts.deployment {
        Read::There(deployment) => deployment,
        Read::Absent => {
            group.failed(
                what,
                "there is none of this name",
                "create it, or mend spec.targetRef",
            );
            return None;
        }
        Read::Unknown(why) => {
            group.unknown(what, why.clone());
            return None;
        }
    };
    match deployment.labels().get(ROLLOUT_LABEL) {
        Some(by) if *by == facts.rollout.name_any() => group.passed(what),
        Some(by) => group.failed(
            what,
            format!("CanaryRollout {by} releases it"),
            "one CanaryRollout for each Deployment: delete one of them",
        ),
        None => group.failed(
            what,
            format!("it has no label {ROLLOUT_LABEL}: its changes are not gated"),
            "the operator writes it: see whether it runs, and what status says",
        ),
    }
    let what = format!("Aviary may act on Deployment {name}");
    if deployment
        .annotations()
        .contains_key(BREAK_GLASS_ANNOTATION)
    {
        group.warning(
            what,
            format!("a person has taken over: it has the annotation {BREAK_GLASS_ANNOTATION}"),
            format!(
                "when they are done: kubectl annotate deployment {name} {BREAK_GLASS_ANNOTATION}-"
            ),
        );
    } else {
        group.passed(what);
    }
    Some(deployment)
}

fn service(group: &mut Group, facts: &ReleaseFacts, deployment: &Deployment) {
    let name = &facts.rollout.spec.service.name;
    let what = format!("Service {name} selects the pods of the Deployment");
    let service = match &facts.service {
        Read::There(service) => service,
        Read::Absent => {
            return group.failed(
                what,
                "there is none of this name",
                "create it, or mend spec.service",
            );
        }
        Read::Unknown(why) => return group.unknown(what, why.clone()),
    };
    let labels = labels(deployment);
    let selector = service
        .spec
        .as_ref()
        .and_then(|it| it.selector.clone())
        .unwrap_or_default();
    let missing = selector
        .iter()
        .find(|(key, value)| labels.get(*key) != Some(*value));
    match missing {
        None if selector.is_empty() => group.failed(
            what,
            "it has no selector",
            "give it one that matches the pods' labels",
        ),
        None => group.passed(what),
        Some((key, value)) => group.failed(
            what,
            format!("it wants {key}={value}, which the pod template does not have"),
            "mend the Service's selector or the template's labels",
        ),
    }
}

fn labels(deployment: &Deployment) -> BTreeMap<String, String> {
    let template = deployment.spec.as_ref().map(|it| &it.template);
    let metadata = template.and_then(|it| it.metadata.as_ref());
    metadata
        .and_then(|it| it.labels.clone())
        .unwrap_or_default()
}

/// A pod without one is Ready, and gets its share, as soon as its processes run.
fn probes(group: &mut Group, deployment: &Deployment) {
    let pod = deployment
        .spec
        .as_ref()
        .and_then(|it| it.template.spec.as_ref());
    let containers = pod.map_or(&[][..], |pod| &pod.containers);
    let without: Vec<&str> = containers
        .iter()
        .filter(|it| it.readiness_probe.is_none())
        .map(|it| it.name.as_str())
        .collect();
    let what = "the pods say themselves when they are ready";
    if without.len() < containers.len() {
        group.passed(what);
    } else {
        group.warning(
            what,
            "no container has a readinessProbe: new pods get requests before they can answer them",
            "add a readinessProbe (httpGet or grpc)",
        );
    }
}

fn autoscalers(group: &mut Group, facts: &ReleaseFacts) {
    let what = "no autoscaler is led astray by the canary's pods";
    let all = match &facts.autoscalers {
        Read::There(all) => all,
        Read::Absent => return,
        Read::Unknown(why) => return group.unknown(what, why.clone()),
    };
    let target = &facts.rollout.spec.target_ref.name;
    let ours = all.iter().filter(|it| {
        let of = &it.spec.scale_target_ref;
        of.kind == "Deployment" && of.name == *target
    });
    let odd: Vec<String> = ours.flat_map(astray).collect();
    if odd.is_empty() {
        group.passed(what);
    } else {
        group.warning(
            what,
            format!(
                "the canary's pods match the Deployment's selector and count: {}",
                odd.join("; ")
            ),
            "scale by utilization of cpu, or watch the replicas while a release runs",
        );
    }
}

/// Averages over pods bear the canary's; memory, and sums, do not.
fn astray(autoscaler: &HorizontalPodAutoscaler) -> Vec<String> {
    let name = autoscaler.name_any();
    let metrics = autoscaler.spec.metrics.iter().flatten();
    let odd = metrics.filter_map(|metric| {
        let resource = metric
            .resource
            .as_ref()
            .map(|it| (it.name.as_str(), &it.target));
        match resource {
            Some(("memory", _)) => Some(format!("{name} scales by memory")),
            Some((resource, target)) if target.average_utilization.is_none() => {
                Some(format!("{name} scales by an amount of {resource}"))
            }
            Some(_) | None => None,
        }
    });
    odd.collect()
}

fn budgets(group: &mut Group, facts: &ReleaseFacts, deployment: &Deployment) {
    let what = "a PodDisruptionBudget leaves room for a canary that is not Ready";
    let all = match &facts.budgets {
        Read::There(all) => all,
        Read::Absent => return,
        Read::Unknown(why) => return group.unknown(what, why.clone()),
    };
    let labels = labels(deployment);
    let ours = all.iter().filter(|it| {
        let selector = it.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| matches(selector, &labels))
    });
    let tight: Vec<String> = ours
        .filter(|it| is_tight(it))
        .map(ResourceExt::name_any)
        .collect();
    if tight.is_empty() {
        group.passed(what);
    } else {
        group.warning(
            what,
            format!(
                "{} allows one pod to be away, and the canary's count: while one is not Ready, no node can be drained",
                tight.join(", ")
            ),
            "allow a share (maxUnavailable: 25%), or know it",
        );
    }
}

fn is_tight(budget: &PodDisruptionBudget) -> bool {
    let most = budget
        .spec
        .as_ref()
        .and_then(|spec| spec.max_unavailable.as_ref());
    matches!(most, Some(IntOrString::Int(..=1)))
}

/// By its labels alone; what has expressions is not looked into.
fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let wanted = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.as_ref();
    expressions.is_none_or(Vec::is_empty)
        && wanted
            .into_iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}

fn status(group: &mut Group, facts: &ReleaseFacts) {
    let default = CanaryRolloutStatus::default();
    let status = facts.rollout.status.as_ref().unwrap_or(&default);
    let what = "the operator has seen the newest spec, and gets on";
    let stalled = condition(status, STALLED).filter(|it| it.status == "True");
    if status.observed_generation != facts.rollout.metadata.generation {
        group.failed(
            what,
            "it has not seen it",
            "see above whether the operator runs, and what its log says",
        );
    } else if let Some(stalled) = stalled {
        let name = facts.rollout.name_any();
        let docs = format!(
            "kubectl aviary why {name} has the numbers, docs/what-status-says.md the ways out"
        );
        group.failed(
            what,
            format!("{}: {}", stalled.reason, stalled.message),
            docs,
        );
    } else {
        group.passed(what);
    }
    revisions(group, facts, status);
    for (type_, right, what, mend) in [
        (
            EXCLUSIVE,
            "True",
            "only pods of the Deployment are behind its Services",
            "narrow the Service's selector; else these pods serve beside stable, and are not released",
        ),
        (
            OUTSIDE_CALLERS,
            "False",
            "every caller is in the mesh",
            "give the callers a sidecar, or know what becomes of them: docs/injection.md",
        ),
    ] {
        match condition(status, type_) {
            Some(it) if it.status == right => group.passed(what),
            Some(it) if it.status == "Unknown" => {
                group.unknown(what, format!("{}: docs/reference/events.md", it.reason));
            }
            Some(it) => group.warning(what, it.message.clone(), mend),
            None => group.unknown(what, "the status does not say it yet"),
        }
    }
    evidence(group, status);
}

/// Plugin and operator have to mean the same by a revision, or nobody who waits is ever told of an end.
fn revisions(group: &mut Group, facts: &ReleaseFacts, status: &CanaryRolloutStatus) {
    let what = "plugin and operator compute the same revision of the Deployment's template";
    let stable = status.stable.as_ref().map(|it| it.revision.as_str());
    let (Some(template), Some(Phase::Stable)) = (&facts.template, status.phase) else {
        return group.unknown(what, "told only while nothing is released");
    };
    if stable == Some(template.revision.as_str()) {
        group.passed(what);
    } else {
        group.warning(
            what,
            format!("here it is {}, and the stable one is {}", template.revision, stable.unwrap_or("none")),
            "a release begins just now, or is suspended; else use the plugin of the operator's version",
        );
    }
}

/// What a release is judged by.
fn evidence(group: &mut Group, status: &CanaryRolloutStatus) {
    let what = "the checks have evidence";
    match status.verdict {
        None => group.unknown(what, "nothing of the newest release was judged"),
        Some(Verdict::Pass | Verdict::Fail) => group.passed(what),
        Some(Verdict::NoEvidence) => {
            let said = condition(status, ANALYSIS).map(|it| it.message.clone());
            let mend = "docs/prometheus.md, or more requests to the canary";
            group.warning(what, said.unwrap_or_default(), mend);
        }
    }
}

#[cfg(test)]
mod tests;
