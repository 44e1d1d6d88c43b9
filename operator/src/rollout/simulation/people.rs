//! People and their tools: templates, scales, deletions, edits, broken glass. Their changes go through the real gate.

use std::sync::Arc;

use aviary_crds::{BREAK_GLASS_ANNOTATION, ROLLOUT_LABEL};
use serde_json::{Value, json};

use super::Simulation;
use super::api::{Half, Type};
use super::mishaps::Gate;
use crate::admission::gate::{Change, Decision, Edit, Rollouts, decide};
use crate::key::Key;
use crate::revision;

/// What a version is really like.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) revision: String,
    /// Milliseconds until its pods are Ready; `None`: they never are.
    pub(super) starts: Option<i64>,
    /// Half of its requests fail from then on.
    pub(super) bad_from: Option<i64>,
}

pub(super) fn template(number: u32, note: u32) -> Value {
    let mut template = json!({
        "metadata": {"labels": {"app": "payment"}},
        "spec": {"containers": [{"name": "app", "image": format!("shop/payment:{number}")}]},
    });
    if note > 0 {
        template["metadata"]["annotations"] = json!({"restartedAt": note.to_string()});
    }
    template
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    NewVersion,
    OldVersion,
    Revert,
    Restart,
    Scale,
    Undo,
    Resume,
    BreakGlass,
    MendGlass,
    Recreate,
    DeleteRollout,
    MakeRollout,
    EditSteps,
    Suspend,
    Freeze,
    DropLabel,
    DeleteCopy,
    DeleteStableSet,
    SpoilStatus,
    Retarget,
    Illegible,
    SpoilSpec,
}

impl Simulation {
    pub(super) fn deployment_key(&self) -> Key {
        Key::new("shop", "payment")
    }

    pub(super) fn rollout_key(&self) -> Key {
        Key::new("shop", "payment")
    }

    /// Somebody does something.
    pub(super) fn person(&mut self) {
        let deed = match self.chance.u8(..100) {
            0..30 => Deed::NewVersion,
            30..36 => Deed::OldVersion,
            36..44 => Deed::Revert,
            44..48 => Deed::Restart,
            48..56 => Deed::Scale,
            56..59 => Deed::Resume,
            59..62 => Deed::BreakGlass,
            62..68 => Deed::MendGlass,
            68..70 => Deed::Recreate,
            70..72 => Deed::DeleteRollout,
            72..76 => Deed::MakeRollout,
            76..81 => Deed::EditSteps,
            81..85 => Deed::Suspend,
            85..88 => Deed::Freeze,
            88..90 => Deed::DropLabel,
            90..92 => Deed::DeleteCopy,
            92..94 => Deed::DeleteStableSet,
            94..95 => Deed::SpoilStatus,
            95..96 => Deed::Retarget,
            96..97 => Deed::SpoilSpec,
            97..98 => Deed::Illegible,
            98.. => Deed::Undo,
        };
        self.history
            .say(self.agenda.now, format!("person: {deed:?}"));
        self.do_deed(deed);
    }

