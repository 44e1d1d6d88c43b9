//! What is said of pods that should have a sidecar, and the command that gives it to them: a pod gets its sidecar when it is made.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::views::{PodSeen, What};
use crate::reason::Reason;
use crate::text::cut;

/// As many workloads are named. Whoever has more of them restarts the namespace.
const NAMED: usize = 8;
const LONGEST: usize = 900;

/// Of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    pub reason: Reason,
    pub message: String,
}

impl Lacking {
    pub(super) fn of(namespace: &str, pods: &[Arc<PodSeen>]) -> Option<Lacking> {
        let lacking: Vec<(&PodSeen, What, Option<&str>)> = pods
            .iter()
            .filter_map(|pod| {
                let lacks = pod.lacks.as_ref()?;
                Some((&**pod, lacks.what, lacks.workload.as_deref()))
            })
            .collect();
        let old = lacking.iter().filter(|(_, what, _)| *what == What::Newer);
        let (old, all) = (old.count(), lacking.len());
        let none = all - old;
        if all == 0 {
            return None;
        }
        let pods = |count: usize| match count {
            1 => format!("1 pod of namespace {namespace} has"),
            count => format!("{count} pods of namespace {namespace} have"),
        };
        let mut said = Vec::new();
        if none > 0 {
            said.push(format!(
                "{} no sidecar and should (made before the label {}, or while the operator was away): no weight holds what they call, and no check sees it",
                pods(none),
                aviary_crds::INJECT_LABEL
            ));
        }
        if old > 0 {
            said.push(format!(
                "{} the sidecar of an older operator, behind which tcpSocket probes always pass, and callers without a sidecar are held by no weight",
                pods(old)
            ));
        }
        let workloads: BTreeSet<&str> = lacking.iter().filter_map(|(_, _, of)| *of).collect();
        let mut others = lacking.iter().filter(|(_, _, of)| of.is_none());
        if !workloads.is_empty() {
            let named: Vec<&str> = workloads.iter().copied().take(NAMED).collect();
            let more = match workloads.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            said.push(format!(
                "kubectl -n {namespace} rollout restart {}{more}",
                named.join(" ")
            ));
        }
        if let Some((pod, ..)) = others.next() {
            let more = match others.count() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            said.push(format!(
                "pod {}{more}, which no Deployment, StatefulSet or DaemonSet makes anew, gets its sidecar when it is made again",
                pod.key.name
            ));
        }
        Some(Lacking {
            reason: if none > 0 {
                Reason::PodsWithoutSidecar
            } else {
                Reason::OldSidecars
            },
            message: cut(said.join("; "), LONGEST),
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, owner: Value, more: Value) -> Arc<PodSeen> {
        let mut whole = json!({
            "metadata": {"namespace": "shop", "name": name, "labels": {"pod-template-hash": "abc"}, "ownerReferences": [owner]},
            "spec": {"containers": []},
        });
        json_patch::merge(&mut whole, &more);
        let pod: Pod = serde_json::from_value(whole).unwrap();
        Arc::new(pod.into())
    }

    fn owner(kind: &str, name: &str) -> Value {
        json!({"apiVersion": "v1", "uid": "u", "kind": kind, "name": name, "controller": true})
    }

    fn message(pods: &[Arc<PodSeen>]) -> (Reason, String) {
        let lacking = Lacking::of("shop", pods).unwrap();
        (lacking.reason, lacking.message)
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(Lacking::of("shop", &[]), None);
    }

    #[test]
    fn who_has_to_be_restarted_is_in_one_command() {
        let pods = [
            pod("client-1", owner("ReplicaSet", "client-abc"), json!({})),
            pod("client-2", owner("ReplicaSet", "client-abc"), json!({})),
            pod("db-0", owner("StatefulSet", "db"), json!({})),
        ];
        assert_eq!(
            message(&pods),
            (
                Reason::PodsWithoutSidecar,
                "3 pods of namespace shop have no sidecar and should (made before the label aviary.dev/inject, or while the operator was away): no weight holds what they call, and no check sees it; kubectl -n shop rollout restart deployment/client statefulset/db".to_owned()
            )
        );
    }

    #[test]
    fn pods_that_nobody_makes_anew_and_old_sidecars_are_told_apart() {
        let sidecar = json!({"spec": {"initContainers": [{"name": "aviary-proxy"}]}});
        let old = pod("web-1", owner("ReplicaSet", "web-abc"), sidecar);
        let (reason, text) = message(std::slice::from_ref(&old));
        assert_eq!(reason, "OldSidecars");
        assert!(text.starts_with("1 pod of namespace shop has the sidecar of an older operator"));
        let alone = pod("debug", owner("Job", "debug"), json!({}));
        let (reason, text) = message(&[old, alone]);
        assert_eq!(reason, "PodsWithoutSidecar");
        assert!(text.contains("pod debug, which no Deployment"), "{text}");
        assert!(text.contains("rollout restart deployment/web;"), "{text}");
    }

    #[test]
    fn a_whole_namespace_fits_into_a_note() {
        let pods: Vec<_> = (0..200)
            .map(|i| {
                pod(
                    &format!("p{i}"),
                    owner("DaemonSet", &format!("d{i:03}")),
                    json!({}),
                )
            })
            .collect();
        let (_, text) = message(&pods);
        assert!(text.contains("daemonset/d007 (and 192 more)"), "{text}");
        assert!(text.len() <= 900);
    }
}
