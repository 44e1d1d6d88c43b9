//! The objects that people make, and what they are really like.

use aviary_crds::{REQUEST_ANNOTATION, REQUESTED_BY_ANNOTATION, Verb};
use serde_json::{Value, json};

use super::super::Simulation;
use super::super::api::{self, Half, Type};
use super::super::controllers;
use super::{Version, template};
use crate::key::Key;
use crate::revision;

/// Failed requests of a version that passes its windows ([`super::super::prometheus`]): the error budget is there for it.
const TOO_FEW_FOR_WINDOWS: f64 = 0.15;

impl Simulation {
    pub(in super::super) fn deployment_key(&self) -> Key {
        Key::new("shop", "payment")
    }

    pub(in super::super) fn rollout_key(&self) -> Key {
        Key::new("shop", "payment")
    }

    pub(in super::super) fn rollout_spec(&self) -> Value {
        self.api
            .get(Type::CanaryRollout, &self.rollout_key())
            .map_or(Value::Null, |rollout| rollout["spec"].clone())
    }

    pub(in super::super) fn rollout_status(&self) -> Value {
        self.api
            .get(Type::CanaryRollout, &self.rollout_key())
            .map_or(Value::Null, |rollout| rollout["status"].clone())
    }

    pub(in super::super) fn stable_version(&self) -> Option<u32> {
        let stable = self.rollout_status()["stable"]["revision"]
            .as_str()?
            .to_owned();
        self.versions
            .iter()
            .find(|version| version.revision == stable)
            .map(|version| version.number)
    }

    pub(in super::super) fn new_version(&mut self) -> u32 {
        let number = u32::try_from(self.versions.len()).unwrap_or(0) + 1;
        let now = self.agenda.now;
        let starts = match self.chance.u8(..10) {
            0 => None,
            1 => Some(self.chance.i64(20_000..100_000)),
            2.. => Some(self.chance.i64(500..8_000)),
        };
        let bad_from = match self.chance.u8(..10) {
            0..3 => Some(0),
            3..5 => Some(now + self.chance.i64(20_000..200_000)),
            5.. => None,
        };
        let fails_in_place = self.chance.u8(..8) == 0;
        let fails = if self.thrifty && self.odds.bool() {
            TOO_FEW_FOR_WINDOWS
        } else {
            0.5
        };
        let revision = revision::revision(&template(number, 0));
        self.history.say(
            now,
            format!("version {number} is {revision}, starts {starts:?}, fails in place {fails_in_place}, bad from {bad_from:?}: {fails}"),
        );
        self.versions.push(Version {
            number,
            revision,
            starts,
            fails_in_place,
            bad_from,
            fails,
        });
        number
    }

    pub(in super::super) fn version_of(&self, image: &str) -> Option<&Version> {
        let number: usize = image.rsplit(':').next()?.parse().ok()?;
        self.versions.get(number.checked_sub(1)?)
    }

    pub(in super::super) fn apply_template(&mut self, template: Value) {
        self.update_deployment("kubectl", |object| object["spec"]["template"] = template);
    }

    pub(in super::super) fn restart(&mut self) {
        let note = self.chance.u32(1..1000);
        self.update_deployment("reloader", |object| {
            object["spec"]["template"]["metadata"]["annotations"] =
                json!({"restartedAt": note.to_string()});
        });
    }

    pub(in super::super) fn recreate(&mut self) {
        let target = self.deployment_key();
        let Some(before) = self.api.get(Type::Deployment, &target) else {
            return;
        };
        let number = if self.chance.bool() {
            self.new_version()
        } else {
            1
        };
        let _ = self.api.delete(Type::Deployment, &target, None, None);
        let mut spec = before["spec"].clone();
        spec["template"] = template(number, 0);
        spec["paused"] = Value::Null;
        let labels = if self.chance.bool() {
            before["metadata"]["labels"].clone()
        } else {
            json!({"app": "payment"})
        };
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": target.name, "namespace": target.namespace, "labels": labels}, "spec": spec});
        let _ = self.api.create(Type::Deployment, object);
    }

    pub(in super::super) fn delete_a_set(&mut self) {
        let Some(deployment) = self.api.get(Type::Deployment, &self.deployment_key()) else {
            return;
        };
        let own: Vec<Key> = self
            .api
            .list(Type::ReplicaSet)
            .filter(|set| controllers::controls(&deployment, set) && set["spec"]["replicas"] != 0)
            .map(|set| api::key(set))
            .collect();
        if let Some(set) = own.first() {
            let _ = self.api.delete(Type::ReplicaSet, set, None, None);
        }
    }

    pub(in super::super) fn any_steps(&mut self) -> Value {
        let mut weights: Vec<i64> = (0..self.chance.usize(..3))
            .map(|_| self.chance.i64(5..95))
            .collect();
        weights.push(100);
        weights.sort_unstable();
        weights.dedup();
        let soak = ["0s", "15s", "25s"][self.chance.usize(..3)];
        weights
            .into_iter()
            .map(|weight| {
                let mut step = json!({"weight": weight, "soak": soak});
                match self.chance.u8(..8) {
                    0 => step["pause"] = json!({}),
                    1 => step["pause"] = json!({"for": "40s"}),
                    2.. => {}
                }
                step
            })
            .collect()
    }

