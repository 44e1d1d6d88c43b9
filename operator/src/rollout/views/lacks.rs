//! Pods that should have a sidecar and have none, or one that lacks what this operator counts on: those that were made before their namespace
//! was labelled, or while the webhook was away, or by an older operator.

use aviary_crds::{INJECT_LABEL, REVISION_LABEL};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::Sidecar;
use crate::key::Key;
use crate::names::{INJECTION, INJECTION_ANNOTATION};

/// What a pod lacks, and who would make it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacks {
    pub what: What,
    /// As kubectl takes it: `deployment/web`. `None`: nobody makes it anew, or a Job whose pods end.
    pub workload: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A sidecar, if its namespace is labelled.
    Sidecar,
    /// A sidecar, which its own label asks for.
    Asked,
    /// A sidecar of this operator's: what it has is older in a way that matters.
    Newer,
}

/// What all pods of a namespace are found by.
pub(super) fn of_namespace(namespace: &str) -> Key {
    Key::new(namespace, "")
}

/// A namespace.
pub(super) fn named(namespace: &str) -> Key {
    Key::new("", namespace)
}

impl Lacks {
    pub(super) fn of(pod: &Pod, sidecar: Sidecar) -> Option<Box<Lacks>> {
        let what = what(pod, sidecar)?;
        let workload = workload(pod);
        Some(Box::new(Lacks { what, workload }))
    }
}

fn what(pod: &Pod, sidecar: Sidecar) -> Option<What> {
    let spec = pod.spec.as_ref()?;
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let ends =
        pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"));
    let is_windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
    // A copy's pod without a sidecar ends its release.
    let is_copys = pod.labels().contains_key(REVISION_LABEL);
    if ends || is_windows || is_copys || spec.host_network == Some(true) {
        return None;
    }
    let wish = pod.labels().get(INJECT_LABEL).map(String::as_str);
    match (sidecar, wish) {
        (Sidecar::None, Some("false")) => None,
        (Sidecar::None, Some("true")) => Some(What::Asked),
        (Sidecar::None, Some(_) | None) => Some(What::Sidecar),
        (Sidecar::Injected | Sidecar::Runs, _) => {
            let injection = pod.annotations().get(INJECTION_ANNOTATION);
            let injection = injection.and_then(|text| text.parse().ok()).unwrap_or(1);
            (injection < INJECTION).then_some(What::Newer)
        }
    }
}

/// Only what `kubectl rollout restart` takes.
fn workload(pod: &Pod) -> Option<Box<str>> {
    let mut owners = pod.owner_references().iter();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    let named = match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = pod.labels().get("pod-template-hash")?;
            let deployment = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
            format!("deployment/{deployment}")
        }
        "StatefulSet" => format!("statefulset/{}", owner.name),
        "DaemonSet" => format!("daemonset/{}", owner.name),
        _ => return None,
    };
    Some(named.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lacks(pod: Value) -> Option<Lacks> {
        let mut whole = json!({"metadata": {"namespace": "shop", "name": "web-1"}, "spec": {"containers": [{"name": "app"}]}});
        json_patch::merge(&mut whole, &pod);
        let pod: Pod = serde_json::from_value(whole).unwrap();
        let seen = super::super::PodSeen::from(pod);
        seen.lacks.map(|lacks| *lacks)
    }

    fn what(pod: Value) -> Option<What> {
        lacks(pod).map(|lacks| lacks.what)
    }

    #[test]
    fn a_pod_lacks_what_its_namespace_its_label_or_this_operator_wants() {
        let labelled = |value: &str| json!({"metadata": {"labels": {"aviary.dev/inject": value}}});
        assert_eq!(what(json!({})), Some(What::Sidecar));
        assert_eq!(what(labelled("true")), Some(What::Asked));
        assert_eq!(what(labelled("false")), None);
        let injected = |annotations: Value| {
            what(json!({
                "metadata": {"annotations": annotations},
                "spec": {"initContainers": [{"name": "aviary-proxy"}]},
            }))
        };
        assert_eq!(
            injected(json!({"aviary.dev/injected": "0.0.1"})),
            Some(What::Newer)
        );
        assert_eq!(
            injected(json!({"aviary.dev/injection": "1"})),
            Some(What::Newer)
        );
        let now = INJECTION.to_string();
        assert_eq!(injected(json!({"aviary.dev/injection": now})), None);
        // That of a newer operator, which this one takes over from.
        assert_eq!(injected(json!({"aviary.dev/injection": "99"})), None);
    }

    #[test]
    fn who_can_have_none_or_is_at_its_end_lacks_nothing() {
        for pod in [
            json!({"spec": {"hostNetwork": true}}),
            json!({"spec": {"os": {"name": "windows"}}}),
            json!({"status": {"phase": "Succeeded"}}),
            json!({"status": {"phase": "Failed"}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"metadata": {"labels": {"aviary.dev/revision": "abc"}}}),
        ] {
            assert_eq!(what(pod.clone()), None, "{pod}");
        }
        assert_eq!(
            what(json!({"status": {"phase": "Pending"}})),
            Some(What::Sidecar)
        );
    }

    #[test]
    fn who_is_to_be_restarted_is_named_as_kubectl_takes_it() {
        let of = |kind: &str, name: &str| {
            let pod = json!({"metadata": {
                "labels": {"pod-template-hash": "abc"},
                "ownerReferences": [{"apiVersion": "v1", "uid": "u", "kind": kind, "name": name, "controller": true}],
            }});
            lacks(pod).unwrap().workload.map(String::from)
        };
        assert_eq!(
            of("ReplicaSet", "web-abc").as_deref(),
            Some("deployment/web")
        );
        assert_eq!(of("ReplicaSet", "web-other"), None);
        assert_eq!(of("StatefulSet", "db").as_deref(), Some("statefulset/db"));
        assert_eq!(of("DaemonSet", "agent").as_deref(), Some("daemonset/agent"));
        assert_eq!(of("Job", "report"), None);
        assert_eq!(lacks(json!({})).unwrap().workload, None);
    }
}
