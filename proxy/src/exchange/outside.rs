//! A request that comes in and may come in: the application's, or, of a caller without a sidecar while a release is under way, that of the revision which is
//! picked here. The first one of such a caller waits until it is known whether there is anything to pick.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use traffic_core::peer::Peer;
use traffic_core::split::sticky::Head;

use super::patience::Deadline;
use super::tally::Tally;
use super::{Facts, Target, peer};
use crate::drain::Stream;
use crate::metrics::PortMetrics;
use crate::state::application::{Application, Told};
use crate::state::{App, State};

/// A request that waits until it is known what to split.
#[derive(Debug)]
pub struct Hold {
    app: Rc<App>,
    until: Instant,
    /// A drain waits for it.
    _stream: Stream,
}

impl Hold {
    /// Waits, and gives the moment from which on the request counts as having come: no revision has made it wait.
    pub async fn over(self, state: &State) -> Instant {
        state.told(&self.app, self.until).await;
        Instant::now()
    }
}

/// Where it goes, and until when it has to be over. An error: nobody knows yet; it begins again after that.
pub(super) fn begin(
    state: &State,
    app: &Rc<App>,
    arrived: Instant,
    facts: Facts<'_>,
    head: &impl Head,
) -> Result<(Target, Tally, Option<Deadline>), Hold> {
    let peer = peer::of(
        facts,
        app.endpoint.address(),
        &state.common.probes_elsewhere,
    );
    let told = match peer {
        Peer::Outside => state.application(app, arrived),
        Peer::Mesh | Peer::Probe => Told::Nothing,
    };
    let port = app.metrics.borrow().clone();
    let port = port.unwrap_or_else(|| state.metrics().port(0));
    match told {
        Told::NotYet(until) => Err(Hold {
            app: app.clone(),
            until,
            _stream: Stream::open(state.metrics()),
        }),
        Told::Split(application) => {
            let bounds = &application.route.ready.route.bounds;
            let deadline = Deadline::of(bounds.timeout(facts.waits), arrived);
            let (target, tally) = split_here(state, (&application, app), port, arrived, head);
            Ok((target, tally, deadline))
        }
        Told::Nothing => {
            let tally = Tally::inbound(port, peer, arrived);
            Ok((Target::App(app.clone()), tally, None))
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