    /// What a release does when it fails, is deleted, or cannot be judged.
    pub(in super::super) fn any_policies(&mut self) -> Value {
        let mut any = |some: [&'static str; 4]| some[self.chance.usize(..4)];
        json!({
            "onFailure": any(["Rollback", "Rollback", "Rollback", "Pause"]),
            "deletionPolicy": any(["Leave", "Leave", "Promote", "Promote"]),
            "analysis": {"noEvidence": {"then": any(["Pause", "Pause", "Pause", "Advance"])}},
        })
    }

    /// Hooks, an error budget, and a guard that is on, mostly.
    fn any_surroundings(&mut self) -> Value {
        let mut any = |some: [&'static str; 4]| some[self.odds.usize(..4)];
        let on_failure = any(["Hold", "Hold", "Rollback", "Ignore"]);
        let hook = |name: &str, more: Value| {
            let mut hook = json!({"name": name, "url": format!("http://hooks/{name}"), "retries": 2, "interval": "5s"});
            json_patch::merge(&mut hook, &more);
            hook
        };
        let all = [
            hook(
                "tests",
                json!({"when": "BeforeStep", "onFailure": on_failure}),
            ),
            hook("hours", json!({"when": "Gate"})),
            hook(
                "people",
                json!({"when": "BeforePromotion", "onFailure": on_failure}),
            ),
            hook("chat", json!({"when": "AfterResult"})),
        ];
        let false_alarm = any(["1%", "1%", "1%", "0%"]);
        let (objective, budget) = [("99%", "5%"), ("99.9%", "20%")][self.odds.usize(..2)];
        let exposure = json!({"objective": objective, "window": "1d", "budget": budget});
        let mut spec = json!({"analysis": {"guard": {"falseAlarm": false_alarm}}});
        if self.odds.bool() {
            spec["analysis"]["exposure"] = exposure;
        }
        if self.thrifty {
            // A guard leaves little for a budget to hold.
            let false_alarm = ["1%", "0%"][self.odds.usize(..2)];
            let exposure = json!({"objective": "99.9%", "window": "1d", "budget": "2%"});
            spec["analysis"] = json!({"guard": {"falseAlarm": false_alarm}, "exposure": exposure});
        }
        let some = all.into_iter().filter(|_| self.odds.bool());
        spec["hooks"] = some.collect();
        spec
    }

    /// Somebody asks something of a release, mostly of the one that is there, and mostly what waits to go on.
    pub(in super::super) fn ask(&mut self, verb: Option<Verb>) {
        let any = match self.chance.u8(..12) {
            0..4 => Verb::Promote,
            chance => Verb::ALL[usize::from(chance - 4)],
        };
        let verb = verb.unwrap_or(any);
        let status = self.rollout_status();
        let of = match self.chance.u8(..10) {
            0 => "stable",
            1 => "failure",
            2.. => "canary",
        };
        let revision = status[of]["revision"].as_str().unwrap_or("none").to_owned();
        let weight = match (verb, self.chance.u8(..4)) {
            (Verb::Promote, 0) => format!("@{}", self.chance.i64(0..101)),
            (Verb::Promote, 1..) => {
                format!("@{}", status["weight"]["desired"].as_i64().unwrap_or(0))
            }
            _ => String::new(),
        };
        let asked = json!({REQUEST_ANNOTATION: format!("{verb}:{revision}{weight}"), REQUESTED_BY_ANNOTATION: "alice"});
        self.edit_rollout(json!({"metadata": {"annotations": asked}}));
        self.check.a_person_asks(verb, revision);
    }

    pub(in super::super) fn make_rollout(&mut self) {
        let key = self.rollout_key();
        let steps = self.any_steps();
        let capacity = if self.chance.bool() {
            "Full"
        } else {
            "Proportional"
        };
        let policies = self.any_policies();
        let mut object = json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "payment"}, "service": {"name": "payment"},
                "steps": steps, "capacity": capacity, "progressDeadline": "90s",
                "analysis": {
                    "interval": "10s", "failureLimit": self.failure_limit,
                    "checks": [{"name": "success-rate", "successRate": {"atLeast": "99%"}}],
                    "noEvidence": {"hold": "60s"},
                },
            },
        });
        json_patch::merge(&mut object["spec"], &policies);
        if self.surroundings {
            let surroundings = self.any_surroundings();
            json_patch::merge(&mut object["spec"], &surroundings);
        }
        let _ = self.api.create(Type::CanaryRollout, object);
    }

    pub(in super::super) fn edit_rollout(&mut self, body: Value) {
        let _ = self
            .api
            .patch(Type::CanaryRollout, &self.rollout_key(), &body, Half::Main);
    }
}
