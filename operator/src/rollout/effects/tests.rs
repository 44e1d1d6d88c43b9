//! One test for each row of the table: what is asked for, with which precondition, and that nothing is when nothing is missing.

use kube_runtime::watcher::Event;
use rollout_core::state::Unsettled;
use rollout_core::time::Time;

use super::*;
use crate::rollout::testing::{self, Writers, state};
use crate::rollout::views::Views;

/// Deployment `payment` (uid `uid`) with two replicas of image `old`, asking for image `new`.
struct Shop {
    views: Views,
    writers: Writers,
    paused: bool,
    replicas: u32,
    surge: u32,
    annotations: Value,
}

fn image(name: &str) -> Value {
    json!({"metadata": {"labels": {"app": "payment"}}, "spec": {"containers": [{"image": name}]}})
}

fn revision(name: &str) -> String {
    crate::revision::revision(&image(name))
}

impl Shop {
    fn new() -> Shop {
        let (views, writers) = testing::views();
        Shop {
            views,
            writers,
            paused: true,
            replicas: 2,
            surge: 1,
            annotations: json!({}),
        }
    }

    /// A ReplicaSet of this image: (wanted, ready, created).
    fn set(mut self, name: &str, wanted: u32, ready: u32, created: i64) -> Shop {
        let time = k8s_openapi::jiff::Timestamp::from_second(created).unwrap();
        let mut set = testing::object(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "namespace": "shop", "name": format!("payment-{name}"), "uid": format!("set-{name}"),
                "resourceVersion": "5", "creationTimestamp": time.to_string(),
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "payment", "uid": "uid", "controller": true}],
            },
            "spec": {"replicas": wanted, "template": image(name)},
            "status": {"replicas": wanted, "readyReplicas": ready},
        }));
        crate::rollout::replica_sets::strip(&mut set);
        self.writers.replica_sets.apply(Event::Apply(set));
        self
    }

    fn copy(mut self, name: &str, replicas: u32) -> Shop {
        let revision = revision(name);
        let copy = testing::object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "namespace": "shop", "name": format!("payment-canary-{revision}"), "uid": "copy", "resourceVersion": "9",
                "labels": {"aviary.dev/canary-of": "payment", "aviary.dev/revision": revision},
            },
            "spec": {"replicas": replicas},
        }));
        self.writers.copies.apply(Event::Apply(copy));
        self
    }

    /// The template of this image is kept.
    fn kept(mut self, name: &str) -> Shop {
        let kept = testing::object(json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "namespace": "shop", "name": format!("payment-{}", revision(name)), "uid": format!("kept-{name}"),
                "labels": {"aviary.dev/rollout": "payment"},
            },
            "data": {"name": format!("payment-{name}"), "labels": {"app": "payment"}, "spec": {"template": image(name)}},
        }));
        self.writers.kept.apply(Event::Apply(kept));
        self
    }

    fn look(&mut self) -> Look {
        let deployment = testing::object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "namespace": "shop", "name": "payment", "uid": "uid", "resourceVersion": "7",
                "labels": {"aviary.dev/rollout": "payment"}, "annotations": self.annotations,
            },
            "spec": {
                "replicas": self.replicas, "paused": self.paused, "template": image("new"),
                "selector": {"matchLabels": {"app": "payment"}},
                "strategy": {"rollingUpdate": {"maxSurge": self.surge}},
            },
        }));
        self.writers.originals.apply(Event::Apply(deployment));
        testing::look_at(&self.views, testing::rollout(json!({})), Time(0))
    }

    fn effects(&mut self, phase: Phase) -> Vec<Effect> {
        self.effects_of(&in_phase(phase), &[])
    }

    fn effects_of(&mut self, state: &State, drained: &[&str]) -> Vec<Effect> {
        let drained = drained.iter().map(|name| (*name).to_owned()).collect();
        let look = self.look();
        effects(&testing::persisted(state), &look, &drained, None)
    }
}

/// The state of the machine, with the revisions of the images.
fn in_phase(phase: Phase) -> State {
    let mut state = state(phase);
    state.stable.revision = revision("old");
    state.target.revision = revision("new");
    if let Some(run) = &mut state.run {
        run.canary.revision = revision("new");
        run.base_replicas = 2;
    }
    state
}

