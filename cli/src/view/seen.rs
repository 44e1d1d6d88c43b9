//! Canary beside stable, by first attempts: since the release began, and since the present weight.

use aviary_crds::status::{CanaryRolloutStatus, GuardStatus};
use serde::Serialize;

/// First attempts in the same seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compared {
    pub canary: Arm,
    pub stable: Arm,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Arm {
    pub requests: i64,
    pub failed: i64,
}

impl Arm {
    fn less(self, other: Arm) -> Option<Arm> {
        let arm = Arm {
            requests: self.requests - other.requests,
            failed: self.failed - other.failed,
        };
        (arm.requests >= 0 && arm.failed >= 0).then_some(arm)
    }
}

/// What the guard has counted.
pub fn since_the_beginning(guard: &GuardStatus) -> Compared {
    Compared {
        canary: Arm {
            requests: guard.requests,
            failed: guard.failed,
        },
        stable: Arm {
            requests: guard.stable_requests,
            failed: guard.stable_failed,
        },
    }
}

/// The guard counts since the beginning of a run, or since a person had it judged anew; what it had seen when the weight was
/// raised is in that decision. `None`: there is no such decision, or nothing was seen since.
pub(super) fn at_this_weight(all: &Compared, status: &CanaryRolloutStatus) -> Option<Compared> {
    let run = status.canary.as_ref()?.run;
    let weight = status.weight.as_ref()?.desired;
    let newest_of = |decision: &str| {
        let mut of = status.decisions.iter().enumerate();
        of.rfind(|(_, it)| it.run == run && it.decision == decision)
    };
    let (at, raised) = newest_of("WeightRaised").filter(|(_, it)| it.weight == weight)?;
    if newest_of("JudgedAnew").is_some_and(|(anew, _)| anew > at) {
        return None;
    }
    let before = raised.guard.as_ref().map(since_the_beginning);
    let none = Compared {
        canary: Arm::default(),
        stable: Arm::default(),
    };
    let before = before.unwrap_or(none);
    let since = Compared {
        canary: all.canary.less(before.canary)?,
        stable: all.stable.less(before.stable)?,
    };
    (since != none && since != *all).then_some(since)
}
