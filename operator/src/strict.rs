//! Namespaces that demand mutual TLS (label `aviary.dev/mtls: strict`): where they may have what they ask for, and where it is in force.
//!
//! ```text
//!   label strict ──> waits, and says for what ──nothing in the way, twice──> written down ──> in force
//!   label gone, or permissive ──────────────> accepts plaintext at once ───> written down
//! ```
//!
//! The replica that decides decides this too. What is in force is kept in a ConfigMap of the operator's, which the other replicas follow for the pods that they
//! inject: a new operator must not open what was closed, and has not heard yet of anybody who calls.
//! What sidecars, callers and new pods are told of it is made elsewhere ([`Demanded`] is what they have in common).

mod gate;
mod keep;
mod quiet;
mod task;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

pub use keep::{KeepError, Kept};
pub use quiet::{InvalidQuiet, QUIET, quiet};
pub use task::Keeper;

/// The namespaces in which plaintext is refused. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Demanded(Arc<RwLock<BTreeSet<String>>>);

impl Demanded {
    pub fn is_demanded(&self, namespace: &str) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.contains(namespace)
    }

    /// All of them.
    pub fn all(&self) -> BTreeSet<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// As it was written down.
    pub async fn restore(&self, kept: &Kept) -> Result<(), KeepError> {
        self.set(kept.read().await?);
        Ok(())
    }

    pub(crate) fn set(&self, all: BTreeSet<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}
