//! Held against the real controllers: the end-to-end tests play the same scripts on a real control plane.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::api::{Api, Half, Type, key};
use super::{DESIRED, Pods, controls, deployments, is_ready, number, others, set_ready};
use crate::key::Key;

const SCRIPTS: &str = include_str!("../deployments.json");
/// Whose pods never get Ready.
const UNREADY: &str = "-unready";
/// More looks than any script needs until nothing changes any more.
const LOOKS: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    name: String,
    replicas: Option<i64>,
    surge: Option<i64>,
    unavailable: Option<i64>,
    history: Option<i64>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    r#do: Deed,
    then: Seen,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deed {
    template: Option<String>,
    paused: Option<bool>,
    replicas: Option<i64>,
    #[serde(default)]
    scale: BTreeMap<String, i64>,
    delete: Option<String>,
    quota: Option<usize>,
}

/// What there is when nothing changes any more.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// By version: what the ReplicaSet is to have, and what the Deployment had asked for when it was scaled last.
    sets: BTreeMap<String, (i64, String)>,
    updated: i64,
    available: i64,
    #[serde(default)]
    failing: bool,
}

struct World {
    api: Api,
    pods: Pods,
    quota: Option<usize>,
}

fn web() -> Key {
    Key::new("shop", "web")
}

fn template(version: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "app", "image": format!("shop.test/app:{version}")}]},
    })
}

fn version(set: &Value) -> String {
    let image = super::image(&set["spec"]["template"]["spec"]);
    image.rsplit(':').next().unwrap_or_default().to_owned()
}

impl World {
    fn new(script: &Script) -> World {
        let mut api = Api::default();
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "replicas": script.replicas.unwrap_or(3), "selector": {"matchLabels": {"app": "web"}}, "template": template("v1"),
                "revisionHistoryLimit": script.history.unwrap_or(10),
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {
                    "maxSurge": script.surge.unwrap_or(1), "maxUnavailable": script.unavailable.unwrap_or(0),
                }},
            },
        });
        api.create(Type::Deployment, deployment)
            .expect("there is none");
        World {
            api,
            pods: Pods::default(),
            quota: None,
        }
    }

    fn set(&self, of: &str) -> Key {
        let mut sets = self.api.list(Type::ReplicaSet);
        let set = sets.find(|set| version(set) == of);
        key(set.unwrap_or_else(|| panic!("there is no ReplicaSet of {of}")))
    }

    fn act(&mut self, deed: &Deed) {
        let template = deed.template.as_deref().map(template);
        let patch = json!({"spec": {"template": template, "paused": deed.paused, "replicas": deed.replicas}});
        let patch = without_nulls(patch);
        self.api
            .patch(Type::Deployment, &web(), &patch, Half::Main)
            .expect("it is there");
        for (version, replicas) in &deed.scale {
            let (set, patch) = (self.set(version), json!({"spec": {"replicas": replicas}}));
            self.api
                .patch(Type::ReplicaSet, &set, &patch, Half::Main)
                .expect("it is there");
        }
        if let Some(version) = &deed.delete {
            let set = self.set(version);
            self.api
                .delete(Type::ReplicaSet, &set, None, None)
                .expect("it is there");
        }
        self.quota = deed.quota.or(self.quota);
    }

    fn settle(&mut self) {
        for _ in 0..LOOKS {
            let changed = deployments(&mut self.api);
            let changed = others(&mut self.api, &mut self.pods, self.quota) || changed;
            if !(self.run_pods() || changed) {
                // Creation times have seconds.
                self.api.now += 2000;
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.seen());
    }

    fn run_pods(&mut self) -> bool {
        let pods: Vec<Value> = self
            .api
            .list(Type::Pod)
            .map(|pod| (**pod).clone())
            .collect();
        let mut changed = false;
        for pod in pods {
            let (of, ends) = (
                key(&pod),
                pod["metadata"].get("deletionTimestamp").is_some(),
            );
            if ends {
                self.api.remove(Type::Pod, &of);
                changed = true;
            } else if !is_ready(&pod) && !super::image(&pod["spec"]).ends_with(UNREADY) {
                set_ready(&mut self.api, &of, true);
                changed = true;
            }
        }
        changed
    }

    fn seen(&self) -> Seen {
        let deployment = self.api.get(Type::Deployment, &web()).unwrap_or_default();
        let sets = self.api.list(Type::ReplicaSet);
        let status = &deployment["status"];
        Seen {
            sets: sets
                .filter(|set| controls(&deployment, set))
                .map(|set| {
                    let desired = set["metadata"]["annotations"][DESIRED].as_str();
                    let replicas = number(&set["spec"]["replicas"]);
                    (
                        version(set),
                        (replicas, desired.unwrap_or_default().to_owned()),
                    )
                })
                .collect(),
            updated: number(&status["updatedReplicas"]),
            available: number(&status["availableReplicas"]),
            failing: status["conditions"][0]["type"] == "ReplicaFailure",
        }
    }
}

fn without_nulls(mut patch: Value) -> Value {
    if let Some(spec) = patch["spec"].as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
    patch
}

#[test]
fn the_simulated_controllers_do_with_deployments_what_the_real_ones_do() {
    let scripts: Vec<Script> = serde_json::from_str(SCRIPTS).expect("the scripts can be read");
    assert!(!scripts.is_empty());
    for script in scripts {
        let mut world = World::new(&script);
        world.settle();
        for step in &script.steps {
            world.act(&step.r#do);
            world.settle();
            assert_eq!(
                world.seen(),
                step.then,
                "{}: after {:?}",
                script.name,
                step.r#do
            );
        }
    }
}
