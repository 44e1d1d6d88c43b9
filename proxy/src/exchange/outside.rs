//! A request that comes in and may come in: the application's, or, of a caller without a sidecar while a release is under way, that of the revision which is
//! picked here. The first one of such a caller waits until it is known whether there is anything to pick.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use traffic_core::peer::Peer;
use traffic_core::split::sticky::Head;

use super::begun::{Arrived, Begun, Came, is_repeatable};
use super::patience::Deadline;
use super::tally::Tally;
use super::{Refusal, Target, peer};
use crate::caller::Caller;
use crate::drain::Stream;
use crate::metrics::{Limit, PortMetrics};
use crate::state::application::{Application, Told};
use crate::state::{App, State};

/// A request that waits until it is known what to split.
#[derive(Debug)]
pub struct Hold {
    app: Rc<App>,
    until: Instant,
    stream: Stream,
}

impl Hold {
    pub(super) fn new(app: Rc<App>, until: Instant, stream: Stream) -> Hold {
        Hold { app, until, stream }
    }

    /// Waits. The request counts as having come after that: no revision has made it wait.
    pub async fn over(self, state: &State) -> Arrived {
        state.told(&self.app, self.until).await;
        Arrived {
            at: Instant::now(),
            stream: self.stream,
        }
    }
}

/// Where it goes, if it may come in. An error: nobody knows yet, and until then it waits; it begins again after that.
pub(super) fn begin(
    state: &State,
    app: &Rc<App>,
    caller: &Caller,
    came: Came<'_, impl Head>,
) -> Result<Begun, Instant> {
    let Came { at, facts, .. } = came;
    let own = app.endpoint.address();
    if let Err(denied) = state.admit(caller, own.port(), Some(facts.request)) {
        let refusal = Refusal::denied(denied.reason);
        return Ok(Begun::refused(refusal, Tally::nobody(at)));
    }
    let peer = peer::of(facts, own, &state.common.probes_elsewhere);
    let told = match peer {
        Peer::Outside => state.application(app, at),
        Peer::Mesh | Peer::Probe => Told::Nothing,
    };
    let port = app.metrics.borrow().clone();
    let port = port.unwrap_or_else(|| state.metrics().port(0));
    match told {
        Told::NotYet(until) => Err(until),
        Told::Split(application) => {
            Ok(split_here(state, (&application, app), (port, caller), came))
        }
        Told::Nothing => Ok(match over_rate(state, app, caller, came) {
            None => Begun::new(Target::App(app.clone()), Tally::inbound(port, peer, at)),
            Some(refusal) => Begun::refused(refusal, Tally::nobody(at)),
        }),
    }
}

/// Picks for a caller without a sidecar.
fn split_here(
    state: &State,
    (application, app): (&Application, &Rc<App>),
    (port, caller): (Arc<PortMetrics>, &Caller),
    came: Came<'_, impl Head>,
) -> Begun {
    let Came { at, facts, head } = came;
    let (route, clock) = (&application.route, &state.common.clock);
    let pick = route
        .pick_of_user(head, clock, at)
        .unwrap_or_else(|| route.pick(clock, at));
    let first = route.first_attempt(pick, clock, at);
    let tally = Tally::outbound(route.arm(pick).metrics.clone(), first, at);
    let (own, tally) = if application.is_picked(pick) {
        if let Some(refusal) = over_rate(state, app, caller, came) {
            return Begun::refused(refusal, tally);
        }
        (Some(app.clone()), tally.held(port))
    } else {
        (None, tally)
    };
    let target = Target::Split {
        is_repeatable: is_repeatable(route, at, facts),
        route: route.clone(),
        pick,
        own,
    };
    let timeout = route.ready.route.bounds.timeout(facts.waits);
    Begun {
        deadline: Deadline::of(timeout, at),
        ..Begun::new(target, tally)
    }
}

/// A request that is for this pod's application, and one too many.
fn over_rate(
    state: &State,
    app: &App,
    caller: &Caller,
    Came { at, facts, .. }: Came<'_, impl Head>,
) -> Option<Refusal> {
    let port = app.endpoint.address().port();
    let too_many = state.within_rate(caller, port, facts.request, at).err()?;
    state.metrics().refused(Limit::Rate);
    Some(Refusal::too_many(too_many))
}
