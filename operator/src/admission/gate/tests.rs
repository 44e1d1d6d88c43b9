use aviary_crds::ROLLOUT_LABEL;

use super::*;
use crate::revision::revision;

fn deployment(image: &str, paused: Option<bool>) -> Value {
    let mut deployment = json!({
        "metadata": {"name": "payment", "namespace": "shop", "labels": {"app": "payment", ROLLOUT_LABEL: "payment"}},
        "spec": {"replicas": 3, "template": template(image)},
    });
    if let Some(paused) = paused {
        deployment["spec"]["paused"] = json!(paused);
    }
    deployment
}

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "payment"}},
        "spec": {"containers": [{"name": "app", "image": image}]}
    })
}

fn unlabelled(mut deployment: Value) -> Value {
    deployment["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove(ROLLOUT_LABEL);
    deployment
}

fn facts(phase: Phase) -> RolloutFacts {
    RolloutFacts {
        name: "payment".to_owned(),
        target: "payment".to_owned(),
        weights: vec![1, 10, 50, 100],
        stable: Some(revision(&template("v1"))),
        canary: Some(revision(&template("v2"))),
        phase: Some(phase),
        suspended: false,
        deleting: false,
    }
}

fn decided(old: &Value, new: &Value, manager: &str, facts: Option<&RolloutFacts>) -> Decision {
    let change = Change {
        namespace: "shop",
        name: "payment",
        old,
        new,
        manager: Some(manager),
    };
    let decision = decide(&change, facts);
    for warning in match &decision {
        Decision::Allow { warnings } | Decision::Edit { warnings, .. } => warnings.as_slice(),
        Decision::Deny { .. } => &[],
    } {
        assert!(warning.len() <= 256, "too long for a warning: {warning}");
        assert!(!warning.contains('\n'), "{warning}");
    }
    decision
}

/// The object that is stored, and what the user reads.
fn stored(
    old: &Value,
    new: &Value,
    manager: &str,
    facts: Option<&RolloutFacts>,
) -> (Value, Vec<String>) {
    match answer(decided(old, new, manager, facts), new) {
        Answer::Allow { warnings } => (new.clone(), warnings),
        Answer::Patch { patch, warnings } => {
            let mut stored = new.clone();
            json_patch::patch(&mut stored, &patch).unwrap();
            (stored, warnings)
        }
        Answer::Deny { message } => panic!("denied: {message}"),
    }
}

fn denied(old: &Value, new: &Value, manager: &str, facts: &RolloutFacts) -> String {
    match decided(old, new, manager, Some(facts)) {
        Decision::Deny { message } => message,
        other @ (Decision::Allow { .. } | Decision::Edit { .. }) => panic!("not denied: {other:?}"),
    }
}

const EVERY_PHASE: [Phase; 8] = [
    Phase::Stable,
    Phase::Starting,
    Phase::Scaling,
    Phase::Shifting,
    Phase::Soaking,
    Phase::Promoting,
    Phase::RollingBack,
    Phase::Failed,
];

fn all_but_promoting() -> impl Iterator<Item = Phase> {
    EVERY_PHASE
        .into_iter()
        .filter(|phase| *phase != Phase::Promoting)
}

#[test]
fn a_new_template_is_paused_and_the_user_is_told_what_happens_now() {
    let (old, new) = (deployment("v1", None), deployment("v2", None));
    let (stored, warnings) = stored(
        &old,
        &new,
        "kubectl-client-side-apply",
        Some(&facts(Phase::Stable)),
    );
    assert_eq!(stored, deployment("v2", Some(true)));
    assert_eq!(
        warnings,
        [
            format!(
                "Deployment shop/payment: paused; CanaryRollout payment now releases revision {} in steps 1% -> 10% -> 50% -> 100%, and the stable revision serves everyone else",
                revision(&template("v2"))
            ),
            "to follow it: kubectl get canaryrollout payment -n shop --watch".to_owned(),
        ]
    );
}

#[test]
fn a_new_template_is_never_stored_unpaused_while_the_rollout_exists() {
    for phase in all_but_promoting() {
        for paused_before in [None, Some(false), Some(true)] {
            for paused_after in [None, Some(false), Some(true)] {
                for image in ["v1", "v3"] {
                    let (old, new) = (
                        deployment("v2", paused_before),
                        deployment(image, paused_after),
                    );
                    let (stored, warnings) =
                        stored(&old, &new, "kubectl-rollout", Some(&facts(phase)));
                    assert_eq!(stored["spec"]["paused"], json!(true), "{phase:?}");
                    assert_eq!(stored["spec"]["template"], template(image));
                    assert!(!warnings.is_empty());
                }
            }
        }
    }
}

#[test]
fn a_new_template_before_the_first_status_is_paused_too() {
    let unknown = RolloutFacts {
        stable: None,
        canary: None,
        phase: None,
        ..facts(Phase::Stable)
    };
    let (old, new) = (deployment("v1", None), deployment("v2", None));
    assert_eq!(
        stored(&old, &new, "helm", Some(&unknown)).0["spec"]["paused"],
        json!(true)
    );
}

#[test]
fn a_suspended_rollout_says_that_it_waits() {
    let suspended = RolloutFacts {
        suspended: true,
        ..facts(Phase::Stable)
    };
    let (old, new) = (deployment("v1", None), deployment("v2", None));
    let (_, warnings) = stored(&old, &new, "kubectl", Some(&suspended));
    assert!(
        warnings[0].contains("once its spec.suspend is false again"),
        "{}",
        warnings[0]
    );
}

#[test]
fn a_release_that_is_replaced_is_named() {
    let (old, new) = (deployment("v2", Some(true)), deployment("v3", Some(true)));
    let (_, warnings) = stored(&old, &new, "kubectl", Some(&facts(Phase::Soaking)));
    assert_eq!(
        warnings[1],
        format!(
            "the release of revision {} ends at weight 0: this one replaces it",
            revision(&template("v2"))
        )
    );
    let (_, warnings) = stored(&old, &new, "kubectl", Some(&facts(Phase::Failed)));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn a_rollout_that_is_being_deleted_promises_nothing() {
    let deleting = RolloutFacts {
        deleting: true,
        ..facts(Phase::Soaking)
    };
    let (old, new) = (deployment("v1", None), deployment("v3", None));
    let (stored, warnings) = stored(&old, &new, "kubectl", Some(&deleting));
    assert_eq!(stored["spec"]["paused"], json!(true));
    assert_eq!(
        warnings,
        [
            "Deployment shop/payment: paused, and not released: CanaryRollout payment is being deleted",
            "to roll it out once that is gone: kubectl rollout resume deployment/payment -n shop",
        ]
    );
}

#[test]
fn a_copied_label_adopts_nothing() {
    let other = RolloutFacts {
        target: "checkout".to_owned(),
        ..facts(Phase::Stable)
    };
    let (old, new) = (deployment("v1", None), deployment("v2", None));
    let (stored, warnings) = stored(&old, &new, "kubectl", Some(&other));
    assert_eq!(stored, unlabelled(new));
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("CanaryRollout payment releases Deployment checkout"),
        "{}",
        warnings[0]
    );
}

#[test]
fn many_steps_fit_a_warning() {
    let many = RolloutFacts {
        weights: (1..=19).chain([100]).collect(),
        ..facts(Phase::Stable)
    };
    let (old, new) = (deployment("v1", None), deployment("v2", None));
    let (_, warnings) = stored(&old, &new, "kubectl", Some(&many));
    assert!(
        warnings[0].contains("in steps 1% -> 2% -> ... -> 100%,"),
        "{}",
        warnings[0]
    );
}

#[test]
fn a_change_of_anything_else_passes_in_silence() {
    for phase in EVERY_PHASE {
        let old = deployment("v2", Some(true));
        let mut new = old.clone();
        new["spec"]["replicas"] = json!(9);
        new["metadata"]["labels"]["team"] = json!("shop");
        let decision = decided(&old, &new, "kubectl", Some(&facts(phase)));
        assert_eq!(
            decision,
            Decision::Allow {
                warnings: Vec::new()
            },
            "{phase:?}"
        );
    }
}

#[test]
fn going_back_to_the_stable_template_says_that_the_release_ends() {
    let (old, new) = (deployment("v2", Some(true)), deployment("v1", Some(true)));
    let decision = decided(&old, &new, "kubectl", Some(&facts(Phase::Soaking)));
    let Decision::Allow { warnings } = decision else {
        panic!("{decision:?}")
    };
    assert_eq!(
        warnings[0],
        format!(
            "Deployment shop/payment: the template is the stable one again: the release of revision {} ends at weight 0, the stable revision serves everyone, and CanaryRollout payment resumes the Deployment by itself",
            revision(&template("v2"))
        )
    );
    let decision = decided(&old, &new, "kubectl", Some(&facts(Phase::Failed)));
    let Decision::Allow { warnings } = decision else {
        panic!("{decision:?}")
    };
    assert!(!warnings[0].contains("ends at weight 0"), "{}", warnings[0]);
}

#[test]
fn resuming_a_template_that_is_not_stable_is_denied_to_a_person_with_what_to_do_instead() {
    let (old, new) = (deployment("v2", Some(true)), deployment("v2", Some(false)));
    for phase in all_but_promoting() {
        let message = denied(&old, &new, "kubectl-rollout", &facts(phase));
        for command in [
            "kubectl describe canaryrollout payment -n shop",
            "kubectl apply -f",
            "kubectl set image deployment/payment -n shop",
        ] {
            assert!(message.contains(command), "{message}");
        }
        assert!(!message.contains("kubectl aviary"), "{message}");
    }
    assert!(
        denied(&old, &new, "kubectl-rollout", &facts(Phase::Failed)).contains("was rolled back by")
    );
    assert!(
        denied(&old, &new, "kubectl-rollout", &facts(Phase::Soaking))
            .contains("is being released by")
    );
}

#[test]
fn a_manifest_that_clears_paused_is_paused_again_and_not_failed() {
    for new in [deployment("v2", None), deployment("v2", Some(false))] {
        let old = deployment("v2", Some(true));
        let (stored, warnings) =
            stored(&old, &new, "argocd-controller", Some(&facts(Phase::Failed)));
        assert_eq!(stored["spec"]["paused"], json!(true));
        assert!(
            warnings[0].contains("leave spec.paused out of the manifest"),
            "{}",
            warnings[0]
        );
    }
}

#[test]
fn resuming_the_stable_template_is_anyones_right() {
    let (old, new) = (deployment("v1", Some(true)), deployment("v1", None));
    for phase in EVERY_PHASE {
        for manager in ["kubectl-rollout", "argocd-controller"] {
            let decision = decided(&old, &new, manager, Some(&facts(phase)));
            assert_eq!(
                decision,
                Decision::Allow {
                    warnings: Vec::new()
                }
            );
        }
    }
}

#[test]
fn resuming_during_a_promotion_is_what_the_operator_wants_too() {
    let (old, new) = (deployment("v2", Some(true)), deployment("v2", None));
    let decision = decided(
        &old,
        &new,
        "kubectl-rollout",
        Some(&facts(Phase::Promoting)),
    );
    assert_eq!(
        decision,
        Decision::Allow {
            warnings: Vec::new()
        }
    );
}

#[test]
fn another_template_during_a_promotion_is_denied_with_how_to_wait() {
    for image in ["v1", "v3"] {
        let message = denied(
            &deployment("v2", None),
            &deployment(image, None),
            "kubectl",
            &facts(Phase::Promoting),
        );
        assert!(
            message.contains(&format!(
                "is promoting revision {}",
                revision(&template("v2"))
            )),
            "{message}"
        );
        assert!(
            message.contains("kubectl wait canaryrollout/payment -n shop --for=condition=Ready"),
            "{message}"
        );
    }
}

#[test]
fn kubectl_replace_drops_neither_the_pause_nor_the_label() {
    let old = deployment("v2", Some(true));
    let new = unlabelled(deployment("v2", None));
    let (result, warnings) = stored(&old, &new, "kubectl-replace", Some(&facts(Phase::Failed)));
    assert_eq!(result, deployment("v2", Some(true)));
    assert_eq!(warnings.len(), 3);
    assert!(
        warnings[2].contains("kubectl delete canaryrollout payment -n shop"),
        "{}",
        warnings[2]
    );

    let (result, _) = stored(
        &old,
        &unlabelled(deployment("v3", None)),
        "kubectl-replace",
        Some(&facts(Phase::Failed)),
    );
    assert_eq!(result, deployment("v3", Some(true)));
}

#[test]
fn the_label_comes_back_even_when_all_labels_are_gone() {
    let old = deployment("v1", None);
    let mut new = old.clone();
    new["metadata"].as_object_mut().unwrap().remove("labels");
    let (stored, warnings) = stored(&old, &new, "kubectl-edit", Some(&facts(Phase::Stable)));
    assert_eq!(
        stored["metadata"]["labels"],
        json!({ROLLOUT_LABEL: "payment"})
    );
    assert_eq!(warnings.len(), 1);
}

#[test]
fn nobody_but_the_operator_moves_a_deployment_to_another_rollout() {
    let old = deployment("v1", None);
    let mut new = old.clone();
    new["metadata"]["labels"][ROLLOUT_LABEL] = json!("other");
    assert_eq!(
        stored(&old, &new, "kubectl-label", Some(&facts(Phase::Stable))).0,
        old
    );
}

#[test]
fn without_its_rollout_a_deployment_is_let_go_instead_of_waiting_for_ever() {
    let (old, new) = (deployment("v1", Some(true)), deployment("v2", Some(true)));
    let (stored, warnings) = stored(&old, &new, "kubectl", None);
    assert_eq!(stored, unlabelled(new));
    assert!(
        warnings[0].contains("there is no CanaryRollout payment in namespace shop"),
        "{}",
        warnings[0]
    );
    assert!(
        warnings[1].contains("kubectl rollout resume deployment/payment -n shop"),
        "{}",
        warnings[1]
    );
}

#[test]
fn a_deployment_of_nobodys_is_not_touched() {
    let (old, new) = (
        unlabelled(deployment("v1", None)),
        unlabelled(deployment("v2", None)),
    );
    assert_eq!(
        decided(&old, &new, "kubectl", None),
        Decision::Allow {
            warnings: Vec::new()
        }
    );
}

#[test]
fn the_facts_come_from_spec_and_status() {
    let rollout: CanaryRollout = serde_json::from_value(json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"name": "payment", "namespace": "shop"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
        "status": {"phase": "Soaking", "stable": {"revision": "aaaaaaaaaa"}, "canary": {"revision": "bbbbbbbbbb", "run": 2}},
    }))
    .unwrap();
    assert_eq!(
        RolloutFacts::from(&rollout),
        RolloutFacts {
            name: "payment".to_owned(),
            target: "payment".to_owned(),
            weights: vec![1, 10, 50, 100],
            stable: Some("aaaaaaaaaa".to_owned()),
            canary: Some("bbbbbbbbbb".to_owned()),
            phase: Some(Phase::Soaking),
            suspended: false,
            deleting: false,
        }
    );
}