const SOAKING: Phase = Phase::Soaking {
    step: 0,
    since: Time(0),
};

fn reasons(effects: &[Effect]) -> Vec<&'static str> {
    effects.iter().map(|effect| effect.reason.name()).collect()
}

fn patch(effect: &Effect) -> &Value {
    match &effect.write.verb {
        Verb::Patch(patch) => patch,
        other => panic!("no patch: {other:?}"),
    }
}

/// As it is while a canary soaks and nothing is missing.
fn at_work() -> Shop {
    Shop::new().set("old", 2, 2, 10).copy("new", 1).kept("old")
}

#[test]
fn when_nothing_is_missing_nothing_is_asked_for() {
    assert_eq!(at_work().effects(SOAKING), []);
}

#[test]
fn a_gate_that_is_open_is_closed_whatever_has_changed() {
    let mut shop = at_work();
    shop.paused = false;
    let effects = shop.effects(SOAKING);
    assert_eq!(reasons(&effects), ["GateNotClosed"]);
    let expected = json!({"metadata": {"uid": "uid"}, "spec": {"paused": true}});
    assert_eq!(patch(&effects[0]), &expected);
    assert_eq!(effects[0].done.as_ref().unwrap().reason, "GateBypassed");
}

#[test]
fn the_gate_opens_only_for_what_was_looked_at() {
    let effects = at_work().effects(Phase::Promoting { since: Time(0) });
    assert_eq!(reasons(&effects), ["GateNotOpened"]);
    let expected =
        json!({"metadata": {"uid": "uid", "resourceVersion": "7"}, "spec": {"paused": null}});
    assert_eq!(patch(&effects[0]), &expected);
}

#[test]
fn the_first_step_makes_the_copy_and_a_later_one_scales_it() {
    let first = Phase::Scaling {
        step: 0,
        since: Time(0),
    };
    let mut shop = Shop::new().set("old", 2, 2, 10).kept("old");
    let effects = shop.effects(first);
    assert_eq!(reasons(&effects), ["CopyNotMade"]);
    let Verb::Create(copy) = &effects[0].write.verb else {
        panic!("{effects:?}")
    };
    assert_eq!(copy["spec"]["replicas"], 1);

    let second = Phase::Scaling {
        step: 1,
        since: Time(0),
    };
    let effects = at_work().effects(second);
    assert_eq!(reasons(&effects), ["CopyNotScaled"]);
    let expected =
        json!({"metadata": {"uid": "copy", "resourceVersion": "9"}, "spec": {"replicas": 2}});
    assert_eq!(patch(&effects[0]), &expected);
}

#[test]
fn no_copy_is_made_of_a_template_that_is_not_the_canarys_any_more() {
    let mut state = in_phase(Phase::Scaling {
        step: 0,
        since: Time(0),
    });
    state.run.as_mut().unwrap().canary.revision = revision("another");
    let mut shop = Shop::new().set("old", 2, 2, 10).kept("old");
    assert_eq!(shop.effects_of(&state, &[]), []);
}

#[test]
fn a_copy_goes_only_when_no_proxy_knows_it() {
    let state = in_phase(Phase::Failed);
    assert_eq!(at_work().effects_of(&state, &[]), []);
    let name = format!("payment-canary-{}", revision("new"));
    let effects = at_work().effects_of(&state, &[&name]);
    assert_eq!(reasons(&effects), ["CopyNotDeleted"]);
    let expected = Verb::Delete {
        uid: "copy".to_owned(),
        resource_version: None,
    };
    assert_eq!(effects[0].write.verb, expected);
}

#[test]
fn another_active_replica_set_goes_to_0_once_the_stable_one_is_ready() {
    let with = |ready| {
        let shop = Shop::new().set("old", 2, ready, 10).set("new", 1, 1, 20);
        shop.copy("new", 1).kept("old").effects(SOAKING)
    };
    assert_eq!(with(1), []);
    let effects = with(2);
    assert_eq!(reasons(&effects), ["ReplicaSetNotScaled"]);
    let scaling = json!({"deployment.kubernetes.io/desired-replicas": "2", "deployment.kubernetes.io/max-replicas": "3"});
    let expected = json!({
        "metadata": {"uid": "set-new", "resourceVersion": "5", "annotations": scaling},
        "spec": {"replicas": 0},
    });
    assert_eq!(patch(&effects[0]), &expected);
}