    fn do_deed(&mut self, deed: Deed) {
        let target = self.deployment_key();
        match deed {
            Deed::NewVersion => {
                let number = self.new_version();
                self.apply_template(template(number, 0));
            }
            Deed::OldVersion | Deed::Undo => {
                let number = self
                    .chance
                    .u32(1..=u32::try_from(self.versions.len()).unwrap_or(1));
                self.apply_template(template(number, 0));
            }
            Deed::Revert => {
                let stable = self.stable_version().unwrap_or(1);
                self.apply_template(template(stable, 0));
            }
            Deed::Restart => self.restart(),
            Deed::Scale => {
                let replicas = [0, 1, 2, 3, 4, 6][self.chance.usize(..6)];
                self.update_deployment("kubectl", |object| {
                    object["spec"]["replicas"] = json!(replicas)
                });
            }
            Deed::Resume => {
                self.update_deployment("kubectl-rollout", |object| {
                    object["spec"]["paused"] = Value::Null
                });
            }
            Deed::BreakGlass => {
                let resumes = self.chance.bool();
                let body = json!({"metadata": {"annotations": {BREAK_GLASS_ANNOTATION: "me"}}});
                let _ = self.api.patch(Type::Deployment, &target, &body, Half::Main);
                if resumes {
                    let body = json!({"spec": {"paused": null}});
                    let _ = self.api.patch(Type::Deployment, &target, &body, Half::Main);
                }
            }
            Deed::MendGlass => {
                let body = json!({"metadata": {"annotations": {BREAK_GLASS_ANNOTATION: null}}});
                let _ = self.api.patch(Type::Deployment, &target, &body, Half::Main);
            }
            Deed::Recreate => self.recreate(),
            Deed::DeleteRollout => {
                let _ = self
                    .api
                    .delete(Type::CanaryRollout, &self.rollout_key(), None, None);
            }
            Deed::MakeRollout => self.make_rollout(),
            Deed::EditSteps => {
                let steps = self.any_steps();
                self.edit_rollout(json!({"spec": {"steps": steps}}));
            }
            Deed::Suspend => {
                let suspended = self.rollout_spec()["suspend"] == true;
                self.edit_rollout(json!({"spec": {"suspend": !suspended}}));
            }
            Deed::Freeze => {
                let freeze = Key::new("aviary-system", crate::rollout::watch::FREEZE);
                if self
                    .api
                    .delete(Type::ConfigMap, &freeze, None, None)
                    .is_err()
                {
                    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": freeze.name, "namespace": freeze.namespace}});
                    let _ = self.api.create(Type::ConfigMap, object);
                }
            }
            Deed::DropLabel => {
                self.update_deployment("kubectl", |object| {
                    object["metadata"]["labels"][ROLLOUT_LABEL] = Value::Null;
                });
            }
            Deed::DeleteCopy => {
                let copies: Vec<Arc<Value>> = self
                    .api
                    .list(Type::Deployment)
                    .filter(|each| super::controllers::is_copy(each))
                    .cloned()
                    .collect();
                for copy in copies {
                    let _ = self
                        .api
                        .delete(Type::Deployment, &super::api::key(&copy), None, None);
                }
            }
            Deed::DeleteStableSet => self.delete_a_set(),
            Deed::SpoilStatus => {
                let body = json!({"status": {"machine": {"version": 99}}});
                let _ = self.api.patch(
                    Type::CanaryRollout,
                    &self.rollout_key(),
                    &body,
                    Half::Status,
                );
            }
            Deed::Retarget => {
                self.edit_rollout(json!({"spec": {"targetRef": {"name": "payment"}}}))
            }
            Deed::SpoilSpec => {
                let invalid = self.rollout_spec()["analysis"]["interval"] == "soon";
                self.edit_rollout(json!({"spec": {"analysis": {"interval": if invalid { "10s" } else { "soon" }}}}));
            }
            Deed::Illegible => {
                let illegible = self.rollout_spec()["capacity"] == "Elastic";
                self.edit_rollout(
                    json!({"spec": {"capacity": if illegible { "Full" } else { "Elastic" }}}),
                );
            }
        }
    }

    /// What holds a release for good is undone, so that the history can come to rest.
    pub(super) fn people_tidy_up(&mut self) {
        if self.rollout_spec().is_null() {
            self.make_rollout();
        }
        let body = json!({"metadata": {"annotations": {BREAK_GLASS_ANNOTATION: null}}});
        let _ = self
            .api
            .patch(Type::Deployment, &self.deployment_key(), &body, Half::Main);
        self.edit_rollout(json!({"spec": {"suspend": false, "capacity": "Full", "analysis": {"interval": "10s"}}}));
        let freeze = Key::new("aviary-system", crate::rollout::watch::FREEZE);
        let _ = self.api.delete(Type::ConfigMap, &freeze, None, None);
        let machine = self.rollout_status()["machine"]["version"] == 99;
        if machine {
            let body = json!({"status": {"machine": null}});
            let _ = self.api.patch(
                Type::CanaryRollout,
                &self.rollout_key(),
                &body,
                Half::Status,
            );
        }
    }

    pub(super) fn rollout_spec(&self) -> Value {
        self.api
            .get(Type::CanaryRollout, &self.rollout_key())
            .map_or(Value::Null, |rollout| rollout["spec"].clone())
    }

    pub(super) fn rollout_status(&self) -> Value {
        self.api
            .get(Type::CanaryRollout, &self.rollout_key())
            .map_or(Value::Null, |rollout| rollout["status"].clone())
    }

    pub(super) fn stable_version(&self) -> Option<u32> {
        let stable = self.rollout_status()["stable"]["revision"]
            .as_str()?
            .to_owned();
        self.versions
            .iter()
            .find(|version| version.revision == stable)
            .map(|version| version.number)
    }

    pub(super) fn new_version(&mut self) -> u32 {
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
        let revision = revision::revision(&template(number, 0));
        self.history.say(
            now,
            format!("version {number} is {revision}, starts {starts:?}, bad from {bad_from:?}"),
        );
        self.versions.push(Version {
            number,
            revision,
            starts,
            bad_from,
        });
        number
    }

    pub(super) fn version_of(&self, image: &str) -> Option<&Version> {
        let number: usize = image.rsplit(':').next()?.parse().ok()?;
        self.versions.get(number.checked_sub(1)?)
    }

    fn apply_template(&mut self, template: Value) {
        self.update_deployment("kubectl", |object| object["spec"]["template"] = template);
    }

    fn restart(&mut self) {
        let note = self.chance.u32(1..1000);
        self.update_deployment("reloader", |object| {
            object["spec"]["template"]["metadata"]["annotations"] =
                json!({"restartedAt": note.to_string()});
        });
    }

