//! A request that comes in and may come in: the application's, or, of a caller without a sidecar while a release is under way, that of the revision which is
//! picked here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use traffic_core::peer::Peer;
use traffic_core::split::sticky::Head;

use super::patience::Deadline;
use super::tally::Tally;
use super::{Facts, Target, peer};
use crate::metrics::PortMetrics;
use crate::state::application::Application;
use crate::state::{App, State};

/// Where it goes, and until when it has to be over.
pub(super) fn begin(
    state: &State,
    app: &Rc<App>,
    arrived: Instant,
    facts: Facts<'_>,
    head: &impl Head,
) -> (Target, Tally, Option<Deadline>) {
    let peer = peer::of(facts, app.endpoint.address(), &state.common.probes_elsewhere);
    let port = app.metrics.borrow().clone();
    let port = port.unwrap_or_else(|| state.metrics().port(0));
    // Also asked of a probe's: so it is known before the first caller comes.
    let application = match peer {
        Peer::Outside | Peer::Probe => state.application(app, arrived),
        Peer::Mesh => None,
    };
    match application.filter(|_| peer == Peer::Outside) {
        Some(application) => {
            let bounds = &application.route.ready.route.bounds;
            let deadline = Deadline::of(bounds.timeout(facts.waits), arrived);
            let (target, tally) = split_here(state, (&application, app), port, arrived, head);
            (target, tally, deadline)
        }
        None => {
            let tally = Tally::inbound(port, peer, arrived);
            (Target::App(app.clone()), tally, None)
        }
    }
}

/// Picks for a caller without a sidecar.
fn split_here(
    state: &State,
    (application, app): (&Application, &Rc<App>),
    port: Arc<PortMetrics>,
    arrived: Instant,
    head: &impl Head,
) -> (Target, Tally) {
    let (route, clock) = (&application.route, &state.common.clock);
    let pick = route
        .pick_of_user(head, clock, arrived)
        .unwrap_or_else(|| route.pick(clock, arrived));
    let first = route.first_attempt(pick, clock, arrived);
    let tally = Tally::outbound(route.arm(pick).metrics.clone(), first, arrived);
    let (own, tally) = if application.is_picked(pick) {
        (Some(app.clone()), tally.held(port))
    } else {
        (None, tally)
    };
    let route = route.clone();
    (Target::Split { route, pick, own }, tally)
}
