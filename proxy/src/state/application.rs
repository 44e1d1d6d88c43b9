//! This pod's application as one of a route's endpoints: where a caller without a sidecar came to, and may have to be sent on from.
//!
//! kube-proxy spreads such callers over the pods, whatever weight a release has. So the called pod picks the revision. Where that is its own, the application gets
//! the request; where it is not, it goes on to a pod that has it, with the mark of a sidecar that has picked, so that nobody picks again.
//!
//! A pod that nobody calls from outside the mesh asks for nothing: a release would have to wait for it at each weight. So the first such request is what asks. It
//! waits for the answer, for a moment and only while there is a control plane; after that the application gets it, as if there were nothing to split.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;
use traffic_core::config::{Cluster, Wanted};
use traffic_core::split::Pick;

use super::destination::LocalRoute;
use super::{App, State};

/// How often it is asked again what nobody has answered.
const AGAIN: Duration = Duration::from_secs(1);
/// Of how many ports, in each worker, it is asked before the application has answered there: who tries all ports must not make all of them known.
const MOST_UNPROVEN: usize = 16;

/// What holds for callers without a sidecar at an address of this pod's own.
#[derive(Debug)]
pub enum Told {
    Split(Rc<Application>),
    /// There is nothing to split, or nobody says.
    Nothing,
    /// It is asked for: this long a request waits for it.
    NotYet(Instant),
}

#[derive(Debug)]
pub struct Application {
    pub route: Rc<LocalRoute>,
    is_stable: bool,
    is_canary: bool,
}

impl Application {
    /// At `address`. `None`: the route has nothing to split.
    pub(super) fn new(
        route: Rc<LocalRoute>,
        address: SocketAddr,
        clusters: &HashMap<String, Arc<Cluster>>,
    ) -> Option<Rc<Application>> {
        let split = &route.ready.split;
        // Also one that is not ready, or about to leave: who comes to it all the same is served.
        let is_in = |cluster: &str| {
            let cluster = clusters.get(cluster);
            cluster.is_some_and(|it| it.endpoints.iter().any(|each| each.address == address))
        };
        let canary = split.canary.as_ref()?;
        Some(Rc::new(Application {
            is_stable: is_in(&split.stable.cluster),
            is_canary: is_in(&canary.arm.cluster),
            route,
        }))
    }

    /// Whether it is of the revision that a pick leads to.
    pub fn is_picked(&self, pick: Pick) -> bool {
        match pick {
            Pick::Stable => self.is_stable,
            Pick::Canary => self.is_canary,
        }
    }
}

/// How far this pod is with asking what to split at one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asking {
    #[default]
    Not,
    /// Since a moment: requests wait for the answer until then.
    Held(Instant),
    /// Nobody waits any more. When it was asked last.
    InVain(Instant),
}

/// What to do about a request while there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    asks: bool,
    waits: Option<Instant>,
}

impl Asking {
    /// With a request that comes `now`, and may wait for `hold`, if there is somebody to wait for.
    fn next(self, now: Instant, hold: Option<Duration>) -> (Asking, Step) {
        let asks = |asking, waits| (asking, Step { asks: true, waits });
        let keeps = |waits| (self, Step { asks: false, waits });
        match (self, hold) {
            (Asking::Not, Some(hold)) => {
                let until = now + hold;
                asks(Asking::Held(until), Some(until))
            }
            (Asking::Held(until), Some(_)) if now < until => keeps(Some(until)),
            (Asking::InVain(asked), _) if now.saturating_duration_since(asked) < AGAIN => {
                keeps(None)
            }
            (Asking::Not | Asking::Held(_) | Asking::InVain(_), _) => {
                asks(Asking::InVain(now), None)
            }
        }
    }
}

/// Ports that were asked for although the application has not answered there.
#[derive(Debug, Default)]
pub(super) struct Unproven(HashSet<SocketAddr>);

impl Unproven {
    /// Whether this one may be asked for.
    fn admits(&mut self, address: SocketAddr) -> bool {
        self.0.contains(&address) || (self.0.len() < MOST_UNPROVEN && self.0.insert(address))
    }
}

impl App {
    /// As the control plane names it.
    pub(super) fn address(&self) -> SocketAddr {
        let address = self.endpoint.address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }
}

impl State {
    /// What holds for a caller without a sidecar, whose request came `now`; asks for it if nobody has.
    pub fn application(&self, app: &App, now: Instant) -> Told {
        let address = app.address();
        match self.applications.borrow().get(&address) {
            Some(Some(known)) => return Told::Split(known.clone()),
            Some(None) => return Told::Nothing,
            None => {}
        }
        let is_proven = app.metrics.borrow().is_some();
        if !is_proven && !self.unproven.borrow_mut().admits(address) {
            return Told::Nothing;
        }
        let hold = self.common.limits.hold;
        let hold = self.common.link.is_connected().then_some(hold);
        let (asking, step) = app.asking.get().next(now, hold);
        app.asking.set(asking);
        let wanted = Wanted::Application(address);
        if step.asks && self.common.demands.try_send(wanted).is_err() {
            // Too many wait.
            app.asking.set(Asking::InVain(now));
            return Told::Nothing;
        }
        step.waits.map_or(Told::Nothing, Told::NotYet)
    }

    /// Waits until it is known what to split at this port, at the longest until then.
    pub async fn told(&self, app: &App, until: Instant) {
        let address = app.address();
        let told = async {
            loop {
                let installed = self.installed.notified();
                if self.applications.borrow().contains_key(&address) {
                    return;
                }
                installed.await;
            }
        };
        // One request that waited in vain is enough.
        if timeout_at(until.into(), told).await.is_err() {
            app.asking.set(Asking::InVain(until));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Option<Duration> = Some(Duration::from_millis(500));

    #[test]
    fn requests_wait_for_one_answer_and_then_no_more() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut asking = Asking::default();
        for (now, hold, asks, waits) in [
            (0, HOLD, true, Some(500)),
            (499, HOLD, false, Some(500)),
            (500, HOLD, true, None),
            (501, HOLD, false, None),
            (1499, HOLD, false, None),
            (1500, HOLD, true, None),
            (9000, HOLD, true, None),
        ] {
            let (next, step) = asking.next(at(now), hold);
            let expected = Step {
                asks,
                waits: waits.map(at),
            };
            assert_eq!(step, expected, "{now}");
            asking = next;
        }
    }

    #[test]
    fn without_a_control_plane_nobody_waits_and_it_is_asked_all_the_same() {
        let now = Instant::now();
        for asking in [Asking::Not, Asking::Held(now + AGAIN)] {
            let (next, step) = asking.next(now, None);
            assert_eq!(next, Asking::InVain(now));
            assert_eq!((step.asks, step.waits), (true, None));
        }
    }

    #[test]
    fn who_tries_all_ports_makes_few_of_them_known() {
        let mut unproven = Unproven::default();
        let mut admitted = |port| unproven.admits(SocketAddr::from(([10, 1, 0, 1], port)));
        let first = (1..=u16::MAX).filter(|port| admitted(*port)).count();
        assert_eq!(first, MOST_UNPROVEN);
        assert!(admitted(1) && !admitted(1000), "these stay known");
    }
}
