//! Whether the pods of namespaces that asked for sidecars have one, and which.

use std::collections::{BTreeMap, BTreeSet};

use aviary_crds::INJECT_LABEL;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::facts::Pods;
use super::finding::{Finding, Group};
use super::read::Read;
use super::sidecar::{IMAGE_ANNOTATION, PROXY, SKIPPED_ANNOTATION, sidecar};

/// Names of pods that are told.
const NAMED: usize = 5;

/// `image`: of the sidecars that are given out now.
pub(super) fn judge(namespaces: &Read<Vec<Pods>>, image: Option<&str>) -> Vec<Finding> {
    let mut group = Group::new("sidecars");
    match namespaces {
        Read::There(namespaces) if namespaces.is_empty() => group.warning(
            "a namespace asks for sidecars",
            format!("none has the label {INJECT_LABEL}=enabled"),
            format!("kubectl label namespace NAMESPACE {INJECT_LABEL}=enabled, and restart its Deployments"),
        ),
        Read::There(namespaces) => {
            for namespace in namespaces {
                of_namespace(&mut group, namespace, image);
            }
        }
        Read::Absent => group.failed("the namespace is there", "it is not", "name it with -n"),
        Read::Unknown(why) => group.unknown("pods have their sidecars", why.clone()),
    }
    group.findings
}

fn of_namespace(group: &mut Group, namespace: &Pods, image: Option<&str>) {
    let name = &namespace.namespace;
    if !namespace.injects {
        group.warning(
            format!("namespace {name} asks for sidecars"),
            "only pods with a label of their own get one",
            format!(
                "kubectl label namespace {name} {INJECT_LABEL}=enabled, and make its pods anew: kubectl -n {name} rollout restart deployment"
            ),
        );
    }
    let alive: Vec<&Pod> = namespace.pods.iter().filter(|pod| is_alive(pod)).collect();
    let asks = |pod: &Pod| {
        let says = pod.labels().get(INJECT_LABEL).map(String::as_str);
        says == Some("true") || (namespace.injects && says != Some("false"))
    };
    let bare: Vec<&Pod> = alive
        .iter()
        .copied()
        .filter(|pod| asks(pod) && !is_meshed(pod) && !of_host(pod))
        .collect();
    let what = format!("every pod of namespace {name} that asks for a sidecar has one");
    if bare.is_empty() {
        group.passed(what);
    } else {
        group.failed(
            what,
            format!(
                "{} of {} have none: {}",
                bare.len(),
                alive.len(),
                named(&names(&bare))
            ),
            anew(name, &bare),
        );
    }
    let mut images: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let as_given = alive
        .iter()
        .filter(|pod| !pod.annotations().contains_key(IMAGE_ANNOTATION));
    for pod in as_given {
        if let Some(image) = sidecar(pod).and_then(|it| it.image.as_deref()) {
            images.entry(image).or_default().push(pod.name_any());
        }
    }
    if let Some(image) = image.filter(|_| !images.is_empty()) {
        let what = format!("the sidecars of namespace {name} are those that are given out now");
        images.remove(image);
        let old: Vec<String> = images
            .iter()
            .map(|(image, pods)| format!("{image} in {}", named(pods)))
            .collect();
        if old.is_empty() {
            group.passed(what);
        } else {
            group.warning(
                what,
                format!("the operator gives out {image}, and there are {}", old.join("; ")),
                format!("kubectl -n {name} rollout restart deployment/NAME when it suits you: older sidecars go on"),
            );
        }
    }
    let blind: Vec<&Pod> = alive
        .iter()
        .copied()
        .filter(|pod| is_meshed(pod) && own(pod).any(|it| is_blind(pod, it)))
        .collect();
    let what = format!("the probes of namespace {name} see the application");
    if blind.is_empty() {
        group.passed(what);
    } else {
        group.warning(
            what,
            format!(
                "tcpSocket probes that always pass, since the sidecar of an older operator takes the connection: {}",
                named(&names(&blind))
            ),
            anew(name, &blind),
        );
    }
}

