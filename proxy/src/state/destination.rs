//! A destination that the application calls, as one worker sees it. Connections hold on to it and read its route for each request, so a new
//! weight holds from the next request on, on connections that were open long before.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use traffic_core::fault::Faults;
use traffic_core::split::Pick;
use traffic_core::split::sticky::Head;

use super::fuse::RouteFuse;
use super::outcomes::{FirstAttempt, SharedLedger};
use super::retries::RouteRetries;
use super::withdrawal::{LongStream, Streams};
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
    pub fuse: Option<Rc<RouteFuse>>,
    /// `None`: its owner says nothing of requests that fail.
    pub retries: Option<Rc<RouteRetries>>,
}

/// One revision.
#[derive(Debug)]
pub struct Arm {
    pub metrics: Arc<ArmMetrics>,
    /// The healthy ones.
    pub endpoints: Rc<[Rc<Endpoint>]>,
    /// Where its first attempts are written down, if a rollout is behind the route.
    pub ledger: Option<SharedLedger>,
    /// Where its long streams are known, if it is a canary's.
    pub streams: Option<Rc<Streams>>,
}

impl Arm {
    /// What has begun there may be a long stream; `None`: whatever it is, it ends by itself.
    pub fn long_stream(&self) -> Option<LongStream> {
        let streams = self.streams.as_ref()?;
        Some(streams.open(&self.metrics))
    }

    /// A request of its share that came in this moment goes elsewhere.
    fn withhold(&self, clock: &WallClock, now: Instant) {
        self.metrics.withheld.fetch_add(1, Ordering::Relaxed);
        if let Some(ledger) = &self.ledger {
            ledger.borrow_mut().withhold(clock.second(now));
        }
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
    /// Picks a revision for a request or connection that comes in this moment: this is what counts towards the weight, also where the
    /// fuse gives it to stable.
    pub fn pick(&self, clock: &WallClock, now: Instant) -> Pick {
        self.after_fuse(self.ready.interleaver.pick(), clock, now)
    }

    /// The same for a request that says whose it is, if anybody asks: its user's revision.
    pub fn pick_of_user(&self, head: &impl Head, clock: &WallClock, now: Instant) -> Option<Pick> {
        let pick = self.ready.sticky.as_ref()?.pick(head)?;
        Some(self.after_fuse(pick, clock, now))
    }

    fn after_fuse(&self, pick: Pick, clock: &WallClock, now: Instant) -> Pick {
        if pick == Pick::Canary
            && let (Some(fuse), Some(canary)) = (&self.fuse, &self.canary)
            && !self.stable.endpoints.is_empty()
            && !fuse.passes(now)
        {
            canary.withhold(clock, now);
            return Pick::Stable;
        }
        pick
    }

    /// Begins to write down the first attempt of a request that came at `arrived`.
    pub fn first_attempt(
        &self,
        pick: Pick,
        clock: &WallClock,
        arrived: Instant,
    ) -> Option<FirstAttempt> {
        let ledger = self.arm(pick).ledger.as_ref()?;
        let first = FirstAttempt::start(ledger, clock.second(arrived));
        Some(match &self.fuse {
            Some(fuse) => first.counted_by(fuse, pick, arrived),
            None => first,
        })
    }

    /// What is put into its requests on purpose: nothing while there is a canary, since it would be judged by what is no revision's doing.
    pub fn faults(&self) -> Option<&Faults> {
        let faults = self.ready.route.bounds.faults.as_deref();
        faults.filter(|_| self.ready.split.canary.is_none())
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
