//! How many requests the application gets a second. Of a pod that says nothing of it nobody is counted; one that does has its workers count together, under a lock that
//! is held for a look at a number or two.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use traffic_core::authorize::{self, Request};
use traffic_core::rate::{Limiter, Rates, TooMany};

use super::State;
use crate::caller::Caller;

/// `None`: there is no limit.
pub(crate) type Shared = Option<Arc<Mutex<Limiter>>>;

pub(crate) fn shared(rates: Rates) -> Shared {
    rates
        .is_some()
        .then(|| Arc::new(Mutex::new(Limiter::new(rates))))
}

impl State {
    /// Whether a request that is for the application's port is not one too many. Declared probes never are: a pod that is busy is not a dead one.
    pub fn within_rate(
        &self,
        caller: &Caller,
        port: u16,
        request: Request<'_>,
        now: Instant,
    ) -> Result<(), TooMany> {
        let Some(limiter) = &self.common.limiter else {
            return Ok(());
        };
        if authorize::is_probe(&self.access.rules(), port, request) {
            return Ok(());
        }
        let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.admit(caller.id(), now)
    }
}
