use kube_runtime::watcher::Event;
use rollout_core::plan::Percent;
use rollout_core::{Lease, desired};
use serde_json::json;

use super::*;
use crate::rollout::testing::{self, Writers, state};
use crate::rollout::views::Guarded;

struct Shop {
    views: Views,
    writers: Writers,
}

impl Shop {
    fn new() -> Shop {
        let (views, writers) = testing::views();
        Shop { views, writers }
    }

    fn deployment(&mut self, rollout: &str, uid: &str) {
        let deployment = testing::object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": "shop", "name": "payment", "uid": uid, "generation": 4, "labels": {"aviary.dev/rollout": rollout}},
            "spec": {"replicas": 4, "template": {"metadata": {}}},
        }));
        self.writers.originals.apply(Event::Apply(deployment));
    }

    fn rollout(&mut self, name: &str, created: &str) -> CanaryRollout {
        let rollout =
            testing::rollout(json!({"metadata": {"name": name, "creationTimestamp": created}}));
        let guarded = Guarded(Ok(Arc::new(rollout.clone())));
        self.writers.rollouts.apply(Event::Apply(guarded));
        rollout
    }

    fn copy(&mut self, revision: &str, ready: u32) {
        let copy = testing::object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "namespace": "shop", "name": format!("payment-canary-{revision}"),
                "labels": {"aviary.dev/canary-of": "payment", "aviary.dev/revision": revision},
            },
            "spec": {"replicas": 4}, "status": {"readyReplicas": ready},
        }));
        self.writers.copies.apply(Event::Apply(copy));
    }

    fn look(&self, rollout: CanaryRollout) -> Look {
        testing::look_at(&self.views, rollout, Time(0))
    }
}

fn more() -> More {
    More {
        alarm: false,
        doubt: false,
        exposed: Exposed::default(),
        window: None,
        lapsed: false,
        may_raise: true,
    }
}

const EARLY: &str = "2026-01-01T00:00:00Z";
const LATE: &str = "2026-01-02T00:00:00Z";

#[test]
fn a_deployment_that_is_not_labelled_is_unknown_and_the_older_rollout_may_adopt_it() {
    let mut shop = Shop::new();
    let (older, younger) = (shop.rollout("older", EARLY), shop.rollout("younger", LATE));
    assert!(matches!(shop.look(older).target, Target::Unknown { .. }));
    let Target::Taken { by } = shop.look(younger).target else {
        panic!("the younger one has it")
    };
    assert_eq!(by, "older");
}

#[test]
fn whoever_has_adopted_a_deployment_keeps_it_even_from_an_older_rollout() {
    let mut shop = Shop::new();
    let (older, younger) = (shop.rollout("older", EARLY), shop.rollout("younger", LATE));
    shop.deployment("younger", "uid");
    let Target::Taken { by } = shop.look(older).target else {
        panic!("it was stolen")
    };
    assert_eq!(by, "younger");
    assert!(matches!(shop.look(younger).target, Target::Found { .. }));
}

#[test]
fn a_label_that_names_nobody_holds_nobody_off() {
    let mut shop = Shop::new();
    let rollout = shop.rollout("payment", EARLY);
    shop.deployment("long-gone", "uid");
    assert!(matches!(shop.look(rollout).target, Target::Unknown { .. }));
}

#[test]
fn the_observation_speaks_of_the_deployment_that_is_there() {
    let mut shop = Shop::new();
    let rollout = shop.rollout("payment", EARLY);
    shop.deployment("payment", "another");
    shop.copy("new", 3);
    let mut look = shop.look(rollout);
    look.heard.revoked = vec![
        ("new".to_owned(), 5),
        ("new".to_owned(), 9),
        ("x".to_owned(), 99),
    ];
    let soaking = state(Phase::Soaking {
        step: 0,
        since: Time(0),
    });
    let seen = look.observation(&soaking, more()).unwrap();
    assert_eq!((seen.deployment.as_str(), seen.generation), ("another", 4));
    assert_eq!((seen.copy.exists, seen.copy.ready), (true, 3));
    assert_eq!(seen.revoked, Some(9), "of this revision");
    assert!(
        !seen.traffic.acknowledged,
        "nobody can acknowledge what has no route"
    );
}

#[test]
fn a_rollback_is_over_only_when_no_copy_is_left_an_older_one_included() {
    let mut shop = Shop::new();
    let rollout = shop.rollout("payment", EARLY);
    shop.deployment("payment", "uid");
    shop.copy("older", 1);
    let look = shop.look(rollout);
    let exists = |phase| look.observation(&state(phase), more()).unwrap().copy.exists;
    let cause = rollout_core::Cause::AnalysisFailed;
    assert!(exists(Phase::RollingBack {
        cause,
        since: Time(0)
    }));
    assert!(!exists(Phase::Soaking {
        step: 0,
        since: Time(0)
    }));
}

#[test]
fn a_canary_carries_what_its_ready_pods_can() {
    let mut shop = Shop::new();
    let rollout = shop.rollout("payment", EARLY);
    shop.deployment("payment", "uid");
    let weight = |look: &Look, phase| {
        let state = state(phase);
        let desired = desired(&state);
        look.carried(&state, desired.canary().unwrap()).weight.get()
    };
    let (soaking, promoting) = (
        Phase::Soaking {
            step: 1,
            since: Time(0),
        },
        Phase::Promoting { since: Time(0) },
    );
    for (ready, carried) in [(0, 0), (1, 25), (3, 75), (4, 100), (9, 100)] {
        shop.copy("new", ready);
        let look = shop.look(rollout.clone());
        assert_eq!(weight(&look, soaking), carried);
        assert_eq!(weight(&look, promoting), 100, "stable has no pods");
    }
    // The Deployment's own pods of the promoted revision count with the copy's, and stable gets what it can carry itself.
    shop.copy("new", 1);
    let mut look = shop.look(rollout);
    let set = |revision: &str, ready: u32| ReplicaSet {
        name: format!("payment-{revision}"),
        uid: String::new(),
        resource_version: None,
        template: testing::template(revision),
        created: 0,
        wanted: ready,
        pods: ready,
        ready,
    };
    for (own, stable, carried) in [(2, 0, 100), (2, 4, 75), (2, 1, 75), (0, 1, 75), (0, 3, 25)] {
        look.sets = vec![set("new", own), set("old", stable)];
        assert_eq!(weight(&look, promoting), carried, "{own} beside {stable}");
        assert_eq!(weight(&look, soaking), 25);
    }
}

#[test]
fn what_stable_has_not_taken_back_stays_with_the_canary() {
    let covered = Percent::new(75).unwrap();
    let returning = state(Phase::Returning {
        covered,
        since: Time(0),
    });
    let look = testing::look(testing::rollout(json!({})), Time(0));
    let canary = desired(&returning).canary().cloned().unwrap();
    let carried = look.carried(&returning, &canary);
    assert_eq!((carried.weight.get(), carried.lease), (25, Lease::None));
}
