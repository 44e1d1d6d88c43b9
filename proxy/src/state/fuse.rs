//! The fuse of a route in one worker: what [`Fuse`] decides, counted and said.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use traffic_core::config::Weight;
use traffic_core::fuse::{Attempts, Fuse, OPEN, Seen, Verdict};
use traffic_core::split::Pick;

use crate::table::ReadyRoute;

#[derive(Debug)]
pub struct RouteFuse {
    route: String,
    revision: String,
    run: u64,
    fuse: RefCell<Fuse>,
}

impl RouteFuse {
    /// The one that this route has, which is the one before as long as it is about the same run; `None`: it has none.
    pub fn of(
        ready: &ReadyRoute,
        before: Option<&Rc<RouteFuse>>,
        now: Instant,
    ) -> Option<Rc<RouteFuse>> {
        let canary = ready.split.canary.as_ref()?;
        // Nothing is left to compare with, or to go to.
        let tolerance = canary.fuse.filter(|_| canary.weight != Weight::ALL)?;
        let is_same = |of: &&Rc<RouteFuse>| {
            of.run == canary.run
                && of.revision == canary.arm.revision
                && of.fuse.borrow().tolerance() == tolerance
        };
        let made = || {
            Rc::new(RouteFuse {
                route: ready.route.name.clone(),
                revision: canary.arm.revision.clone(),
                run: canary.run,
                fuse: RefCell::new(Fuse::new(tolerance, now)),
            })
        };
        Some(before.filter(is_same).cloned().unwrap_or_else(made))
    }

    /// Whether a request of the canary's share goes there.
    pub fn passes(&self, now: Instant) -> bool {
        match self.fuse.borrow_mut().ask(now) {
            Verdict::Pass => true,
            Verdict::Withhold => false,
            Verdict::Closes => {
                tracing::info!(
                    route = self.route,
                    revision = self.revision,
                    "the canary has its share again"
                );
                true
            }
        }
    }

    pub fn started(&self, of: Pick, arrived: Instant) {
        self.fuse.borrow_mut().started(of, arrived);
    }

    pub fn failed(&self, of: Pick, arrived: Instant) {
        let opened = self.fuse.borrow_mut().failed(of, arrived, Instant::now());
        if let Some(Seen { canary, stable }) = opened {
            let share = |of: Attempts| format!("{} of {}", of.failed, of.started);
            tracing::warn!(
                route = self.route,
                revision = self.revision,
                failed = share(canary),
                failed_of_stable = share(stable),
                tried_again_in = ?OPEN,
                "the canary fails far more than stable does: its requests go to stable, but for a few each second"
            );
        }
    }
}
