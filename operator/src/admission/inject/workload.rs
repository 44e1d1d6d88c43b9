//! What a pod is one of: the sidecar's metrics carry it, so that the requests to a Deployment can be added up.

use serde_json::Value;

/// Set on pods and ReplicaSets by the controller of Deployments: what it appends to a Deployment's name for a ReplicaSet's.
const HASH_LABEL: &str = "pod-template-hash";

/// The name of the pod's Deployment, CronJob, or of another controller that it has; empty for a pod of its own.
///
/// Not from `generateName`: it is cut to make a name of 63 characters. A Job of a CronJob is known by its name alone, which ends with the
/// minutes since 1970 for which it was planned: each Job would else be a workload of its own, and never heard of again.
pub(super) fn of(pod: &Value) -> &str {
    let metadata = &pod["metadata"];
    let owners = metadata["ownerReferences"].as_array();
    let Some(owner) = owners
        .into_iter()
        .flatten()
        .find(|owner| owner["controller"] == Value::Bool(true))
    else {
        return "";
    };
    let name = owner["name"].as_str().unwrap_or_default();
    let hash = metadata["labels"][HASH_LABEL].as_str();
    match (owner["kind"].as_str(), hash) {
        (Some("ReplicaSet"), Some(hash)) => without(name, hash).unwrap_or(name),
        (Some("Job"), _) => without_time(name).unwrap_or(name),
        (Some(_) | None, Some(_) | None) => name,
    }
}

fn without<'a>(replica_set: &'a str, hash: &str) -> Option<&'a str> {
    replica_set.strip_suffix(hash)?.strip_suffix('-')
}

fn without_time(job: &str) -> Option<&str> {
    let (cron_job, minutes) = job.rsplit_once('-')?;
    let is_time = (8..=10).contains(&minutes.len()) && minutes.bytes().all(|b| b.is_ascii_digit());
    (is_time && !cron_job.is_empty()).then_some(cron_job)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owned(kind: &str, name: &str, hash: Option<&str>) -> Value {
        json!({"metadata": {
            "generateName": format!("{name}-"),
            "labels": {"app": "payment", HASH_LABEL: hash},
            "ownerReferences": [
                {"kind": "Backup", "name": "nightly"},
                {"kind": kind, "name": name, "controller": true},
            ],
        }})
    }

    #[test]
    fn a_pod_of_a_deployment_is_named_after_it_and_any_other_after_its_controller() {
        for (kind, name, hash, expected) in [
            (
                "ReplicaSet",
                "payment-6d4cf56db6",
                Some("6d4cf56db6"),
                "payment",
            ),
            (
                "ReplicaSet",
                "payment-canary-0123456789-5f7d",
                Some("5f7d"),
                "payment-canary-0123456789",
            ),
            // Of nobody's Deployment, or with somebody else's label.
            (
                "ReplicaSet",
                "payment-6d4cf56db6",
                None,
                "payment-6d4cf56db6",
            ),
            (
                "ReplicaSet",
                "payment-6d4cf56db6",
                Some("other"),
                "payment-6d4cf56db6",
            ),
            ("ReplicaSet", "6d4cf56db6", Some("6d4cf56db6"), "6d4cf56db6"),
            (
                "StatefulSet",
                "ledger-6d4cf56db6",
                Some("6d4cf56db6"),
                "ledger-6d4cf56db6",
            ),
            ("Job", "report", None, "report"),
            ("Job", "report-2024", None, "report-2024"),
            ("Job", "report-29404320", None, "report"),
            ("Job", "-29404320", None, "-29404320"),
            ("StatefulSet", "report-29404320", None, "report-29404320"),
        ] {
            assert_eq!(
                of(&owned(kind, name, hash)),
                expected,
                "{kind} {name} {hash:?}"
            );
        }
    }

    #[test]
    fn a_pod_without_a_controller_has_no_workload() {
        for pod in [
            json!({}),
            json!({"metadata": {"generateName": "payment-"}}),
            json!({"metadata": {"ownerReferences": [{"kind": "Backup", "name": "nightly"}]}}),
        ] {
            assert_eq!(of(&pod), "", "{pod}");
        }
    }
}
