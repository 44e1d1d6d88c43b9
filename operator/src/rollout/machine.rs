//! The machine's memory in `status.machine`: written and read here, and nowhere else.
//!
//! It is versioned. What this version cannot read is never taken for anything: the rollout is stalled and everything held.

use aviary_crds::status::Machine;
use rollout_core::state::State;
use rollout_core::time::Time;
use serde_json::{Value, json};

use super::exposing::Spending;
use super::guarding::Guarded;
use super::hooks::Ended;
use crate::text::cut;

const VERSION: u64 = 1;

/// What is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub state: State,
    /// When an operator last said that it renews the weights: long after it, proxies have gone back to stable.
    pub served_at: Time,
    /// The guard of the present run.
    pub guarded: Option<Guarded>,
    /// What the present run has spent of its error budget.
    pub spending: Option<Spending>,
    /// How releases ended, as far as hooks have to be told of it.
    pub ended: Vec<Ended>,
}

/// Why a memory cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("status.machine has version {0}, and this operator reads version {VERSION}")]
    Version(String),
    #[error("status.machine makes no sense: {0}")]
    Nonsense(String),
}

pub(super) fn write(memory: &Memory) -> Machine {
    Machine::from(&json!({
        "version": VERSION,
        "servedAt": memory.served_at,
        "state": memory.state,
        "guarded": memory.guarded,
        "spending": memory.spending,
        "ended": memory.ended,
    }))
}

pub(super) fn read(machine: &Machine) -> Result<Memory, Unreadable> {
    let value = Value::from(machine);
    let nonsense = |text: String| Unreadable::Nonsense(cut(text, 200));
    match value.get("version") {
        Some(version) if version.as_u64() == Some(VERSION) => {}
        Some(version) => return Err(Unreadable::Version(cut(version.to_string(), 40))),
        None => return Err(nonsense("it has no version".to_owned())),
    }
    let part = |name: &str| value.get(name).cloned().unwrap_or(Value::Null);
    let state = serde_json::from_value(part("state"))
        .map_err(|error| nonsense(format!("state: {error}")))?;
    let served_at = serde_json::from_value(part("servedAt"))
        .map_err(|error| nonsense(format!("servedAt: {error}")))?;
    // Older versions have none.
    let guarded = serde_json::from_value(part("guarded"))
        .map_err(|error| nonsense(format!("guarded: {error}")))?;
    let spending = serde_json::from_value(part("spending"))
        .map_err(|error| nonsense(format!("spending: {error}")))?;
    let ended: Option<Vec<Ended>> = serde_json::from_value(part("ended"))
        .map_err(|error| nonsense(format!("ended: {error}")))?;
    Ok(Memory {
        state,
        served_at,
        guarded,
        spending,
        ended: ended.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use rollout_core::exposure::Spent;
    use rollout_core::guard::{Arm, Counts, Guard, Limits, Second, Sketch};

    use super::*;
    use crate::rollout::testing;

    fn guarded() -> Guarded {
        let limits = Limits::try_new(10_000, 5_000).unwrap();
        let mut guard = Guard::new(limits);
        for at in 0..200 {
            guard.see(&Second {
                at,
                epoch: 7,
                canary: Arm {
                    counts: Counts::new(10, u64::from(at % 7 == 0)),
                    latency: Sketch::default(),
                },
                stable: Arm {
                    counts: Counts::new(90, 1),
                    latency: Sketch::default(),
                },
            });
        }
        Guarded {
            run: u64::MAX,
            guard,
            canary: Counts::new(2_000, 29),
            stable: Counts::new(18_000, 200),
        }
    }

    #[test]
    fn a_memory_of_before_the_guard_is_read() {
        let memory = Memory {
            state: testing::states().remove(0),
            served_at: Time(0),
            guarded: None,
            spending: None,
            ended: Vec::new(),
        };
        let mut value = Value::from(&write(&memory));
        value.as_object_mut().unwrap().remove("guarded");
        value.as_object_mut().unwrap().remove("spending");
        value.as_object_mut().unwrap().remove("ended");
        assert_eq!(read(&Machine::from(&value)), Ok(memory));
    }

    #[test]
    fn a_restarted_operator_reads_back_exactly_what_was_written() {
        let mut spent = Spent::default();
        for at in 0..200 {
            spent.see(at, Counts::new(7, 3), Counts::new(90, 1));
        }
        for state in testing::states() {
            let memory = Memory {
                state,
                served_at: Time(77),
                guarded: Some(guarded()),
                spending: Some(Spending {
                    run: u64::MAX,
                    spent,
                }),
                ended: Vec::new(),
            };
            assert_eq!(read(&write(&memory)), Ok(memory));
        }
    }

    #[test]
    fn what_this_version_cannot_read_is_refused_and_says_why() {
        let good = write(&Memory {
            state: testing::states().remove(0),
            served_at: Time(0),
            guarded: None,
            spending: None,
            ended: Vec::new(),
        });
        let with = |change: Value| {
            let mut value = Value::from(&good);
            json_patch::merge(&mut value, &change);
            read(&Machine::from(&value)).unwrap_err().to_string()
        };
        assert!(with(json!({"version": 2})).contains("version 2"));
        assert!(with(json!({"version": null})).contains("no version"));
        assert!(with(json!({"state": null})).contains("state"));
        assert!(with(json!({"guarded": {"run": 1}})).contains("guarded"));
        assert!(with(json!({"spending": {"run": 1}})).contains("spending"));
        assert!(with(json!({"state": {"phase": {"name": "Flying"}}})).contains("Flying"));
        let text = with(json!({"version": "x".repeat(100_000)}));
        assert!(
            text.len() < 200,
            "a long text stays outside: {}",
            text.len()
        );
    }
}
