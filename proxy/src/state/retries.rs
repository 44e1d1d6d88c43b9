//! What one worker sends again on one route, and what it has spent of that.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use traffic_core::retry::budget::Budget;
use traffic_core::retry::policy::Retries;

use crate::table::ReadyRoute;

#[derive(Debug)]
pub struct RouteRetries {
    pub policy: Retries,
    budget: Rc<RefCell<Budget>>,
}

impl RouteRetries {
    /// Those of a route, if its Service has any, with what is spent already under the same terms.
    pub(super) fn of(
        ready: &ReadyRoute,
        before: Option<&RouteRetries>,
        now: Instant,
    ) -> Option<Rc<RouteRetries>> {
        let policy = ready.route.bounds.retries?;
        let spent = before.map(|before| before.budget.clone());
        let spent = spent.filter(|budget| budget.borrow().terms() == policy.budget);
        let made = || Rc::new(RefCell::new(Budget::new(policy.budget, now)));
        let budget = spent.unwrap_or_else(made);
        Some(Rc::new(RouteRetries { policy, budget }))
    }

    pub fn request(&self, now: Instant) {
        self.budget.borrow_mut().request(now);
    }

    pub fn spend(&self, now: Instant) -> bool {
        self.budget.borrow_mut().spend(now)
    }
}