    fn recreate(&mut self) {
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

    fn delete_a_set(&mut self) {
        let Some(deployment) = self.api.get(Type::Deployment, &self.deployment_key()) else {
            return;
        };
        let own: Vec<Key> = self
            .api
            .list(Type::ReplicaSet)
            .filter(|set| {
                super::controllers::controls(&deployment, set) && set["spec"]["replicas"] != 0
            })
            .map(|set| super::api::key(set))
            .collect();
        if let Some(set) = own.first() {
            let _ = self.api.delete(Type::ReplicaSet, set, None, None);
        }
    }

    pub(super) fn any_steps(&mut self) -> Value {
        let mut weights: Vec<i64> = (0..self.chance.usize(..3))
            .map(|_| self.chance.i64(5..95))
            .collect();
        weights.push(100);
        weights.sort_unstable();
        weights.dedup();
        let soak = ["0s", "15s", "25s"][self.chance.usize(..3)];
        weights
            .into_iter()
            .map(|weight| json!({"weight": weight, "soak": soak}))
            .collect()
    }

    pub(super) fn make_rollout(&mut self) {
        let key = self.rollout_key();
        let steps = self.any_steps();
        let then = if self.chance.u8(..4) == 0 {
            "Advance"
        } else {
            "Pause"
        };
        let capacity = if self.chance.bool() {
            "Full"
        } else {
            "Proportional"
        };
        let object = json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "payment"}, "service": {"name": "payment"},
                "steps": steps, "capacity": capacity, "progressDeadline": "90s",
                "analysis": {
                    "interval": "10s", "failureLimit": self.failure_limit,
                    "checks": [{"name": "success-rate", "successRate": {"atLeast": "99%"}}],
                    "noEvidence": {"hold": "60s", "then": then},
                },
            },
        });
        let _ = self.api.create(Type::CanaryRollout, object);
    }

    fn edit_rollout(&mut self, body: Value) {
        let _ = self
            .api
            .patch(Type::CanaryRollout, &self.rollout_key(), &body, Half::Main);
    }

    /// A person's or a tool's update of the Deployment, through the gate.
    fn update_deployment(&mut self, manager: &str, edit: impl FnOnce(&mut Value)) {
        let target = self.deployment_key();
        let Some(before) = self.api.get(Type::Deployment, &target) else {
            return;
        };
        let mut asked = (*before).clone();
        edit(&mut asked);
        let label = |object: &Value| {
            object["metadata"]["labels"][ROLLOUT_LABEL]
                .as_str()
                .map(str::to_owned)
        };
        let paused = |object: &Value| object["spec"]["paused"] == true;
        let glass = |object: &Value| {
            object["metadata"]["annotations"]
                .get(BREAK_GLASS_ANNOTATION)
                .is_some()
        };
        let changed = asked["spec"]["template"] != before["spec"]["template"];
        let matters =
            changed || (paused(&before) && !paused(&asked)) || label(&before) != label(&asked);
        let adopted = label(&before).is_some() || label(&asked).is_some();
        if matters && adopted && !glass(&asked) && self.wrong.gate() != Gate::Missing {
            let leader = self.leader.map(|leader| &self.operators[leader]);
            let Some(leader) = leader.filter(|leader| {
                leader.alive
                    && leader.stands_until <= self.agenda.now
                    && self.wrong.gate() == Gate::There
            }) else {
                self.history
                    .say(self.agenda.now, "the gate is away: refused".to_owned());
                return;
            };
            let change = Change {
                namespace: &target.namespace,
                name: &target.name,
                old: &before,
                new: &asked,
                manager: Some(manager),
            };
            let facts = change
                .rollout()
                .and_then(|name| Rollouts::get(&leader.views.rollouts, &target.namespace, name));
            match decide(&change, facts.as_ref()) {
                Decision::Allow { .. } => {}
                Decision::Deny { message } => {
                    self.history
                        .say(self.agenda.now, format!("denied: {message}"));
                    return;
                }
                Decision::Edit { edits, .. } => {
                    for edit in edits {
                        match edit {
                            Edit::Pause => asked["spec"]["paused"] = json!(true),
                            Edit::RestoreLabel(rollout) => {
                                asked["metadata"]["labels"][ROLLOUT_LABEL] = json!(rollout)
                            }
                            Edit::DropLabel => {
                                asked["metadata"]["labels"][ROLLOUT_LABEL] = Value::Null
                            }
                        }
                    }
                }
            }
            if changed && !paused(&asked) && label(&asked).is_some() {
                self.history.say(
                    self.agenda.now,
                    "denied by the policy: a changed template has to be paused".to_owned(),
                );
                return;
            }
        }
        let _ = self.api.store(Type::Deployment, &target, asked);
    }
}
