//! What the world should look like in a state: the only place where a weight is computed. What pods can carry of it is in
//! [`crate::carried`].

use crate::plan::Percent;
use crate::state::{Cause, Phase, Run, State, Unsettled};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub split: Split,
    pub copy: Copies,
    pub gate: Gate,
    /// The revision whose ReplicaSet is to be the only active one of the paused Deployment. `None`: not ours to say.
    pub serves: Option<String>,
}

/// How the requests are divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// Over all pods of the Deployment: nobody knows which of its revisions serves.
    All,
    /// Everything to stable.
    Stable,
    Canary(CanarySplit),
}

/// The canary's share of the requests, from here to the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanarySplit {
    pub revision: String,
    pub run: u64,
    pub weight: Percent,
    pub lease: Lease,
}

/// Whether proxies that hear nothing go back to stable by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// After the lease they do.
    Held,
    /// Stable is being replaced, so there is nothing to go back to.
    None,
}

/// The canary copies of the Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copies {
    One {
        revision: String,
        replicas: u32,
    },
    /// To be removed once no proxy sends them anything: the shell waits for the acknowledgement of the weight 0.
    None,
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

impl Desired {
    pub fn canary(&self) -> Option<&CanarySplit> {
        match &self.split {
            Split::Canary(canary) => Some(canary),
            Split::All | Split::Stable => None,
        }
    }

    pub fn weight(&self) -> Percent {
        self.canary().map_or(Percent::ZERO, |canary| canary.weight)
    }
}

pub fn desired(state: &State) -> Desired {
    let waits = state.target != state.stable;
    let stable = || Some(state.stable.revision.clone());
    let nothing = |split, gate, serves| Desired {
        split,
        copy: Copies::None,
        gate,
        serves,
    };
    if let Phase::Unsettled {
        why: Unsettled::LetGo,
        ..
    } = state.phase
    {
        return nothing(Split::All, Gate::Open, None);
    }
    // No run can have no canary: nothing is the safe answer.
    let Some(run) = &state.run else {
        return match state.phase {
            Phase::Unsettled { .. } => nothing(Split::All, Gate::Leave, None),
            Phase::Stable if !waits => nothing(Split::Stable, open(state), None),
            Phase::Stable
            | Phase::Scaling { .. }
            | Phase::Shifting { .. }
            | Phase::Soaking { .. }
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::RollingBack { .. }
            | Phase::Failed => nothing(Split::Stable, Gate::Closed, stable()),
        };
    };
    match state.phase {
        // Under broken glass the Deployment is a person's, from the first moment on.
        Phase::Unsettled { .. }
        | Phase::RollingBack {
            cause: Cause::BreakGlass,
            ..
        } => nothing(Split::All, Gate::Leave, None),
        Phase::Stable if !waits => nothing(Split::Stable, open(state), None),
        Phase::Stable | Phase::RollingBack { .. } | Phase::Failed => {
            nothing(Split::Stable, Gate::Closed, stable())
        }
        Phase::Scaling { step, .. } => {
            let weight = run.plan.weight_before(step);
            let replicas = run
                .plan
                .replicas(run.base_replicas, run.plan.step(step).weight);
            share(run, weight, replicas, Gate::Closed, stable())
        }
        Phase::Shifting { step, .. } | Phase::Soaking { step, .. } => {
            let weight = run.plan.step(step).weight;
            let replicas = run.plan.replicas(run.base_replicas, weight);
            share(run, weight, replicas, Gate::Closed, stable())
        }
        Phase::Promoting { .. } => {
            let replicas = run.plan.replicas(run.base_replicas, Percent::ALL);
            let (gate, serves) = if state.target == run.canary {
                (Gate::Open, None)
            } else {
                // A third template waits: this promotion is finished in the ReplicaSets, which a paused Deployment
                // leaves alone.
                (Gate::Closed, Some(run.canary.revision.clone()))
            };
            let mut desired = share(run, Percent::ALL, replicas, gate, serves);
            if let Split::Canary(canary) = &mut desired.split {
                canary.lease = Lease::None;
            }
            desired
        }
        Phase::Returning { covered, .. } => {
            let weight = covered.rest();
            let replicas = run.plan.replicas(run.base_replicas, weight);
            let (gate, serves) = if waits {
                (Gate::Closed, stable())
            } else {
                (Gate::Open, None)
            };
            let mut desired = share(run, weight, replicas, gate, serves);
            if let Split::Canary(canary) = &mut desired.split {
                canary.lease = Lease::None;
            }
            desired
        }
    }
}

fn open(state: &State) -> Gate {
    if state.gated { Gate::Open } else { Gate::Leave }
}

fn share(run: &Run, weight: Percent, replicas: u32, gate: Gate, serves: Option<String>) -> Desired {
    Desired {
        split: Split::Canary(CanarySplit {
            revision: run.canary.revision.clone(),
            run: run.number,
            weight,
            lease: Lease::Held,
        }),
        copy: Copies::One {
            revision: run.canary.revision.clone(),
            replicas,
        },
        gate,
        serves,
    }
}
