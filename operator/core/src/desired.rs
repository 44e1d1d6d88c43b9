//! What the world should look like in a state: the only place where a weight is computed.

use crate::plan::{Percent, Plan};
use crate::state::{Phase, State};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// `None`: everything goes to stable.
    pub share: Option<Share>,
    pub copy: Copy,
    pub gate: Gate,
}

/// The canary's share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub revision: String,
    pub run: u64,
    pub weight: Percent,
}

/// The canary copy of the Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copy {
    Present {
        revision: String,
        replicas: u32,
    },
    /// To be removed once no proxy sends it anything: the shell waits for the acknowledgement of the weight 0.
    Absent,
}

/// `spec.paused` of the user's Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The new template may not roll.
    Closed,
    /// The Deployment rolls by its own strategy.
    Open,
    /// Not ours to touch.
    Leave,
}

pub fn desired(plan: &Plan, state: &State) -> Desired {
    let nothing = |gate| Desired {
        share: None,
        copy: Copy::Absent,
        gate,
    };
    let canary = |weight: Percent, replicas_for: Percent, gate| match &state.run {
        Some(run) => Desired {
            share: Some(Share {
                revision: run.canary.revision.clone(),
                run: run.number,
                weight,
            }),
            copy: Copy::Present {
                revision: run.canary.revision.clone(),
                replicas: plan.replicas(run.base_replicas, replicas_for),
            },
            gate,
        },
        // No run can have no canary: nothing is the safe answer.
        None => nothing(gate),
    };
    match state.phase {
        Phase::Stable => nothing(if state.gated && state.target == state.stable {
            Gate::Open
        } else {
            Gate::Leave
        }),
        Phase::Scaling { step, .. } => {
            let before = step
                .checked_sub(1)
                .map_or(Percent::ZERO, |before| plan.step(before).weight);
            canary(before, plan.step(step).weight, Gate::Closed)
        }
        Phase::Shifting { step, .. } | Phase::Soaking { step, .. } => {
            let weight = plan.step(step).weight;
            canary(weight, weight, Gate::Closed)
        }
        Phase::Promoting { .. } => canary(Percent::ALL, Percent::ALL, Gate::Open),
        Phase::RollingBack { .. } | Phase::Failed => nothing(Gate::Closed),
    }
}

/// The weight that the Ready pods can carry: `wanted * min(1, ready / needed)`, rounded down, and 0 without any.
pub fn effective(wanted: Percent, ready: u32, needed: u32) -> Percent {
    if ready >= needed && ready > 0 {
        return wanted;
    }
    let scaled = u64::from(wanted.get()) * u64::from(ready) / u64::from(needed.max(1));
    // One pod that is Ready can carry the smallest step, whatever the rounding says.
    let scaled = if ready > 0 && wanted > Percent::ZERO {
        scaled.max(1)
    } else {
        scaled
    };
    Percent::new(i64::try_from(scaled).unwrap_or(0)).unwrap_or(Percent::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_weight_never_exceeds_what_is_wanted_or_what_pods_can_carry() {
        for wanted in 0..=100 {
            let wanted = Percent::new(wanted).unwrap();
            for needed in 1..=10 {
                for ready in 0..=12 {
                    let got = effective(wanted, ready, needed);
                    assert!(got <= wanted);
                    assert_eq!(got == Percent::ZERO, ready == 0 || wanted == Percent::ZERO);
                    if ready >= needed {
                        assert_eq!(got, wanted);
                    } else {
                        let share = u32::from(wanted.get()) * ready / needed;
                        assert!(
                            u32::from(got.get()) <= share.max(1),
                            "{wanted} {ready}/{needed}: {got}"
                        );
                    }
                }
            }
        }
    }
}
