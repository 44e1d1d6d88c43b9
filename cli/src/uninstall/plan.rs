//! What becomes of a Deployment when Aviary leaves it: pure. It goes on with the revision that serves, and is paused no more.

use aviary_crds::CanaryRollout;
use aviary_crds::revision;
use aviary_crds::status::Phase;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::template::Template;

/// What has to be done before the CanaryRollout can go.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Nothing: the Deployment asks for what serves.
    Nothing,
    /// It asks for what serves, and is paused.
    Resume,
    /// The template of what serves is put back: the release, if one runs, ends at weight 0, and the operator resumes the
    /// Deployment.
    PutBack { revision: String, template: Value },
    /// Not now.
    Blocked { why: String },
}

/// What `rollout` needs. `sets`: the ReplicaSets of its namespace; `kept`: its ControllerRevisions.
pub(super) fn action(
    rollout: &CanaryRollout,
    deployment: Option<&DynamicObject>,
    sets: &[DynamicObject],
    kept: &[DynamicObject],
) -> Action {
    let Some(deployment) = deployment else {
        return Action::Nothing;
    };
    let blocked = |why: &str| Action::Blocked {
        why: why.to_owned(),
    };
    let status = rollout.status.as_ref();
    match status.and_then(|it| it.phase) {
        Some(
            Phase::Stable
            | Phase::Starting
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Soaking
            | Phase::Paused
            | Phase::RollingBack
            | Phase::Failed,
        ) => {}
        Some(Phase::Promoting) => {
            return blocked(
                "its promotion has to end first: kubectl aviary status --wait, or abort",
            );
        }
        Some(Phase::Returning) => return blocked("its stable pods have to be back first"),
        Some(Phase::Unsettled) | None => return blocked("it is not clear which revision serves"),
    }
    let stable = status.and_then(|it| it.stable.as_ref());
    let stable = stable.map_or("", |it| it.revision.as_str());
    let asks_for = Template::of(deployment).unwrap_or_default();
    if asks_for.revision == stable {
        let paused = deployment.data.pointer("/spec/paused") == Some(&Value::Bool(true));
        return if paused {
            Action::Resume
        } else {
            Action::Nothing
        };
    }
    match template(deployment, stable, sets, kept) {
        Some(template) => Action::PutBack {
            revision: stable.to_owned(),
            template,
        },
        None => blocked(
            "the template of the revision that serves is not to be found: put it back yourself, and try again",
        ),
    }
}

/// The template of this revision of the Deployment.
fn template(
    deployment: &DynamicObject,
    stable: &str,
    sets: &[DynamicObject],
    kept: &[DynamicObject],
) -> Option<Value> {
    let uid = deployment.uid()?;
    let ours = sets.iter().filter(|set| {
        let mut owners = set.owner_references().iter();
        owners.any(|owner| owner.uid == uid)
    });
    let of_sets = ours.filter_map(|set| set.data.pointer("/spec/template"));
    let of_kept = kept
        .iter()
        .filter_map(|it| it.data.pointer("/data/spec/template"));
    let mut all = of_sets.chain(of_kept);
    let mut template = all.find(|it| revision::revision(it) == stable)?.clone();
    // The Deployment controller's, on ReplicaSets and pods alone.
    let labels = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut);
    if let Some(labels) = labels {
        labels.remove("pod-template-hash");
    }
    Some(template)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template_of(version: &str) -> Value {
        json!({"metadata": {"labels": {"app": "payment"}}, "spec": {"containers": [{"name": "app", "image": version}]}})
    }

    fn rollout(phase: &str) -> CanaryRollout {
        let stable = revision::revision(&template_of("v1"));
        serde_json::from_value(json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout", "metadata": {"name": "payment"},
            "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
            "status": {"phase": phase, "stable": {"revision": stable}},
        }))
        .unwrap()
    }

    fn deployment(version: &str, paused: bool) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": "payment", "uid": "u"},
            "spec": {"paused": paused, "template": template_of(version)},
        }))
        .unwrap()
    }

    fn set(version: &str, owner: &str) -> DynamicObject {
        let mut template = template_of(version);
        template["metadata"]["labels"]["pod-template-hash"] = json!("6d4cf56db6");
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "payment", "uid": owner});
        serde_json::from_value(json!({"metadata": {"name": version, "ownerReferences": [owner]}, "spec": {"template": template}}))
            .unwrap()
    }

    #[test]
    fn a_deployment_at_rest_needs_nothing_and_a_paused_one_is_resumed() {
        let of = |paused| {
            action(
                &rollout("Stable"),
                Some(&deployment("v1", paused)),
                &[],
                &[],
            )
        };
        assert_eq!(of(false), Action::Nothing);
        assert_eq!(of(true), Action::Resume);
        assert_eq!(action(&rollout("Stable"), None, &[], &[]), Action::Nothing);
    }

    #[test]
    fn the_template_of_what_serves_is_put_back() {
        let sets = [set("v2", "u"), set("v1", "another"), set("v1", "u")];
        let back = Action::PutBack {
            revision: revision::revision(&template_of("v1")),
            template: template_of("v1"),
        };
        for phase in ["Soaking", "Paused", "Failed", "RollingBack"] {
            let action = action(&rollout(phase), Some(&deployment("v2", true)), &sets, &[]);
            assert_eq!(action, back, "{phase}");
        }
        let kept: DynamicObject = serde_json::from_value(
            json!({"metadata": {"name": "k"}, "data": {"spec": {"template": template_of("v1")}}}),
        )
        .unwrap();
        let of_kept = action(
            &rollout("Failed"),
            Some(&deployment("v2", true)),
            &sets[..2],
            &[kept],
        );
        assert_eq!(of_kept, back, "Kubernetes has thrown the ReplicaSet away");
    }

    #[test]
    fn what_cannot_be_left_now_is_said() {
        for phase in ["Promoting", "Returning", "Unsettled"] {
            let action = action(
                &rollout(phase),
                Some(&deployment("v2", true)),
                &[set("v1", "u")],
                &[],
            );
            assert!(
                matches!(action, Action::Blocked { .. }),
                "{phase}: {action:?}"
            );
        }
        let lost = action(
            &rollout("Failed"),
            Some(&deployment("v2", true)),
            &[set("v2", "u")],
            &[],
        );
        assert!(matches!(lost, Action::Blocked { .. }), "{lost:?}");
    }
}
