//! Where the proxies stand with one rollout: what status says about them, and what a rollout waits for.

use std::sync::Arc;

use rollout_core::time::Time;

use crate::key::Key;

/// How far the proxies are with one rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// Proxies that count: those with an open stream that have, or may still be using, a route of the rollout, and those whose
    /// stream was lost with one, until their weight lease is over or their pod is gone.
    pub proxies: u32,
    /// Of these, connected ones that have installed the current version of every route of the rollout that they use.
    pub acknowledged: u32,
    /// Of these, connected ones that have installed the current clusters and endpoints that those routes name.
    pub endpoints: u32,
    /// The first ten that have not acknowledged, sorted by pod. [`Acks::lagging`] counts all of them.
    pub laggards: Vec<Laggard>,
    /// When the next lost proxy stops counting by itself: look again then, nothing else tells.
    pub next_lapse: Option<Time>,
    /// The newest NACK about what is served now.
    pub rejected: Option<Rejection>,
}

/// A proxy that has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laggard {
    pub pod: Key,
    /// Its stream is lost: at the latest then it has given up the canary's weight and counts no more. `None`: it is connected.
    pub until: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub pod: Key,
    /// What the proxy said, cut to 256 bytes.
    pub text: Arc<str>,
}

impl Acks {
    /// How many have not acknowledged.
    pub fn lagging(&self) -> u32 {
        self.proxies - self.acknowledged
    }
}