fn names(pods: &[&Pod]) -> Vec<String> {
    pods.iter().map(|pod| pod.name_any()).collect()
}

/// How these pods are made anew, by what made them.
fn anew(namespace: &str, pods: &[&Pod]) -> String {
    let makers: BTreeSet<String> = pods.iter().filter_map(|pod| maker(pod)).collect();
    let alone = pods.iter().any(|pod| maker(pod).is_none());
    let mut mends = Vec::new();
    if !makers.is_empty() {
        let makers: Vec<String> = makers.into_iter().collect();
        mends.push(format!(
            "kubectl -n {namespace} rollout restart {}",
            makers.join(" ")
        ));
    }
    if alone {
        mends.push(
            "delete and make anew what no Deployment, StatefulSet or DaemonSet makes".to_owned(),
        );
    }
    format!("make them anew: {}", mends.join("; "))
}

/// What `kubectl rollout restart` knows a pod's maker by: of a ReplicaSet, its Deployment.
fn maker(pod: &Pod) -> Option<String> {
    let owner = pod
        .owner_references()
        .iter()
        .find(|it| it.controller == Some(true))?;
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = pod.labels().get("pod-template-hash")?;
            let deployment = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
            Some(format!("deployment/{deployment}"))
        }
        "StatefulSet" | "DaemonSet" => {
            Some(format!("{}/{}", owner.kind.to_lowercase(), owner.name))
        }
        _ => None,
    }
}

fn named(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names[..names.len() - more].join(", ");
    if more > 0 {
        format!("{first} and {more} more")
    } else {
        first
    }
}

/// It has the sidecar, in either form.
fn is_meshed(pod: &Pod) -> bool {
    sidecar(pod).is_some()
}

/// Its own containers, and native sidecars.
fn own(pod: &Pod) -> impl Iterator<Item = &Container> {
    let containers = pod.spec.iter().flat_map(|spec| {
        let native = spec.init_containers.iter().flatten();
        spec.containers.iter().chain(native)
    });
    containers.filter(|it| it.name != PROXY)
}

/// It has a probe that asks the sidecar instead of the application. Those that the injector has to leave alone do not: what goes to
/// another host, or to a port that the sidecar does not see.
fn is_blind(pod: &Pod, container: &Container) -> bool {
    let skipped = pod.annotations().get(SKIPPED_ANNOTATION);
    let skipped: Vec<&str> =
        skipped.map_or_else(Vec::new, |it| it.split(',').map(str::trim).collect());
    let number = |port: &IntOrString| match port {
        IntOrString::Int(port) => Some(port.to_string()),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let port = ports.find(|it| it.name.as_ref() == Some(name));
            port.map(|it| it.container_port.to_string())
        }
    };
    let asks_the_sidecar = |probe: &Probe| {
        probe.tcp_socket.as_ref().is_some_and(|it| {
            let seen = number(&it.port).is_none_or(|port| !skipped.contains(&port.as_str()));
            it.host.is_none() && seen
        })
    };
    let probes = [
        &container.liveness_probe,
        &container.readiness_probe,
        &container.startup_probe,
    ];
    let mut probes = probes.into_iter().flatten();
    probes.any(asks_the_sidecar)
}

fn of_host(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.host_network).unwrap_or(false)
}

