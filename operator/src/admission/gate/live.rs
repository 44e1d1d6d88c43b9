//! The gate's look at CanaryRollouts: the cache, and the API server behind it.
//!
//! A cache that is behind says that there is none, and a Deployment whose label names none loses its gate. So that is asked of the API server, which
//! happens seldom: when a label was copied along, or its CanaryRollout went a moment ago.

use std::time::Duration;

use aviary_crds::CanaryRollout;
use futures::future::BoxFuture;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use tokio::sync::Semaphore;

use super::{RolloutFacts, Rollouts};
use crate::key::{Key, is_name};
use crate::rollout::views::{Guarded, Store};

/// The API server waits five seconds for the gate.
const PATIENCE: Duration = Duration::from_secs(3);
/// At once: anybody can ask the gate, and must not make the operator ask the API server without end.
const AT_ONCE: usize = 8;

/// What the API server says.
pub type Look<'a> = BoxFuture<'a, Result<Option<RolloutFacts>, LookError>>;

#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("the operator cannot read CanaryRollouts now")]
    Kubernetes(#[source] kube::Error),
    #[error("the operator was not told in time whether the CanaryRollout exists")]
    Timeout,
}

/// Whatever is watched, and a way to ask when that may not be all.
pub struct Watched {
    store: Store<Guarded>,
    client: Client,
    turns: Semaphore,
}

impl Watched {
    pub fn new(store: Store<Guarded>, client: Client) -> Watched {
        Watched {
            store,
            client,
            turns: Semaphore::new(AT_ONCE),
        }
    }

    async fn ask(&self, namespace: &str, name: &str) -> Result<Option<RolloutFacts>, LookError> {
        if !is_name(namespace) || !is_name(name) {
            return Ok(None);
        }
        let _turn = self.turns.acquire().await;
        let rollouts: Api<DeserializeGuard<CanaryRollout>> =
            Api::namespaced(self.client.clone(), namespace);
        let found = rollouts.get_opt(name).await;
        let found = found.map_err(LookError::Kubernetes)?.map(Guarded::from);
        Ok(found.map(|rollout| RolloutFacts::of(name, &rollout)))
    }
}

impl Rollouts for Watched {
    fn get(&self, namespace: &str, name: &str) -> Option<RolloutFacts> {
        let rollout = self.store.get(&Key::new(namespace, name))?;
        Some(RolloutFacts::of(name, &rollout))
    }

    fn look<'a>(&'a self, namespace: &'a str, name: &'a str) -> Look<'a> {
        Box::pin(async move {
            let asked = tokio::time::timeout(PATIENCE, self.ask(namespace, name));
            asked.await.unwrap_or(Err(LookError::Timeout))
        })
    }

    fn synced(&self) -> bool {
        self.store.is_listed()
    }
}
