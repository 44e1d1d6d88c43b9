//! The canary copy: a second Deployment with the new template, beside the user's own.
//!
//! It is owned by the user's Deployment, never by the CanaryRollout, so that deleting the latter cannot take pods away
//! that still serve. Its selector and pods carry the revision in addition, so that neither Deployment adopts the
//! other's pods; the user's Services select both.

use aviary_crds::{CANARY_OF_LABEL, REVISION_LABEL};
use serde_json::{Map, Value, json};

pub(crate) fn name(deployment: &str, revision: &str) -> String {
    format!("{deployment}-canary-{revision}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Deployment has no {0}")]
pub(crate) struct Incomplete(&'static str);

/// The copy of `original` (raw JSON, so that no field is lost) for `revision`.
pub(crate) fn build(
    original: &Value,
    rollout: &str,
    revision: &str,
    replicas: u32,
) -> Result<Value, Incomplete> {
    let text = |pointer: &'static str| {
        original
            .pointer(pointer)
            .and_then(Value::as_str)
            .ok_or(Incomplete(pointer))
    };
    let deployment = text("/metadata/name")?;
    let mut selector = original
        .pointer("/spec/selector")
        .cloned()
        .ok_or(Incomplete("spec.selector"))?;
    let mut template = original
        .pointer("/spec/template")
        .cloned()
        .ok_or(Incomplete("spec.template"))?;
    set(&mut selector, "matchLabels", revision);
    set(
        template
            .as_object_mut()
            .and_then(|t| t.get_mut("metadata"))
            .ok_or(Incomplete("spec.template.metadata"))?,
        "labels",
        revision,
    );
    let mut spec = Map::new();
    for kept in ["minReadySeconds", "progressDeadlineSeconds"] {
        if let Some(value) = original.pointer(&format!("/spec/{kept}")) {
            spec.insert(kept.to_owned(), value.clone());
        }
    }
    spec.insert("replicas".to_owned(), json!(replicas));
    spec.insert("revisionHistoryLimit".to_owned(), json!(0));
    spec.insert("selector".to_owned(), selector);
    spec.insert("template".to_owned(), template);
    Ok(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name(deployment, revision),
            "namespace": text("/metadata/namespace")?,
            "labels": { CANARY_OF_LABEL: rollout, REVISION_LABEL: revision },
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": deployment,
                "uid": text("/metadata/uid")?,
            }],
        },
        "spec": spec,
    }))
}

fn set(parent: &mut Value, labels: &str, revision: &str) {
    if let Some(parent) = parent.as_object_mut() {
        let labels = parent.entry(labels).or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(REVISION_LABEL.to_owned(), json!(revision));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Value {
        json!({
            "metadata": {"name": "payment", "namespace": "shop", "uid": "u1", "labels": {"app": "payment"}},
            "spec": {
                "replicas": 4, "paused": true, "minReadySeconds": 3, "strategy": {"type": "RollingUpdate"},
                "selector": {"matchLabels": {"app": "payment"}},
                "template": {
                    "metadata": {"labels": {"app": "payment", "tier": "back"}, "annotations": {"a": "b"}},
                    "spec": {"containers": [{"name": "app", "image": "payment:2", "futureField": {"x": 1}}]},
                },
            },
        })
    }

    #[test]
    fn the_copy_is_the_new_template_with_the_revision_on_top() {
        let copy = build(&original(), "payment", "abc", 2).unwrap();
        assert_eq!(copy["metadata"]["name"], "payment-canary-abc");
        assert_eq!(
            copy["spec"]["selector"]["matchLabels"],
            json!({"app": "payment", REVISION_LABEL: "abc"})
        );
        assert_eq!(
            copy["spec"]["template"]["metadata"]["labels"],
            json!({"app": "payment", "tier": "back", REVISION_LABEL: "abc"})
        );
        assert_eq!(
            copy["spec"]["template"]["spec"],
            original()["spec"]["template"]["spec"],
            "no field of the template is lost"
        );
        assert_eq!(copy["spec"]["replicas"], 2);
        assert_eq!(copy["spec"]["minReadySeconds"], 3);
    }

    #[test]
    fn the_copy_is_never_paused_and_belongs_to_the_deployment() {
        let copy = build(&original(), "payment", "abc", 1).unwrap();
        assert_eq!(copy["spec"].get("paused"), None);
        let owner = &copy["metadata"]["ownerReferences"][0];
        assert_eq!(
            (owner["kind"].as_str(), owner["uid"].as_str()),
            (Some("Deployment"), Some("u1"))
        );
        assert_eq!(
            copy["metadata"]["labels"].get("aviary.dev/rollout"),
            None,
            "copies are never gated"
        );
    }

    #[test]
    fn a_deployment_without_a_template_has_no_copy() {
        let mut broken = original();
        broken["spec"].as_object_mut().unwrap().remove("template");
        assert_eq!(
            build(&broken, "payment", "abc", 1),
            Err(Incomplete("spec.template"))
        );
    }
}
