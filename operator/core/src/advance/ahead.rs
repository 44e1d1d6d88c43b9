//! What is earned but for the hooks: what they are asked about.

use super::advance;
use crate::event::Event;
use crate::observation::{Hooks, Observation};
use crate::plan::Plan;
use crate::state::State;

/// What a run does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ahead {
    /// Its weight is raised to that of the step at this index.
    Step(usize),
    Promotion,
}

/// What would be earned now if every hook agreed. So a hook is asked when nothing but its word is missing: the pods are
/// Ready, the last weight is acknowledged, and nobody holds the run.
pub fn ahead(plan: &Plan, state: &State, seen: &Observation) -> Option<Ahead> {
    let agreed = Observation {
        hooks: Hooks::Agree,
        ..seen.clone()
    };
    let earned = advance(plan, state, &agreed).earned;
    earned.iter().find_map(Ahead::of)
}

impl Ahead {
    /// What this event says has happened.
    pub fn of(event: &Event) -> Option<Ahead> {
        if let Event::WeightRaised { step, .. } = event {
            Some(Ahead::Step(*step))
        } else if let Event::PromotionStarted { .. } = event {
            Some(Ahead::Promotion)
        } else {
            None
        }
    }
}