#[test]
fn a_stable_replica_set_without_pods_comes_up_first() {
    let mut shop = Shop::new().set("old", 0, 0, 10).set("other", 2, 2, 20);
    shop = shop.copy("new", 1).kept("old");
    let effects = shop.effects(SOAKING);
    assert_eq!(reasons(&effects), ["ReplicaSetNotScaled"]);
    assert_eq!(effects[0].write.key.name, "payment-old");
    // Without that annotation the Deployment would never roll again.
    let annotations = &patch(&effects[0])["metadata"]["annotations"];
    assert_eq!(
        annotations["deployment.kubernetes.io/desired-replicas"],
        "2"
    );
}

/// With more, Kubernetes would take them away again at once, and the other one would serve for ever.
#[test]
fn a_stable_replica_set_without_pods_asks_for_as_many_as_kubernetes_leaves_it() {
    for (replicas, surge, created, other, expected) in [
        (4, 4, 10, 4, 4),
        (4, 1, 10, 4, 3),
        (4, 0, 10, 4, 3),
        (4, 0, 30, 4, 4),
        (4, 0, 10, 1, 3),
        (1, 1, 10, 1, 1),
        (1, 0, 30, 1, 1),
    ] {
        let mut shop = Shop::new()
            .set("old", 0, 0, created)
            .set("other", other, other, 20)
            .copy("new", 1)
            .kept("old");
        (shop.replicas, shop.surge) = (replicas, surge);
        let effects = shop.effects(SOAKING);
        let patch = patch(&effects[0]);
        assert_eq!(
            patch["spec"]["replicas"], expected,
            "{replicas}, {surge}, {created}, {other}"
        );
        assert_eq!(effects.len(), 1);
    }
}

/// Of two that are equally big, Kubernetes takes from the older one.
#[test]
fn a_stable_replica_set_without_pods_and_without_room_is_made_again_as_the_newest() {
    let one = || {
        let mut shop = Shop::new().set("other", 1, 1, 20).copy("new", 1);
        (shop.replicas, shop.surge) = (1, 0);
        shop
    };
    let old = || one().set("old", 0, 0, 10);
    assert_eq!(old().effects(SOAKING)[0].reason, "TemplateNotKept");
    let effects = old().kept("old").effects(SOAKING);
    assert_eq!(reasons(&effects), ["ReplicaSetNotDeleted"]);
    assert_eq!(effects[0].write.key.name, "payment-old");
    let effects = one().kept("old").effects(SOAKING);
    assert_eq!(reasons(&effects), ["StableNotRestored"]);
}

#[test]
fn with_none_active_kubernetes_scales_the_stable_one_itself() {
    let mut shop = Shop::new().set("old", 0, 0, 10).copy("new", 1).kept("old");
    assert_eq!(shop.effects(SOAKING), []);
}

/// With none active, Kubernetes takes that of the template, else the newest.
#[test]
fn an_empty_replica_set_that_would_be_revived_is_kept_and_then_deleted() {
    let newer = || {
        Shop::new()
            .set("old", 2, 2, 10)
            .set("other", 0, 0, 20)
            .copy("new", 1)
            .kept("old")
    };
    assert_eq!(reasons(&newer().effects(SOAKING)), ["TemplateNotKept"]);
    let effects = newer().kept("other").effects(SOAKING);
    assert_eq!(reasons(&effects), ["ReplicaSetNotDeleted"]);
    let expected = Verb::Delete {
        uid: "set-other".to_owned(),
        resource_version: Some("5".to_owned()),
    };
    assert_eq!(effects[0].write.verb, expected);

    let older = Shop::new()
        .set("old", 2, 2, 10)
        .set("other", 0, 0, 5)
        .copy("new", 1)
        .kept("old");
    assert_eq!(
        { older }.effects(SOAKING),
        [],
        "an older one is never taken"
    );
    let of_template = Shop::new()
        .set("old", 2, 2, 10)
        .set("new", 0, 0, 5)
        .copy("new", 1);
    let effects = of_template.kept("old").kept("new").effects(SOAKING);
    assert_eq!(reasons(&effects), ["ReplicaSetNotDeleted"]);
}

