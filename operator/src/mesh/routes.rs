//! One Service's part of the world: a route for each of its ports, and the clusters that the routes name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use rollout_core::CanarySplit;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Expected, Health, Route, SignedRevocation, Split, Weight,
};
use traffic_core::lease::Lease;

use crate::key::Key;

use super::endpoints::{self, PodEndpoint};
use super::{Finding, Objects, Part, Pods, RouteEntry, TargetSplit, bounds, protocol};

/// Everything proxies are told about one Service; `targets` are those that it selects.
pub fn part(objects: Objects<'_>, targets: &[TargetSplit]) -> Part {
    let mut building = Building::default();
    match targets {
        [] => building.add(objects, &TargetSplit::none(objects.service)),
        [target] => building.add(objects, target),
        several => {
            let mut rollouts: Vec<String> =
                several.iter().map(|each| each.rollout.clone()).collect();
            rollouts.sort();
            building.findings.insert(Finding::SharedService {
                service: full_name(objects.service),
                rollouts,
            });
            building.add(objects, &TargetSplit::none(objects.service));
        }
    }
    Part {
        rollout: match targets {
            [target] => Some(target.rollout.clone()),
            [] | [..] => None,
        },
        routes: building.routes,
        clusters: building.clusters,
        findings: building.findings.into_iter().collect(),
    }
}

/// Where callers find a Service: every ClusterIP with every port that has a route.
pub fn addresses_of(service: &Service) -> Vec<SocketAddr> {
    let spec = service.spec.as_ref().filter(|spec| is_balanced(spec));
    spec.into_iter()
        .flat_map(|spec| routed(spec).flat_map(|(_, number)| at_port(spec, number)))
        .collect()
}

#[derive(Default)]
struct Building {
    routes: Vec<RouteEntry>,
    clusters: Vec<Cluster>,
    findings: BTreeSet<Finding>,
}

impl Building {
    fn add(&mut self, objects: Objects<'_>, target: &TargetSplit) {
        let service = objects.service;
        let Some(spec) = service.spec.as_ref().filter(|spec| is_balanced(spec)) else {
            return;
        };
        let (mut bounds, unread) = bounds::of(service);
        if target.canary.is_some() && bounds.faults.take().is_some() {
            self.findings.insert(Finding::FaultsOff {
                rollout: target.rollout.clone(),
                service: full_name(service),
            });
        }
        self.findings
            .extend(unread.into_iter().map(|unread| Finding::Annotation {
                service: full_name(service),
                annotation: unread.annotation,
                why: unread.why,
            }));
        for (port, number) in routed(spec) {
            let name = format!("{}/{number}", full_name(service));
            let mut found = endpoints::of_port(service, port, objects.slices);
            for each in &mut found {
                each.endpoint.identity = identity(objects.pods, target, each);
                each.endpoint.workload = workload(objects.pods, target, each);
            }
            let arms = Arms::of(objects.pods, target, &found);
            self.report(service, target, &arms);
            let cluster = |revision: &str, endpoints: Vec<Endpoint>| Cluster {
                name: format!("{name}/{revision}"),
                endpoints,
            };
            let stable = cluster(&target.stable, arms.stable);
            // While the original takes over the promoted revision, both arms are the same: nothing to split.
            let canary = target
                .canary
                .as_ref()
                .filter(|canary| canary.revision != target.stable);
            let canary = canary.map(|canary| (cluster(&canary.revision, arms.canary), canary));
            let split = Split {
                stable: Arm {
                    cluster: stable.name.clone(),
                    revision: target.stable.clone(),
                },
                canary: canary
                    .as_ref()
                    .map(|(cluster, canary)| canary_arm(cluster, canary, target)),
            };
            let mut revoked = target.revoked.clone();
            revoked.sort();
            revoked.dedup();
            let route = Route {
                name,
                namespace: target.namespace.clone(),
                service: service.metadata.name.clone().unwrap_or_default(),
                port: number,
                protocol: protocol::of(port),
                rollout: target.rollout.clone(),
                split,
                bounds: bounds.clone(),
                revoked: revoked.into_iter().map(SignedRevocation::from).collect(),
            };
            let destinations = self.destinations(objects, spec, number);
            let applications = match &route.split.canary {
                Some(_) => applications(&found),
                None => Vec::new(),
            };
            self.routes.push(RouteEntry {
                route,
                destinations,
                applications,
            });
            self.clusters.push(stable);
            self.clusters.extend(canary.map(|(cluster, _)| cluster));
        }
    }

