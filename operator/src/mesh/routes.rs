//! The view: a route for every port of every Service, and the clusters that the routes name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use rollout_core::CanarySplit;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Health, Route, SignedRevocation, Split, Weight,
};
use traffic_core::lease::Lease;

use crate::key::Key;

use super::endpoints::{self, PodEndpoint, Slices};
use super::{Finding, Objects, RouteEntry, TargetSplit, View, World, protocol};

/// Everything proxies are told about these targets.
pub fn view(objects: Objects<'_>, targets: &[TargetSplit]) -> View {
    let mut services: Vec<&Service> = objects.services.iter().map(AsRef::as_ref).collect();
    services.sort_by_key(|service| (&service.metadata.namespace, &service.metadata.name));
    let mut view = Building {
        slices: Slices::by_service(objects.slices),
        world: World::default(),
        findings: BTreeSet::new(),
        taken: BTreeSet::new(),
    };
    for service in services {
        let mut selected: Vec<&TargetSplit> = targets
            .iter()
            .filter(|target| selects(service, target))
            .collect();
        selected.sort_by(|a, b| a.rollout.cmp(&b.rollout));
        match selected.as_slice() {
            [] => view.add_service(objects, service, &TargetSplit::none(service)),
            [target] => view.add_service(objects, service, target),
            several => {
                let rollouts = several
                    .iter()
                    .map(|target| target.rollout.clone())
                    .collect();
                view.findings.insert(Finding::SharedService {
                    service: full_name(service),
                    rollouts,
                });
                view.add_service(objects, service, &TargetSplit::none(service));
            }
        }
    }
    View {
        world: view.world,
        findings: view.findings.into_iter().collect(),
    }
}

struct Building<'a> {
    slices: Slices<'a>,
    world: World,
    findings: BTreeSet<Finding>,
    taken: BTreeSet<SocketAddr>,
}

impl Building<'_> {
    fn add_service(&mut self, objects: Objects<'_>, service: &Service, target: &TargetSplit) {
        let Some(spec) = service.spec.as_ref().filter(|spec| is_balanced(spec)) else {
            return;
        };
        for port in spec.ports.iter().flatten().filter(|port| is_tcp(port)) {
            let Ok(number) = u16::try_from(port.port) else {
                continue;
            };
            let name = format!("{}/{number}", full_name(service));
            let found = endpoints::of_port(service, port, &self.slices);
            let arms = Arms::of(objects, target, &found);
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
                    .map(|(cluster, canary)| canary_arm(cluster, canary)),
            };
            let mut revoked = target.revoked.clone();
            revoked.sort();
            revoked.dedup();
            let route = Route {
                name: name.clone(),
                namespace: target.namespace.clone(),
                service: service.metadata.name.clone().unwrap_or_default(),
                port: number,
                protocol: protocol::of(port),
                rollout: target.rollout.clone(),
                split,
                revoked: revoked.into_iter().map(SignedRevocation::from).collect(),
            };
            let destinations = self.destinations(service, spec, number);
            self.world.routes.insert(
                name.clone(),
                RouteEntry {
                    route,
                    destinations,
                },
            );
            for cluster in std::iter::once(stable).chain(canary.map(|(cluster, _)| cluster)) {
                self.world.clusters.insert(cluster.name.clone(), cluster);
            }
        }
    }

    /// Every ClusterIP with the port. Two Services cannot share one, save for a moment when one takes the other's place.
    fn destinations(
        &mut self,
        service: &Service,
        spec: &ServiceSpec,
        port: u16,
    ) -> Vec<SocketAddr> {
        let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let addresses: BTreeSet<SocketAddr> = all
            .filter_map(|text| text.parse::<IpAddr>().ok())
            .map(|ip| SocketAddr::new(ip, port))
            .collect();
        let (free, shared): (Vec<_>, Vec<_>) = addresses
            .into_iter()
            .partition(|address| self.taken.insert(*address));
        self.findings
            .extend(shared.into_iter().map(|address| Finding::SharedAddress {
                service: full_name(service),
                address: address.to_string(),
            }));
        free
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
enum Whose<'a> {
    /// Of the adopted Deployment or its copies.
    Revision(&'a str),
    /// Of a copy that is not known yet.
    Copy,
    /// Of something else behind the same Service.
    Stranger,
}

impl Arms {
    fn of(objects: Objects<'_>, target: &TargetSplit, found: &[PodEndpoint]) -> Arms {
        let canary = target
            .canary
            .as_ref()
            .map(|canary| canary.revision.as_str());
        let mut arms = Arms::default();
        let mut others = Vec::new();
        for each in found {
            match whose(objects, target, each) {
                Whose::Copy => {}
                Whose::Stranger => {
                    if each.endpoint.health == Health::Healthy && !target.is_all() {
                        arms.strangers.push(match &each.pod {
                            Some(pod) => format!("pod {}/{pod}", target.namespace),
                            None => each.endpoint.address.to_string(),
                        });
                    }
                    arms.stable.push(each.endpoint);
                }
                Whose::Revision(_) if target.is_all() => arms.stable.push(each.endpoint),
                Whose::Revision(revision) if revision == target.stable => {
                    arms.stable.push(each.endpoint);
                }
                Whose::Revision(revision) if Some(revision) == canary => {
                    arms.canary.push(each.endpoint);
                }
                Whose::Revision(_) if is_copy(objects, target, each) => {}
                Whose::Revision(_) => others.push(each.endpoint),
            }
        }
        // Nobody is sent where nobody answers while somebody else does.
        for lender in [&others, &arms.canary] {
            if !answers(&arms.stable) && answers(lender) {
                arms.stable.extend(lender);
                arms.stable.sort();
                arms.borrowed = true;
            }
        }
        arms
    }
}

fn whose<'a>(objects: Objects<'a>, target: &TargetSplit, each: &PodEndpoint) -> Whose<'a> {
    let key = each
        .pod
        .as_ref()
        .map(|pod| Key::new(target.namespace.clone(), pod.clone()));
    if target.is_all() && is_copy(objects, target, each) {
        return Whose::Copy;
    }
    match key.and_then(|key| objects.revisions.get(&key)) {
        Some(revision) => Whose::Revision(revision),
        // Its endpoint may be seen before the pod itself.
        None if is_copy(objects, target, each) => Whose::Copy,
        None => Whose::Stranger,
    }
}

fn is_copy(objects: Objects<'_>, target: &TargetSplit, each: &PodEndpoint) -> bool {
    let Some(pod) = &each.pod else { return false };
    let prefix = format!("{}-canary-", target.deployment);
    objects
        .copies
        .contains(&Key::new(target.namespace.clone(), pod.clone()))
        || (!target.deployment.is_empty() && pod.starts_with(&prefix))
}

fn canary_arm(cluster: &Cluster, canary: &CanarySplit) -> CanaryArm {
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

/// Whether the split is the Service's business: it has a ClusterIP, and its selector matches the target's pods.
fn selects(service: &Service, target: &TargetSplit) -> bool {
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
