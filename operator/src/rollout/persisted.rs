//! What the API server has: made only of an object that it gave us. Raising needs one.

use aviary_crds::CanaryRollout;
use rollout_core::plan::Percent;
use rollout_core::state::State;
use rollout_core::{Split, desired};

use super::machine::{self, Memory, Unreadable};

/// A state that a restarted operator would find.
#[derive(Clone, Debug, PartialEq)]
pub struct Persisted {
    memory: Memory,
}

impl Persisted {
    /// What an object of the API server's holds; `None` for a CanaryRollout that nobody has begun with.
    pub fn of(rollout: &CanaryRollout) -> Result<Option<Persisted>, Unreadable> {
        let Some(status) = &rollout.status else {
            return Ok(None);
        };
        let Some(machine) = &status.machine else {
            return Ok(None);
        };
        Ok(Some(Persisted {
            memory: machine::read(machine)?,
        }))
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub fn state(&self) -> &State {
        &self.memory.state
    }
}

/// What may be sent to the proxies: what is decided, and of a canary never more than what is persisted for its run. So
/// lowering waits for nothing, and raising for a written status.
pub(super) fn permitted(decided: &State, persisted: Option<&Persisted>) -> Split {
    let mut split = desired(decided).split;
    if let Split::Canary(canary) = &mut split {
        let written = persisted
            .and_then(|persisted| desired(persisted.state()).canary().cloned())
            .filter(|written| written.run == canary.run)
            .map_or(Percent::ZERO, |written| written.weight);
        canary.weight = canary.weight.min(written);
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::testing;

    /// Every pair of a decided and a persisted state: nothing is sent that is not in both.
    #[test]
    fn nothing_is_sent_above_what_is_decided_or_above_what_is_persisted() {
        let states = testing::states();
        for decided in &states {
            assert_eq!(weight(&permitted(decided, None)), Percent::ZERO);
            for written in &states {
                let persisted = testing::persisted(written);
                let sent = weight(&permitted(decided, Some(&persisted)));
                assert!(sent <= desired(decided).weight());
                assert!(sent <= desired(written).weight());
            }
            let same = testing::persisted(decided);
            assert_eq!(
                weight(&permitted(decided, Some(&same))),
                desired(decided).weight()
            );
        }
    }

    #[test]
    fn a_weight_that_is_persisted_for_another_run_permits_none() {
        let states = testing::states();
        let soaking = states.iter().find(|s| desired(s).weight() > Percent::ZERO);
        let mut other = soaking.unwrap().clone();
        let persisted = testing::persisted(&other);
        other.run.as_mut().unwrap().number += 1;
        assert_eq!(weight(&permitted(&other, Some(&persisted))), Percent::ZERO);
    }

    fn weight(split: &Split) -> Percent {
        match split {
            Split::Canary(canary) => canary.weight,
            Split::All | Split::Stable => Percent::ZERO,
        }
    }
}