    /// Every ClusterIP with the port. Two Services cannot share one, save for a moment when one takes the other's place.
    fn destinations(
        &mut self,
        objects: Objects<'_>,
        spec: &ServiceSpec,
        port: u16,
    ) -> Vec<SocketAddr> {
        let (own, shared): (Vec<_>, Vec<_>) = at_port(spec, port)
            .into_iter()
            .partition(|address| (objects.owns)(*address));
        self.findings
            .extend(shared.into_iter().map(|address| Finding::SharedAddress {
                service: full_name(objects.service),
                address: address.to_string(),
            }));
        own
    }

    fn report(&mut self, service: &Service, target: &TargetSplit, arms: &Arms) {
        if target.rollout.is_empty() {
            return;
        }
        let (rollout, service) = (&target.rollout, full_name(service));
        let strangers = arms.strangers.iter().map(|endpoint| Finding::NotExclusive {
            rollout: rollout.clone(),
            service: service.clone(),
            endpoint: endpoint.clone(),
        });
        self.findings.extend(strangers);
        if arms.borrowed {
            self.findings.insert(Finding::StableEmpty {
                rollout: rollout.clone(),
                service,
            });
        }
    }
}

/// The endpoints of one port of a Service, by the arm that they serve in.
#[derive(Default)]
struct Arms {
    stable: Vec<Endpoint>,
    canary: Vec<Endpoint>,
    /// Ready endpoints in the stable arm that are of none of the rollout's revisions.
    strangers: Vec<String>,
    /// The stable arm has none of its own.
    borrowed: bool,
}

/// Whose an endpoint is.
enum Whose {
    /// Of the adopted Deployment or its copies.
    Revision(String),
    /// Of a copy that is not known yet.
    Copy,
    /// Of something else behind the same Service.
    Stranger,
}

impl Arms {
    fn of(pods: &dyn Pods, target: &TargetSplit, found: &[PodEndpoint]) -> Arms {
        let canary = target
            .canary
            .as_ref()
            .map(|canary| canary.revision.as_str());
        let mut arms = Arms::default();
        let mut others = Vec::new();
        for each in found {
            match whose(pods, target, each) {
                Whose::Copy => {}
                Whose::Stranger => {
                    if each.endpoint.health == Health::Healthy && !target.is_all() {
                        arms.strangers.push(match &each.pod {
                            Some(pod) => format!("pod {}/{pod}", target.namespace),
                            None => each.endpoint.address.to_string(),
                        });
                    }
                    arms.stable.push(each.endpoint.clone());
                }
                Whose::Revision(_) if target.is_all() => arms.stable.push(each.endpoint.clone()),
                Whose::Revision(revision) if revision == target.stable => {
                    arms.stable.push(each.endpoint.clone());
                }
                Whose::Revision(revision) if Some(revision.as_str()) == canary => {
                    arms.canary.push(each.endpoint.clone());
                }
                Whose::Revision(_) if is_copy(pods, target, each) => {}
                Whose::Revision(_) => others.push(each.endpoint.clone()),
            }
        }
        // Nobody is sent where nobody answers while somebody else does.
        for lender in [&others, &arms.canary] {
            if !answers(&arms.stable) && answers(lender) {
                arms.stable.extend(lender.iter().cloned());
                arms.stable.sort();
                arms.borrowed = true;
            }
        }
        arms
    }
}

/// Where pods are called, whatever they are of: kube-proxy sends callers to all of them.
fn applications(found: &[PodEndpoint]) -> Vec<SocketAddr> {
    let pods = found.iter().filter(|each| each.pod.is_some());
    let addresses: BTreeSet<SocketAddr> = pods.map(|each| each.endpoint.address).collect();
    addresses.into_iter().collect()
}

fn identity(pods: &dyn Pods, target: &TargetSplit, each: &PodEndpoint) -> Option<Expected> {
    let pod = Key::new(&target.namespace, each.pod.as_ref()?);
    pods.identity(&pod, each.endpoint.address)
}

