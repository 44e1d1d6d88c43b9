//! What is read of a Deployment, as raw JSON: typed structs would drop fields that they do not know.

use aviary_crds::BREAK_GLASS_ANNOTATION;
use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::state::Template;
use serde_json::Value;

use crate::revision;

/// The present template.
pub(super) fn template(deployment: &DynamicObject) -> Option<Template> {
    let template = deployment.data.pointer("/spec/template")?;
    Some(Template {
        revision: revision::revision(template),
        content: revision::content(template),
    })
}

pub(super) fn number(object: &DynamicObject, pointer: &str) -> u32 {
    object
        .data
        .pointer(pointer)
        .and_then(Value::as_u64)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

/// `spec.replicas`, which is 1 when it is absent.
pub(super) fn replicas(deployment: &DynamicObject) -> u32 {
    if deployment.data.pointer("/spec/replicas").is_some() {
        number(deployment, "/spec/replicas")
    } else {
        1
    }
}

pub(super) fn ready(deployment: &DynamicObject) -> u32 {
    number(deployment, "/status/readyReplicas")
}

pub(super) fn paused(deployment: &DynamicObject) -> bool {
    let paused = deployment.data.pointer("/spec/paused");
    paused.and_then(Value::as_bool).unwrap_or(false)
}

/// A person has taken over.
pub(super) fn break_glass(deployment: &DynamicObject) -> bool {
    deployment
        .annotations()
        .contains_key(BREAK_GLASS_ANNOTATION)
}

/// The Deployment controller has seen the newest spec, and every pod is of the present template and available.
pub(super) fn rolled_out(deployment: &DynamicObject) -> bool {
    let seen = deployment
        .data
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    let wanted = replicas(deployment);
    seen >= deployment.metadata.generation
        && ["replicas", "updatedReplicas", "availableReplicas"]
            .iter()
            .all(|count| number(deployment, &format!("/status/{count}")) == wanted)
}

/// How many pods more than `replicas` it may have while it rolls, rounded up as Kubernetes does; 25 % when nothing is said.
pub(super) fn max_surge(deployment: &DynamicObject, replicas: u32) -> u32 {
    let surge = deployment
        .data
        .pointer("/spec/strategy/rollingUpdate/maxSurge");
    let count = surge
        .and_then(Value::as_u64)
        .and_then(|count| u32::try_from(count).ok());
    let percent = surge
        .and_then(Value::as_str)
        .and_then(|text| text.strip_suffix('%')?.parse::<u32>().ok());
    count.unwrap_or_else(|| replicas.saturating_mul(percent.unwrap_or(25)).div_ceil(100))
}

/// Quota and the like: what the Deployment controller says about pods that it cannot make.
pub(super) fn replica_failure(deployment: &DynamicObject) -> Option<String> {
    let conditions = deployment.data.pointer("/status/conditions")?.as_array()?;
    let failing = conditions
        .iter()
        .find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")?;
    let message = failing["message"].as_str();
    Some(message.unwrap_or("pods cannot be created").to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(status: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "namespace": "shop", "generation": 3},
            "spec": {"replicas": 2}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn it_is_rolled_out_when_the_newest_spec_was_seen_and_every_pod_is_new_and_available() {
        let all = json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert!(rolled_out(&deployment(all.clone())));
        for (field, value) in [
            ("observedGeneration", 2),
            ("replicas", 3),
            ("updatedReplicas", 1),
            ("availableReplicas", 1),
        ] {
            let mut other = all.clone();
            other[field] = json!(value);
            assert!(!rolled_out(&deployment(other)), "{field}");
        }
    }

    #[test]
    fn the_surge_is_a_number_or_a_share_rounded_up() {
        for (surge, expected) in [
            (json!(3), 3),
            (json!("50%"), 3),
            (json!("1%"), 1),
            (json!(0), 0),
            (json!(null), 2),
        ] {
            let mut rolling = deployment(json!({}));
            rolling.data["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": surge}});
            assert_eq!(max_surge(&rolling, 5), expected, "{surge}");
        }
    }

    #[test]
    fn absent_fields_mean_what_the_api_says() {
        let mut bare = deployment(json!({}));
        bare.data["spec"] = json!({});
        assert_eq!(replicas(&bare), 1);
        assert!(!paused(&bare) && !break_glass(&bare));
        assert_eq!(replica_failure(&bare), None);
    }
}
