use aviary_crds::ROLLOUT_LABEL;

use super::*;
use crate::revision::{content, revision};

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
        failed: ended_badly(Some(phase)).then(|| Failed {
            revision: revision(&template("v2")),
            content: Some(content(&template("v2"))),
        }),
        phase: Some(phase),
        suspended: false,
        deleting: false,
        illegible: false,
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

const EVERY_PHASE: [Phase; 11] = [
    Phase::Stable,
    Phase::Starting,
    Phase::Scaling,
    Phase::Shifting,
    Phase::Soaking,
    Phase::Paused,
    Phase::Promoting,
    Phase::Returning,
    Phase::RollingBack,
    Phase::Failed,
    Phase::Unsettled,
];

fn all_but(some: &[Phase]) -> impl Iterator<Item = Phase> {
    EVERY_PHASE
        .into_iter()
        .filter(|phase| !some.contains(phase))
}

/// What is stored, which has to be unchanged, and the warnings.
fn allowed(old: &Value, new: &Value, facts: &RolloutFacts) -> Vec<String> {
    match decided(old, new, "kubectl", Some(facts)) {
        Decision::Allow { warnings } => warnings,
        other @ (Decision::Edit { .. } | Decision::Deny { .. }) => panic!("{other:?}"),
    }
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
    for phase in all_but(&[Phase::Promoting]) {
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
    for ended in [Phase::Returning, Phase::RollingBack, Phase::Failed] {
        let (_, warnings) = stored(&old, &new, "kubectl", Some(&facts(ended)));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }
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
    for phase in all_but(&[Phase::Promoting, Phase::Unsettled]) {
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

/// Only the operator opens the gate; until then, nothing rolls to what it has not looked at.
#[test]
fn the_stable_template_leaves_a_promotion() {
    let (old, new) = (deployment("v2", None), deployment("v1", None));
    let (stored, warnings) = stored(&old, &new, "kubectl", Some(&facts(Phase::Promoting)));
    assert_eq!(stored, deployment("v1", Some(true)));
    assert_eq!(
        warnings,
        [
            format!(
                "Deployment shop/payment: the template is the stable one again: the promotion of revision {} is left, and the Deployment rolls back to stable",
                revision(&template("v2"))
            ),
            "traffic stays on the canary until the stable pods are Ready again; then they serve everyone".to_owned(),
            "to follow it: kubectl get canaryrollout payment -n shop --watch".to_owned(),
        ]
    );
}

#[test]
fn another_template_during_a_promotion_is_paused_and_waits_for_its_end() {
    let (old, new) = (deployment("v2", None), deployment("v3", None));
    let (stored, warnings) = stored(&old, &new, "kubectl", Some(&facts(Phase::Promoting)));
    assert_eq!(stored, deployment("v3", Some(true)));
    assert_eq!(
        warnings,
        [
            format!(
                "Deployment shop/payment: paused; CanaryRollout payment is promoting revision {}: where the Deployment has pods of it already, that is finished first",
                revision(&template("v2"))
            ),
            format!(
                "then revision {} is released from weight 0, in steps 1% -> 10% -> 50% -> 100%",
                revision(&template("v3"))
            ),
            "to follow it: kubectl get canaryrollout payment -n shop --watch".to_owned(),
        ]
    );
}

#[test]
fn a_third_template_cannot_be_resumed_while_another_is_promoted() {
    let (old, new) = (deployment("v3", Some(true)), deployment("v3", None));
    let message = denied(&old, &new, "kubectl-rollout", &facts(Phase::Promoting));
    assert!(message.contains("payment"), "{message}");
}

#[test]
fn with_the_promoted_template_itself_the_promotion_goes_on() {
    // Somebody has applied v1 or v3 in the meantime, and thought better of it.
    for before in ["v1", "v3"] {
        let (old, new) = (deployment(before, None), deployment("v2", None));
        let (stored, warnings) = stored(&old, &new, "kubectl", Some(&facts(Phase::Promoting)));
        assert_eq!(stored["spec"]["paused"], json!(true));
        assert!(warnings[0].contains("goes on with it"), "{}", warnings[0]);
    }
}

fn with_annotation(mut deployment: Value) -> Value {
    deployment["spec"]["template"]["metadata"]["annotations"] = json!({"restartedAt": "now"});
    deployment
}

#[test]
fn an_annotation_alone_does_not_release_a_failed_template_again_and_the_gate_says_so() {
    let old = deployment("v2", Some(true));
    let new = with_annotation(deployment("v2", None));
    for ended in [Phase::Returning, Phase::RollingBack, Phase::Failed] {
        let (stored, warnings) = stored(&old, &new, "kubectl", Some(&facts(ended)));
        assert_eq!(stored["spec"]["paused"], json!(true));
        assert_eq!(
            warnings,
            [
                format!(
                    "Deployment shop/payment: paused, and not released: revision {} differs from {}, which was rolled back, only in annotations",
                    revision(&new["spec"]["template"]),
                    revision(&template("v2"))
                ),
                "to see why that was rolled back: kubectl describe canaryrollout payment -n shop"
                    .to_owned(),
                format!(
                    "to try it again: kubectl -n shop annotate --overwrite canaryrollout payment aviary.dev/request=retry:{}",
                    revision(&new["spec"]["template"])
                ),
            ]
        );
    }
}

#[test]
fn the_failed_template_itself_is_called_so() {
    let old = with_annotation(deployment("v2", Some(true)));
    let new = deployment("v2", Some(true));
    let warnings = allowed(&old, &new, &facts(Phase::Failed));
    assert!(
        warnings[0].ends_with(&format!(
            "not released: revision {} is the one that was rolled back",
            revision(&template("v2"))
        )),
        "{}",
        warnings[0]
    );
    // A status that does not know the content still knows the revision.
    let mut unknown = facts(Phase::Failed);
    unknown.failed = unknown.failed.map(|failed| Failed {
        content: None,
        ..failed
    });
    assert_eq!(allowed(&old, &new, &unknown), warnings);
}

#[test]
fn an_annotation_alone_is_a_release_like_any_other_where_nothing_has_failed() {
    let (old, new) = (
        deployment("v1", None),
        with_annotation(deployment("v1", None)),
    );
    let (_, warnings) = stored(&old, &new, "kubectl", Some(&facts(Phase::Stable)));
    assert!(
        warnings[0].contains("now releases revision"),
        "{}",
        warnings[0]
    );
}

#[test]
fn while_it_is_not_clear_what_serves_a_new_template_waits_and_a_resume_passes() {
    let unsettled = facts(Phase::Unsettled);
    for image in ["v1", "v3"] {
        let (old, new) = (deployment("v2", None), deployment(image, None));
        let (stored, warnings) = stored(&old, &new, "kubectl", Some(&unsettled));
        assert_eq!(stored, deployment(image, Some(true)));
        assert_eq!(
            warnings,
            [
                format!(
                    "Deployment shop/payment: paused; revision {} will be released by CanaryRollout payment once it is clear which revision serves",
                    revision(&template(image))
                ),
                "to see what is not: kubectl describe canaryrollout payment -n shop".to_owned(),
            ]
        );
    }
    let (old, new) = (deployment("v2", Some(true)), deployment("v2", None));
    for manager in ["kubectl-rollout", "argocd-controller"] {
        assert_eq!(
            decided(&old, &new, manager, Some(&unsettled)),
            Decision::Allow {
                warnings: Vec::new()
            }
        );
    }
}

#[test]
fn a_rollout_that_is_being_deleted_promises_nothing_in_any_phase() {
    for phase in EVERY_PHASE {
        let deleting = RolloutFacts {
            deleting: true,
            ..facts(phase)
        };
        let (old, new) = (deployment("v1", None), deployment("v3", None));
        let (stored, warnings) = stored(&old, &new, "kubectl", Some(&deleting));
        assert_eq!(stored["spec"]["paused"], json!(true), "{phase:?}");
        assert!(
            warnings[0].contains("is being deleted"),
            "{phase:?}: {}",
            warnings[0]
        );
    }
}

#[test]
fn nothing_that_is_sent_or_unknown_makes_the_gate_fail() {
    let label = json!({"metadata": {"labels": {ROLLOUT_LABEL: "payment"}}});
    let objects = [
        Value::Null,
        json!("text"),
        json!([]),
        label.clone(),
        json!({"metadata": label["metadata"], "spec": null}),
        json!({"metadata": label["metadata"], "spec": {"paused": "yes", "template": 7}}),
        deployment("v1", Some(true)),
    ];
    for phase in EVERY_PHASE.map(Some).into_iter().chain([None]) {
        let nothing = RolloutFacts {
            target: "payment".to_owned(),
            phase,
            ..RolloutFacts::default()
        };
        for old in &objects {
            for new in &objects {
                for facts in [None, Some(&nothing)] {
                    decided(old, new, "kubectl", facts);
                }
            }
        }
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
            failed: None,
            phase: Some(Phase::Soaking),
            suspended: false,
            deleting: false,
            illegible: false,
        }
    );
}

#[test]
fn what_failed_comes_from_the_failure_or_else_from_the_release_that_has_ended() {
    let failed = |status: Value| {
        let rollout: CanaryRollout = serde_json::from_value(json!({
            "apiVersion": "aviary.dev/v1alpha1",
            "kind": "CanaryRollout",
            "metadata": {"name": "payment", "namespace": "shop"},
            "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
            "status": status,
        }))
        .unwrap();
        RolloutFacts::from(&rollout).failed
    };
    let canary = json!({"revision": "bbbbbbbbbb", "content": "cccccccccc", "run": 2});
    let failure =
        json!({"revision": "dddddddddd", "content": "eeeeeeeeee", "cause": "AnalysisFailed"});
    let is = |revision: &str, content: Option<&str>| {
        Some(Failed {
            revision: revision.to_owned(),
            content: content.map(str::to_owned),
        })
    };
    for phase in ["Returning", "RollingBack", "Failed"] {
        assert_eq!(
            failed(json!({"phase": phase, "canary": canary, "failure": failure})),
            is("dddddddddd", Some("eeeeeeeeee"))
        );
        assert_eq!(
            failed(json!({"phase": phase, "canary": canary})),
            is("bbbbbbbbbb", Some("cccccccccc"))
        );
        assert_eq!(
            failed(json!({"phase": phase, "canary": {"revision": "bbbbbbbbbb", "run": 2}})),
            is("bbbbbbbbbb", None)
        );
        assert_eq!(failed(json!({"phase": phase})), None);
    }
    // A release that came back to the stable template is over: the next one is released, whatever it is.
    assert_eq!(
        failed(json!({"phase": "Stable", "canary": canary, "failure": failure})),
        None
    );
}

#[test]
fn a_rollout_that_this_version_cannot_read_holds_its_deployment() {
    let illegible = RolloutFacts {
        name: "payment".to_owned(),
        illegible: true,
        ..RolloutFacts::default()
    };
    let (v1, held) = (deployment("v1", None), deployment("v2", Some(true)));
    for (old, new) in [
        (&v1, deployment("v2", None)),
        (&held, deployment("v2", None)),
        (&held, unlabelled(deployment("v2", Some(false)))),
    ] {
        let (stored, warnings) = stored(old, &new, "kubectl", Some(&illegible));
        assert_eq!(stored["spec"]["paused"], true);
        assert_eq!(stored["metadata"]["labels"][ROLLOUT_LABEL], "payment");
        assert!(warnings[0].contains("cannot read"), "{warnings:?}");
    }
}
