//! What became of a worker's first attempts, in a [`Ledger`] for each revision that a rollout's route names. Requests write into
//! it, and once a second the control thread takes what is new.
//!
//! A ledger belongs to a cluster's name, not to a table: the attempts of one second add up over as many tables as come in it.
//! It goes when no table and no request holds it any more and all of it is told; or, when nobody asks, after the
//! [`SLOTS`] seconds that it keeps.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use traffic_core::outcome::ledger::{Head, SLOTS};
use traffic_core::outcome::{Class, Ledger, Place, Said, Second, Trace};
use traffic_core::split::Pick;

use super::fuse::RouteFuse;
use crate::control::Outcome;

/// One revision's ledger in one worker.
pub type SharedLedger = Rc<RefCell<Ledger>>;

#[derive(Debug, Default)]
pub struct Outcomes {
    by_cluster: RefCell<HashMap<String, SharedLedger>>,
    /// When it was told last, or forgotten.
    asked: Cell<Second>,
}

impl Outcomes {
    /// The ledger of a cluster.
    pub fn of(&self, cluster: &str) -> SharedLedger {
        let mut all = self.by_cluster.borrow_mut();
        if let Some(known) = all.get(cluster) {
            return known.clone();
        }
        all.entry(cluster.to_owned()).or_default().clone()
    }

    /// What is new of the seconds before `now`.
    pub fn tell(&self, now: Second) -> Vec<Outcome> {
        self.asked.set(now);
        let mut told = Vec::new();
        self.by_cluster.borrow_mut().retain(|cluster, ledger| {
            ledger.borrow_mut().tell(now, |second, counts| {
                told.push(Outcome {
                    cluster: cluster.clone(),
                    second,
                    counts,
                });
            });
            Rc::strong_count(ledger) > 1 || !ledger.borrow().is_idle()
        });
        told
    }

    /// Forgets what nobody has asked for in time. To be called now and then.
    pub fn sweep(&self, now: Second) {
        if now.abs_diff(self.asked.get()) > SLOTS {
            drop(self.tell(now));
        }
    }
}

/// A first attempt on its way.
#[derive(Debug)]
pub struct FirstAttempt {
    ledger: SharedLedger,
    second: Second,
    is_answered: bool,
    /// Where it went, and what was said there.
    endpoint: Option<SocketAddr>,
    said: Said,
    /// By what people find it, once it has failed.
    trace: Option<Trace>,
    /// Who else wants to know of it.
    fuse: Option<(Rc<RouteFuse>, Pick)>,
}

impl FirstAttempt {
    /// It starts in this second.
    pub fn start(ledger: &SharedLedger, second: Second) -> FirstAttempt {
        ledger.borrow_mut().start(second);
        FirstAttempt {
            ledger: ledger.clone(),
            second,
            is_answered: false,
            endpoint: None,
            said: Said::Nothing,
            trace: None,
            fuse: None,
        }
    }

    /// The same, of a request that came at `arrived` and counts for a fuse.
    pub fn counted_by(
        mut self,
        fuse: &Rc<RouteFuse>,
        pick: Pick,
        arrived: Instant,
    ) -> FirstAttempt {
        fuse.started(pick, arrived);
        self.fuse = Some((fuse.clone(), pick));
        self
    }

    /// The head of its answer is here, this long after its request's.
    pub fn answered(&mut self, after: Duration) {
        if !self.is_answered {
            self.is_answered = true;
            self.ledger.borrow_mut().answered(self.second, after);
        }
    }

    /// It goes to this endpoint.
    pub fn goes_to(&mut self, endpoint: SocketAddr) {
        self.endpoint = Some(endpoint);
    }

    /// What the endpoint says of how it went.
    pub fn said(&mut self, said: Said) {
        self.said = said;
    }

    /// It fails, and was this one.
    pub fn traced(&mut self, trace: Option<Trace>) {
        self.trace = trace;
    }

