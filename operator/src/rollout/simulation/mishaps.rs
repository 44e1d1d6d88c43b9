//! What goes wrong around the operator, for a while each.

use fastrand::Rng;

use super::watch::Stream;
use crate::rollout::write::{Kind, Verb, Write};

/// Writes that an API server, or a policy in it, denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Status,
    Deployments,
    ReplicaSets,
    Events,
}

impl Denied {
    pub(super) fn covers(self, write: &Write) -> bool {
        match (self, &write.verb) {
            (Denied::Status, Verb::ReplaceStatus(_) | Verb::PatchStatus(_))
            | (Denied::Events, Verb::Tell { .. }) => true,
            (
                Denied::Deployments,
                Verb::Create(_) | Verb::Patch(_) | Verb::ApplyStatus(_) | Verb::Delete { .. },
            ) => write.kind == Kind::Deployment,
            (Denied::ReplicaSets, Verb::Create(_) | Verb::Patch(_) | Verb::Delete { .. }) => {
                matches!(write.kind, Kind::ReplicaSet | Kind::ControllerRevision)
            }
            (
                Denied::Status | Denied::Deployments | Denied::ReplicaSets | Denied::Events,
                Verb::Get
                | Verb::Create(_)
                | Verb::Patch(_)
                | Verb::ReplaceStatus(_)
                | Verb::PatchStatus(_)
                | Verb::ApplyStatus(_)
                | Verb::Delete { .. }
                | Verb::Tell { .. },
            ) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    There,
    /// `failurePolicy: Fail`: what it would have to answer is refused.
    Away,
    /// Somebody has deleted the webhook and the policy.
    Missing,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The operator's connection to the API server, its watches included.
    ApiAway,
    /// Conflicts, 429, 500, answers that are lost.
    ApiFlaky,
    Denied(Denied),
    Stuck(Stream),
    Relist(Stream),
    Gate(Gate),
    Quota,
    ControllersAway,
    Crash,
    /// The process stands still, and another one takes over.
    Standstill,
    ClockJumps,
    ProxyLags,
    ProxyRefuses,
    ProxyLosesStream,
    ProxyVanishes,
    PrometheusSlow,
    PrometheusIgnorant,
    PrometheusLies,
    PodsUnready,
    HooksRefuse,
    HooksHang,
}

impl Mishap {
    pub(super) fn any(chance: &mut Rng) -> Mishap {
        let stream = Stream::CHANCY[chance.usize(..Stream::CHANCY.len())];
        let denied = [
            Denied::Status,
            Denied::Deployments,
            Denied::ReplicaSets,
            Denied::Events,
        ];
        match chance.u8(..26) {
            0 | 1 => Mishap::ApiAway,
            2 | 3 => Mishap::ApiFlaky,
            4 | 5 => Mishap::Denied(denied[chance.usize(..denied.len())]),
            6 | 7 => Mishap::Stuck(stream),
            8 => Mishap::Relist(stream),
            9 => Mishap::Gate(Gate::Away),
            10 => Mishap::Gate(Gate::Missing),
            11 => Mishap::Quota,
            12 => Mishap::ControllersAway,
            13 | 14 => Mishap::Crash,
            15 => Mishap::Standstill,
            16 => Mishap::ClockJumps,
            17 => Mishap::ProxyLags,
            18 => Mishap::ProxyRefuses,
            19 => Mishap::ProxyLosesStream,
            20 => Mishap::ProxyVanishes,
            21 => Mishap::PrometheusSlow,
            22 => Mishap::PrometheusIgnorant,
            23 => Mishap::PrometheusLies,
            24 | 25.. => Mishap::PodsUnready,
        }
    }
}

/// What is wrong now.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) now: Vec<(u64, Mishap)>,
}

impl Wrong {
    pub(super) fn has(&self, mishap: Mishap) -> bool {
        self.now.iter().any(|(_, each)| *each == mishap)
    }

    pub(super) fn denies(&self, write: &Write) -> bool {
        let denied =
            |mishap: &Mishap| matches!(mishap, Mishap::Denied(denied) if denied.covers(write));
        self.now.iter().any(|(_, each)| denied(each))
    }

    pub(super) fn gate(&self) -> Gate {
        let mut gates = self.now.iter().filter_map(|(_, each)| {
            if let Mishap::Gate(gate) = each {
                Some(*gate)
            } else {
                None
            }
        });
        gates.next_back().unwrap_or(Gate::There)
    }
}