fn is_alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed")) && pod.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::check::finding::Outcome;

    fn pod(name: &str, spec: Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Running"}}),
        )
        .unwrap()
    }

    fn meshed(name: &str, image: &str) -> Pod {
        let proxy = json!({"name": "aviary-proxy", "image": image});
        pod(
            name,
            json!({"containers": [{"name": "app"}], "initContainers": [proxy]}),
        )
    }

    fn outcomes(injects: bool, pods: Vec<Pod>) -> Vec<(Outcome, String)> {
        let namespaces = Read::There(vec![Pods {
            namespace: "shop".to_owned(),
            injects,
            pods,
        }]);
        let findings = judge(&namespaces, Some("proxy:2"));
        findings
            .into_iter()
            .map(|it| (it.outcome, it.seen))
            .collect()
    }

    #[test]
    fn pods_with_the_newest_sidecar_pass() {
        let found = outcomes(true, vec![meshed("a", "proxy:2")]);
        assert!(
            found.iter().all(|(outcome, _)| *outcome == Outcome::Passed),
            "{found:?}"
        );
    }

    #[test]
    fn a_pod_that_asks_and_has_no_sidecar_is_named_and_the_others_are_not() {
        let bare = || json!({"containers": [{"name": "app"}]});
        let mut refuses = pod("refuses", bare());
        let labels = refuses.labels_mut();
        labels.insert(INJECT_LABEL.to_owned(), "false".to_owned());
        let host = pod("host", json!({"hostNetwork": true, "containers": []}));
        let mut done = pod("done", bare());
        done.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
        let pods = vec![
            pod("bare", bare()),
            refuses,
            host,
            done,
            meshed("a", "proxy:2"),
        ];
        let (outcome, seen) = outcomes(true, pods).remove(0);
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(seen, "1 of 4 have none: bare");
    }

    #[test]
    fn the_mend_names_what_made_the_pods() {
        let made = |kind: &str, owner: &str| {
            let mut pod = pod(owner, json!({"containers": [{"name": "app"}]}));
            let owner = json!([{"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "1", "controller": true}]);
            pod.metadata.owner_references = serde_json::from_value(owner).unwrap();
            let labels = pod.labels_mut();
            labels.insert("pod-template-hash".to_owned(), "6d4cf".to_owned());
            pod
        };
        let made = [
            made("ReplicaSet", "web-6d4cf"),
            made("ReplicaSet", "web-6d4cf"),
            made("DaemonSet", "agent"),
        ];
        let mut pods: Vec<&Pod> = made.iter().collect();
        assert_eq!(
            anew("shop", &pods),
            "make them anew: kubectl -n shop rollout restart daemonset/agent deployment/web"
        );
        let alone = pod("alone", json!({"containers": []}));
        pods.push(&alone);
        assert!(anew("shop", &pods).ends_with("StatefulSet or DaemonSet makes"));
    }

    #[test]
    fn older_sidecars_and_blind_probes_are_a_warning() {
        let mut blind = meshed("blind", "proxy:1");
        let container = &mut blind.spec.as_mut().unwrap().containers[0];
        let probe = json!({"tcpSocket": {"port": 1}});
        container.readiness_probe = serde_json::from_value(probe).unwrap();
        let found = outcomes(true, vec![blind]);
        assert_eq!(found[0].0, Outcome::Passed);
        assert_eq!(found[1].0, Outcome::Warning);
        assert!(found[1].1.contains("proxy:1 in blind"), "{found:?}");
        assert_eq!(found[2].0, Outcome::Warning);
    }

    #[test]
    fn what_a_pod_has_asked_for_is_no_warning() {
        let mut asked = meshed("asked", "proxy:special");
        let annotations = asked.annotations_mut();
        annotations.insert(IMAGE_ANNOTATION.to_owned(), "proxy:special".to_owned());
        annotations.insert(SKIPPED_ANNOTATION.to_owned(), "9090, 5432".to_owned());
        let spec = asked.spec.as_mut().unwrap();
        let skipped = json!({"tcpSocket": {"port": "db"}});
        let elsewhere = json!({"tcpSocket": {"port": 1, "host": "db.example"}});
        spec.containers[0].ports =
            serde_json::from_value(json!([{"name": "db", "containerPort": 5432}])).unwrap();
        spec.containers[0].readiness_probe = serde_json::from_value(skipped).unwrap();
        spec.containers[0].liveness_probe = serde_json::from_value(elsewhere).unwrap();
        let found = outcomes(true, vec![asked]);
        assert!(
            found.iter().all(|(outcome, _)| *outcome == Outcome::Passed),
            "{found:?}"
        );
    }

    #[test]
    fn a_namespace_that_asks_for_nothing_is_said() {
        assert_eq!(outcomes(false, Vec::new())[0].0, Outcome::Warning);
        let found = judge(&Read::There(Vec::new()), None);
        assert_eq!(found[0].outcome, Outcome::Warning);
    }
}