fn workload(pods: &dyn Pods, target: &TargetSplit, each: &PodEndpoint) -> Option<Arc<str>> {
    pods.workload(&Key::new(&target.namespace, each.pod.as_ref()?))
}

fn whose(pods: &dyn Pods, target: &TargetSplit, each: &PodEndpoint) -> Whose {
    if target.is_all() && is_copy(pods, target, each) {
        return Whose::Copy;
    }
    let key = each
        .pod
        .as_ref()
        .map(|pod| Key::new(target.namespace.clone(), pod.clone()));
    match key.and_then(|key| pods.revision(&key)) {
        Some(revision) => Whose::Revision(revision),
        // Its endpoint may be seen before the pod itself.
        None if is_copy(pods, target, each) => Whose::Copy,
        None => Whose::Stranger,
    }
}

fn is_copy(pods: &dyn Pods, target: &TargetSplit, each: &PodEndpoint) -> bool {
    let Some(pod) = &each.pod else { return false };
    let prefix = format!("{}-canary-", target.deployment);
    pods.is_of_copy(&Key::new(target.namespace.clone(), pod.clone()))
        || (!target.deployment.is_empty() && pod.starts_with(&prefix))
}

fn canary_arm(cluster: &Cluster, canary: &CanarySplit, target: &TargetSplit) -> CanaryArm {
    let weight = Weight::percent(u32::from(canary.weight.get())).unwrap_or(Weight::ZERO);
    let weight = guarded(weight, cluster);
    CanaryArm {
        arm: Arm {
            cluster: cluster.name.clone(),
            revision: canary.revision.clone(),
        },
        weight,
        run: canary.run,
        lease: match canary.lease {
            rollout_core::Lease::Held => Lease::for_weight(weight),
            rollout_core::Lease::None => Lease::Unlimited,
        },
        fuse: target.fuse,
        sticky: target.sticky.clone(),
    }
}

/// The last guard: whoever computed the weight, requests are not sent where nobody answers.
fn guarded(weight: Weight, canary: &Cluster) -> Weight {
    if answers(&canary.endpoints) {
        weight
    } else {
        Weight::ZERO
    }
}

fn answers(endpoints: &[Endpoint]) -> bool {
    endpoints
        .iter()
        .any(|endpoint| endpoint.health == Health::Healthy)
}

/// A Service that stands before its endpoints with an address of its own, and does not bind clients to one of them.
fn is_balanced(spec: &ServiceSpec) -> bool {
    let addresses = spec
        .cluster_ip
        .iter()
        .chain(spec.cluster_ips.iter().flatten());
    let mut addresses = addresses.filter(|ip| ip.parse::<IpAddr>().is_ok());
    addresses.next().is_some() && spec.session_affinity.as_deref() != Some("ClientIP")
}

/// The ports that have a route.
fn routed(spec: &ServiceSpec) -> impl Iterator<Item = (&ServicePort, u16)> {
    let tcp = spec.ports.iter().flatten().filter(|port| is_tcp(port));
    tcp.filter_map(|port| Some((port, u16::try_from(port.port).ok()?)))
}

/// Sorted, without duplicates.
fn at_port(spec: &ServiceSpec, port: u16) -> Vec<SocketAddr> {
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let ips: BTreeSet<IpAddr> = all.filter_map(|text| text.parse().ok()).collect();
    ips.into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

/// Whether the split is the Service's business: it has a ClusterIP, and its selector matches the target's pods.
pub fn selects(service: &Service, target: &TargetSplit) -> bool {
    if service.metadata.namespace.as_deref() != Some(target.namespace.as_str()) {
        return false;
    }
    let Some(spec) = &service.spec else {
        return false;
    };
    let has_cluster_ip = spec
        .cluster_ip
        .as_deref()
        .is_some_and(|ip| ip.parse::<IpAddr>().is_ok());
    let selector = spec
        .selector
        .as_ref()
        .filter(|selector| !selector.is_empty());
    has_cluster_ip && selector.is_some_and(|selector| matches(selector, &target.pod_labels))
}

fn matches(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn is_tcp(port: &ServicePort) -> bool {
    port.protocol.as_deref().unwrap_or("TCP") == "TCP"
}

fn full_name(service: &Service) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!(
        "{}/{}",
        part(&service.metadata.namespace),
        part(&service.metadata.name)
    )
}
