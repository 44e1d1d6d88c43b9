//! What stands in the way of a rollout in the state that it is in.

use rollout_core::state::{Phase, State};

use super::deployment;
use super::look::{Look, Target};
use super::problems::Blocking;
use crate::reason::Reason;

/// What stands in the way in this state.
pub(super) fn of(look: &Look, state: Option<&State>) -> Option<Blocking> {
    let name = &look.rollout.spec.target_ref.name;
    match &look.target {
        Target::Taken { by } => {
            return Some(Blocking::new(
                Reason::TargetTaken,
                format!(
                    "Deployment {name} is released by the CanaryRollout {by}: delete one of the two"
                ),
            ));
        }
        // Said when it was tried to adopt it.
        Target::Unknown { .. } => return None,
        Target::Found { .. } => {}
    }
    match state.map(|state| state.phase) {
        None | Some(Phase::Unsettled { .. } | Phase::Stable | Phase::Failed) => {
            look.objects.clone()
        }
        Some(Phase::Promoting { .. } | Phase::Returning { .. }) => {
            let failure = deployment::replica_failure(look.target.deployment()?)?;
            let mut stuck = Blocking::new(
                Reason::ReplicaFailure,
                format!(
                    "the promotion is stuck: {failure}; free what is missing, or put the stable template back"
                ),
            );
            stuck.blocks = false;
            Some(stuck)
        }
        Some(
            Phase::Scaling { .. }
            | Phase::Shifting { .. }
            | Phase::Soaking { .. }
            | Phase::RollingBack { .. },
        ) => {
            let canary = &state?.run.as_ref()?.canary.revision;
            let failure = deployment::replica_failure(look.copy_of(canary)?)?;
            let mut stuck = Blocking::new(
                Reason::ReplicaFailure,
                format!("the canary's pods cannot be made: {failure}"),
            );
            stuck.blocks = false;
            Some(stuck)
        }
    }
}
