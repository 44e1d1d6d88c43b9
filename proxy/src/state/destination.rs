//! A destination that the application calls, as one worker sees it. Connections hold on to it and read its route for each request, so a new
//! weight holds from the next request on, on connections that were open long before.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use traffic_core::split::Pick;

use super::outcomes::{FirstAttempt, SharedLedger};
use crate::clock::WallClock;
use crate::endpoint::Endpoint;
use crate::metrics::ArmMetrics;
use crate::table::ReadyRoute;

#[derive(Debug)]
pub struct Destination {
    pub address: SocketAddr,
    route: RefCell<Option<Rc<LocalRoute>>>,
}

/// A route with this worker's endpoints.
#[derive(Debug)]
pub struct LocalRoute {
    pub ready: Arc<ReadyRoute>,
    pub stable: Arm,
    pub canary: Option<Arm>,
}

/// One revision.
#[derive(Debug)]
pub struct Arm {
    pub metrics: Arc<ArmMetrics>,
    /// The healthy ones.
    pub endpoints: Rc<[Rc<Endpoint>]>,
    /// Where its first attempts are written down, if a rollout is behind the route.
    pub ledger: Option<SharedLedger>,
}

impl Arm {
    /// Begins to write down a first attempt of a request that came in this moment.
    pub fn first_attempt(&self, clock: &WallClock, arrived: Instant) -> Option<FirstAttempt> {
        let ledger = self.ledger.as_ref()?;
        Some(FirstAttempt::start(ledger, clock.second(arrived)))
    }
}

impl Destination {
    pub fn new(address: SocketAddr) -> Destination {
        Destination {
            address,
            route: RefCell::new(None),
        }
    }

    pub fn route(&self) -> Option<Rc<LocalRoute>> {
        self.route.borrow().clone()
    }

    pub fn set(&self, route: Option<Rc<LocalRoute>>) {
        *self.route.borrow_mut() = route;
    }
}

impl LocalRoute {
    /// Picks a revision for a new request or connection: this is what counts towards the weight.
    pub fn pick(&self) -> Pick {
        self.ready.interleaver.pick()
    }

    /// Where a pick leads.
    pub fn arm(&self, pick: Pick) -> &Arm {
        match (pick, &self.canary) {
            (Pick::Canary, Some(canary)) => canary,
            (Pick::Canary | Pick::Stable, _) => &self.stable,
        }
    }

    pub fn revision(&self, pick: Pick) -> &str {
        match (pick, &self.ready.split.canary) {
            (Pick::Canary, Some(canary)) => &canary.arm.revision,
            (Pick::Canary | Pick::Stable, _) => &self.ready.split.stable.revision,
        }
    }
}