#[test]
fn a_stable_replica_set_that_is_gone_is_made_again_from_what_was_kept() {
    let effects = Shop::new().copy("new", 1).kept("old").effects(SOAKING);
    assert_eq!(reasons(&effects), ["StableNotRestored"]);
    let Verb::Create(set) = &effects[0].write.verb else {
        panic!("{effects:?}")
    };
    assert_eq!(set["metadata"]["name"], "payment-old");
    assert_eq!(set["spec"]["replicas"], 2);
    assert_eq!(set["spec"]["template"], image("old"));
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], "uid");
    assert_eq!(effects[0].done.as_ref().unwrap().reason, "StableRestored");
}

#[test]
fn the_stable_template_is_read_and_then_kept() {
    let mut shop = Shop::new().set("old", 2, 2, 10).copy("new", 1);
    let effects = shop.effects(SOAKING);
    assert_eq!(reasons(&effects), ["TemplateNotKept"]);
    assert_eq!(effects[0].write.verb, Verb::Get);
    let fetched = (
        "payment-old".to_owned(),
        json!({"metadata": {"labels": {"app": "payment"}}, "spec": {"template": image("old")}}),
    );
    let look = shop.look();
    let persisted = testing::persisted(&in_phase(SOAKING));
    let effects = super::effects(&persisted, &look, &BTreeSet::new(), Some(&fetched));
    let Verb::Create(kept) = &effects[0].write.verb else {
        panic!("{effects:?}")
    };
    assert_eq!(kept["data"]["spec"]["template"], image("old"));
    assert_eq!(kept["metadata"]["labels"][ROLLOUT_LABEL], "payment");
}

/// A promotion that a third template interrupted is finished in the ReplicaSets.
#[test]
fn a_promotion_is_finished_by_scaling_the_others_to_0() {
    let mut state = in_phase(Phase::Promoting { since: Time(0) });
    state.target.revision = revision("third");
    let mut shop = Shop::new()
        .set("old", 1, 1, 10)
        .set("new", 2, 2, 20)
        .copy("new", 2)
        .kept("old");
    let effects = shop.effects_of(&state, &[]);
    assert_eq!(reasons(&effects), ["ReplicaSetNotScaled"]);
    assert_eq!(effects[0].write.key.name, "payment-old");
}

#[test]
fn with_break_glass_nothing_of_the_persons_is_touched() {
    let mut shop = Shop::new()
        .set("old", 0, 0, 10)
        .set("new", 2, 2, 20)
        .copy("new", 1);
    shop.paused = false;
    shop.annotations = json!({"aviary.dev/break-glass": "me"});
    for phase in [SOAKING, Phase::Promoting { since: Time(0) }, Phase::Failed] {
        assert_eq!(shop.effects(phase), [], "{phase:?}");
    }
}

#[test]
fn while_it_is_not_clear_what_serves_nothing_is_asked_for() {
    for why in Unsettled::ALL {
        let phase = Phase::Unsettled {
            why,
            since: Time(0),
        };
        let effects = Shop::new().set("old", 1, 1, 10).effects(phase);
        // What was released and is to be promoted rolls by itself: the gate opens, and nothing else is done.
        let expected: &[&str] = match why {
            Unsettled::LetGo => &["GateNotOpened"],
            Unsettled::Rolling
            | Unsettled::HalfRolled
            | Unsettled::NothingServes
            | Unsettled::BreakGlass
            | Unsettled::Clearing
            | Unsettled::Leaving => &[],
        };
        assert_eq!(reasons(&effects), expected, "{why:?}");
    }
}

#[test]
fn a_state_of_another_deployment_asks_for_nothing() {
    let mut state = in_phase(SOAKING);
    state.deployment = "another".to_owned();
    assert_eq!(Shop::new().effects_of(&state, &[]), []);
}

#[test]
fn the_finalizer_list_is_replaced_only_as_it_was_read() {
    let rollout = json!({"metadata": {"finalizers": ["others.example/x"]}});
    let look = testing::look(testing::rollout(rollout), Time(0));
    assert_eq!(finalizer(&look, false), None);
    let effect = finalizer(&look, true).unwrap();
    let expected = json!({"metadata": {
        "finalizers": ["others.example/x", FINALIZER], "uid": "rollout-uid", "resourceVersion": "1",
    }});
    assert_eq!(patch(&effect), &expected);
}
