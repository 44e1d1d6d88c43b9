//! The beginning of a request: where it goes, what it counts as from then on, and how long it may take.

use traffic_core::fault::Drawn;
use traffic_core::split::sticky::Head;

use super::begun::{Arrived, Begun, Came, is_repeatable};
use super::patience::{Deadline, Timer};
use super::tally::Tally;
use super::{Exchange, Facts, Hold, Owed, Policy, Refusal, Target, outside};
use crate::metrics::Fault;
use crate::state::State;
use crate::state::destination::{Destination, LocalRoute};
use crate::telemetry::Entry;
use crate::telemetry::entry::{Asked, Parties};

impl Policy {
    /// Picks, and begins to count. Of the `head` nothing is read but what a route asks for. An error: the request has to wait first, and to begin again then.
    pub fn begin(
        &self,
        state: &State,
        arrived: Arrived,
        facts: Facts<'_>,
        head: &impl Head,
    ) -> Result<Box<Exchange>, Hold> {
        let Arrived { at, stream } = arrived;
        let came = Came { at, facts, head };
        let Begun {
            target,
            mut tally,
            deadline,
            delay,
        } = match self {
            Policy::Outbound { destination, owed } => outbound(state, destination, owed, came),
            Policy::Inbound { app, caller } => match outside::begin(state, app, caller, came) {
                Ok(begun) => begun,
                Err(until) => return Err(Hold::new(app.clone(), until, stream)),
            },
        };
        // Nobody wants to know more of the pod's probes.
        if let Some(telemetry) = &state.common.telemetry
            && !tally.is_probe()
        {
            let parties = self.parties(&target);
            let asked = Asked {
                method: facts.request.method,
                target: facts.request.path,
                authority: facts.authority,
                protocol: facts.protocol,
            };
            let times = (at, state.common.clock.since_epoch(at));
            let entry = Entry::begin(telemetry, times, asked, head, parties);
            tally.watched(if delay.is_some() {
                entry.delayed()
            } else {
                entry
            });
        }
        Ok(Box::new(Exchange {
            target,
            tally,
            stream,
            arrived: at,
            deadline,
            timer: Timer::default(),
            delay,
        }))
    }

    /// Who is asked by whom.
    fn parties(&self, target: &Target) -> Parties {
        let (caller, caller_id) = match self {
            Policy::Outbound { .. } => (None, None),
            Policy::Inbound { caller, .. } => (Some(caller.address()), caller.id().cloned()),
        };
        let (route, endpoint, own) = match target {
            Target::Split {
                route, pick, own, ..
            } => {
                let revision = route.revision(*pick).into();
                (Some((route.ready.clone(), revision)), None, own.is_some())
            }
            Target::Passing(app) => (None, Some(app.endpoint.address()), false),
            Target::App(app) => (None, Some(app.endpoint.address()), true),
            Target::Refused(_) => (None, Some(self.address()), true),
        };
        let (route, revision) = route.unzip();
        Parties {
            side: self.side(),
            route,
            endpoint,
            revision,
            caller,
            caller_id,
            own,
        }
    }
}

fn outbound(
    state: &State,
    destination: &Destination,
    owed: &Owed,
    came: Came<'_, impl Head>,
) -> Begun {
    let Came { at, facts, head } = came;
    let route = destination
        .route()
        .or_else(|| state.route(destination.address));
    let Some(route) = route else {
        // There was none when the connection came, or it went away under it: on to where it was going.
        let target = Target::Passing(state.app(destination.address));
        return Begun::new(target, Tally::nobody(at));
    };
    let clock = &state.common.clock;
    // What is owed waits for a request that nobody's revision is known for.
    let pick = route
        .pick_of_user(head, clock, at)
        .or_else(|| owed.take(&route))
        .unwrap_or_else(|| route.pick(clock, at));
    let drawn = fault(state, &route, head);
    let timeout = route.ready.route.bounds.timeout(facts.waits);
    let deadline = Deadline::of(timeout, at);
    let tally = match drawn {
        Drawn {
            abort: Some(status),
            delay,
        } => {
            let refused = Begun::refused(Refusal::fault(status), Tally::nobody(at));
            return Begun {
                deadline,
                delay,
                ..refused
            };
        }
        // What becomes of it is evidence for nobody.
        Drawn { delay: Some(_), .. } => Tally::nobody(at),
        Drawn {
            delay: None,
            abort: None,
        } => {
            let first = route.first_attempt(pick, clock, at);
            Tally::outbound(route.arm(pick).metrics.clone(), first, at)
        }
    };
    let target = Target::Split {
        is_repeatable: is_repeatable(&route, at, facts),
        route,
        pick,
        own: None,
    };
    Begun {
        deadline,
        delay: drawn.delay,
        ..Begun::new(target, tally)
    }
}

/// What is put into a request on purpose.
fn fault(state: &State, route: &LocalRoute, head: &impl Head) -> Drawn {
    let Some(faults) = route.faults() else {
        return Drawn::default();
    };
    let drawn = faults.draw(head, state.random());
    if drawn.delay.is_some() {
        state.metrics().put_in(Fault::Delay);
    }
    if drawn.abort.is_some() {
        state.metrics().put_in(Fault::Abort);
    }
    drawn
}
