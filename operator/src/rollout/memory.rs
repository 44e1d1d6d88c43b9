//! What the controller remembers of a rollout between two looks at it.
//!
//! The state here is the truth while this process leads; the status is how a restarted operator finds it again. They differ
//! only while the API server cannot be written: then a weight that went down stays down.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use aviary_crds::CanaryRolloutStatus;
use rollout_core::Event;
use rollout_core::state::State;
use rollout_core::time::Time;

use super::measure::WindowOutcome;
use super::plan::Parsed;

#[derive(Debug)]
pub struct Memory {
    pub uid: Option<String>,
    pub state: State,
    /// The last spec that could be read.
    pub parsed: Option<Parsed>,
    /// What happened and has not been written yet.
    pub untold: Vec<Event>,
    /// What the API server has, as far as we know, with its resourceVersion.
    pub written: Option<Written>,
    /// Since when no proxy uses a copy that is to go.
    pub unused_since: Option<Instant>,
    pub window: WindowInFlight,
    /// The reasons of the newest judgement.
    pub judged: String,
    /// What was seen when the newest run failed.
    pub failure: String,
    /// A problem that was told in an event already.
    pub told: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Written {
    pub state: State,
    pub status: CanaryRolloutStatus,
    pub resource_version: Option<String>,
    pub at: Instant,
}

/// The question to Prometheus runs beside the reconcile, so that nothing waits for it.
#[derive(Debug, Default)]
pub enum WindowInFlight {
    #[default]
    None,
    Asked {
        run: u64,
    },
    Answered {
        run: u64,
        start: Time,
        end: Time,
        outcome: WindowOutcome,
    },
}

#[derive(Default)]
pub struct Memories(Mutex<HashMap<(String, String), Memory>>);

impl Memories {
    /// Runs `with` on the memory of a rollout, if there is one. Never held across an await.
    pub fn with<T>(
        &self,
        namespace: &str,
        name: &str,
        with: impl FnOnce(&mut Memory) -> T,
    ) -> Option<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(&(namespace.to_owned(), name.to_owned()))
            .map(with)
    }

    pub fn insert(&self, namespace: &str, name: &str, memory: Memory) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((namespace.to_owned(), name.to_owned()), memory);
    }

    pub fn forget(&self, namespace: &str, name: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(namespace.to_owned(), name.to_owned()));
    }
}

impl Memory {
    pub fn new(uid: Option<String>, state: State) -> Memory {
        Memory {
            uid,
            state,
            parsed: None,
            untold: Vec::new(),
            written: None,
            unused_since: None,
            window: WindowInFlight::None,
            judged: String::new(),
            failure: String::new(),
            told: None,
        }
    }
}