    /// It is over. Its request's head came at `arrived`.
    pub fn ended(self, class: Class, arrived: Instant) {
        let head = match (self.is_answered, class) {
            (true, _) => Head::Seen,
            (false, Class::ClientClosed) => Head::Awaited(arrived.elapsed()),
            (false, Class::Success | Class::Failure | Class::Unsent) => Head::None,
        };
        self.ledger.borrow_mut().ended(self.second, class, head);
        match class {
            Class::Failure | Class::Unsent => self.failed(arrived),
            Class::Success | Class::ClientClosed => {}
        }
    }

    fn failed(self, arrived: Instant) {
        if let Some(endpoint) = self.endpoint {
            let place = Place {
                endpoint,
                said: self.said,
            };
            let mut ledger = self.ledger.borrow_mut();
            ledger.failed_at(self.second, place, self.trace);
        }
        if let Some((fuse, pick)) = self.fuse {
            fuse.failed(pick, arrived);
        }
    }
}

#[cfg(test)]
mod tests {
    use traffic_core::outcome::{Counts, PerClass};

    use super::*;

    fn ledgers(outcomes: &Outcomes) -> usize {
        outcomes.by_cluster.borrow().len()
    }

    fn started(told: &[Outcome]) -> Vec<(&str, Second, u64)> {
        told.iter()
            .map(|each| (each.cluster.as_str(), each.second, each.counts.started))
            .collect()
    }

    #[test]
    fn a_cluster_keeps_its_ledger_while_anybody_holds_it() {
        let outcomes = Outcomes::default();
        let arm = outcomes.of("v1");
        let first = FirstAttempt::start(&arm, 100);
        drop(arm);
        let second = FirstAttempt::start(&outcomes.of("v1"), 100);
        assert_eq!(started(&outcomes.tell(101)), [("v1", 100, 2)]);
        for attempt in [first, second] {
            attempt.ended(Class::Success, Instant::now());
        }
        assert_eq!(ledgers(&outcomes), 1);
        let told = outcomes.tell(102);
        assert_eq!(told[0].counts.ended, PerClass::from([2, 0, 0, 0]));
        assert_eq!(ledgers(&outcomes), 0, "nobody holds it and all is told");
    }

    #[test]
    fn an_answered_attempt_of_a_cluster_that_is_gone_is_told_when_it_ends() {
        let outcomes = Outcomes::default();
        let mut attempt = FirstAttempt::start(&outcomes.of("v1"), 100);
        attempt.answered(Duration::ZERO);
        outcomes.tell(104);
        attempt.ended(Class::Failure, Instant::now());
        let told = outcomes.tell(105);
        assert_eq!(told[0].counts.late, PerClass::from([0, 1, 0, 0]));
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let outcomes = Outcomes::default();
        drop(outcomes.tell(100));
        drop(FirstAttempt::start(&outcomes.of("v1"), 100));
        outcomes.sweep(100 + SLOTS);
        assert_eq!(ledgers(&outcomes), 1, "somebody may still ask");
        outcomes.sweep(101 + SLOTS);
        assert_eq!(ledgers(&outcomes), 0);
    }

    #[test]
    fn the_latency_of_an_attempt_is_told_once_whatever_it_comes_to() {
        let outcomes = Outcomes::default();
        let (ledger, now) = (outcomes.of("v1"), Instant::now());
        let counts = |answered: bool, class| {
            let mut attempt = FirstAttempt::start(&ledger, 100);
            if answered {
                attempt.answered(Duration::from_millis(3));
                attempt.answered(Duration::from_millis(3));
            }
            attempt.ended(class, now);
            let told = outcomes.tell(103).remove(0).counts;
            let mut ended = PerClass::default();
            ended[class] = 1;
            let Counts { latency, .. } = &told;
            assert_eq!((told.started, told.ended), (1, ended));
            latency.count()
        };
        for class in Class::ALL {
            assert_eq!(counts(true, class), 1, "{class:?}");
            let unanswered = u64::from(class == Class::ClientClosed);
            assert_eq!(counts(false, class), unanswered, "{class:?}");
        }
    }
}
