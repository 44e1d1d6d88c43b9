//! A change of the Deployment goes through the real gate, and past the policy behind it.

use aviary_crds::{BREAK_GLASS_ANNOTATION, CanaryRollout, ROLLOUT_LABEL};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Simulation;
use super::super::api::Type;
use super::super::mishaps::Gate;
use crate::admission::gate::{Change, Decision, Edit, RolloutFacts, decide};
use crate::key::Key;

impl Simulation {
    /// What the API server has, which a cache may not have heard of yet.
    fn look(&self, rollout: &Key) -> Option<RolloutFacts> {
        let stored = self.api.get(Type::CanaryRollout, rollout)?;
        let read = CanaryRollout::deserialize(&*stored).ok()?;
        Some(RolloutFacts::from(&read))
    }

    /// A person's or a tool's update of the Deployment, through the gate.
    pub(super) fn update_deployment(&mut self, manager: &str, edit: impl FnOnce(&mut Value)) {
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
            let facts = change.rollout().and_then(|name| {
                let rollout = Key::new(&target.namespace, name);
                let known = leader.views.rollouts.get(&rollout);
                let known = known.map(|known| RolloutFacts::of(name, &known));
                known
                    .filter(|known| known.releases(&target.name))
                    .or_else(|| self.look(&rollout))
            });
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
