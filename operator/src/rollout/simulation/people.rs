//! People and their tools: templates, scales, deletions, edits, requests, broken glass. Their changes go through the real gate.

mod gate;
mod objects;

use std::sync::Arc;

use aviary_crds::{BREAK_GLASS_ANNOTATION, ROLLOUT_LABEL, Verb};
use serde_json::{Value, json};

use super::Simulation;
use super::api::{Half, Type};
use crate::key::Key;

/// What a version is really like.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) revision: String,
    /// Milliseconds until its pods are Ready; `None`: they never are.
    pub(super) starts: Option<i64>,
    /// Its pods start in a copy only: what they need is taken by the stable ones.
    pub(super) fails_in_place: bool,
    /// It fails from then on.
    pub(super) bad_from: Option<i64>,
    /// This share of its requests does: a half, or less than the windows mind.
    pub(super) fails: f64,
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
    EditPolicies,
    Ask,
    Abort,
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
    /// Somebody does something.
    pub(super) fn person(&mut self) {
        let deed = match self.chance.u8(..100) {
            0..22 => Deed::NewVersion,
            22..30 => Deed::Ask,
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
            76..79 => Deed::EditSteps,
            79..81 => Deed::EditPolicies,
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

    /// Somebody does what meets a release at an awkward moment.
    pub(super) fn timely_person(&mut self) {
        let deeds = [
            Deed::Revert,
            Deed::Revert,
            Deed::NewVersion,
            Deed::NewVersion,
            Deed::Suspend,
            Deed::Ask,
            Deed::Ask,
            Deed::Ask,
            Deed::Abort,
            Deed::EditPolicies,
            Deed::EditSteps,
            Deed::Scale,
            Deed::BreakGlass,
            Deed::DeleteRollout,
            Deed::DeleteStableSet,
            Deed::Recreate,
        ];
        let deed = deeds[self.chance.usize(..deeds.len())];
        self.history
            .say(self.agenda.now, format!("timely person: {deed:?}"));
        self.do_deed(deed);
    }

    /// A promotion that does not get on is left.
    pub(super) fn late_person(&mut self) {
        if self.rollout_status()["phase"] != "Promoting" {
            return;
        }
        let deed = match self.chance.u8(..5) {
            0 => return,
            1 => Deed::DeleteRollout,
            2 => Deed::Abort,
            3.. => Deed::Revert,
        };
        self.history
            .say(self.agenda.now, format!("late person: {deed:?}"));
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
            Deed::EditPolicies => {
                let policies = self.any_policies();
                self.edit_rollout(json!({"spec": policies}));
            }
            Deed::Ask => self.ask(None),
            Deed::Abort => self.ask(Some(Verb::Abort)),
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
}
