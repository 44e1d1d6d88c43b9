//! Counts a request exactly once, whatever becomes of it: a request that is dropped before it ended (the caller went away) is
//! `client_closed`. The first attempt is counted for the revision that was picked, the request for the one that answered last.
//! Where a rollout is judged by it, the first attempt is also written into the worker's ledger, from its start on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use traffic_core::outcome::{Class, Said, Trace};
use traffic_core::peer::Peer;
use traffic_core::retry::Attempt;

use crate::metrics::{ArmMetrics, PortMetrics};
use crate::state::outcomes::FirstAttempt;
use crate::telemetry::{Entry, Flag};

/// Whose request it is.
#[derive(Debug)]
enum Account {
    Arm(Arc<ArmMetrics>, Attempt),
    Port(Arc<PortMetrics>, Peer),
    /// A destination without a route: nobody's.
    Nobody,
}

#[derive(Debug)]
pub struct Tally {
    account: Account,
    /// As long as it has not ended.
    first: Option<FirstAttempt>,
    /// The application's port at which it came in and is served, if a revision was picked for it here.
    held: Option<Arc<PortMetrics>>,
    /// Where somebody wants to know more of it.
    entry: Option<Box<Entry>>,
    arrived: Instant,
    counted: Option<Class>,
}

impl Tally {
    /// `first` is what the picked revision's ledger knows of it.
    pub fn outbound(
        picked: Arc<ArmMetrics>,
        first: Option<FirstAttempt>,
        arrived: Instant,
    ) -> Tally {
        let mut tally = Tally::of(Account::Arm(picked, Attempt::First), arrived);
        tally.first = first;
        tally
    }

    /// Of a caller without a sidecar; this pod's application is of the picked revision.
    pub fn held(mut self, port: Arc<PortMetrics>) -> Tally {
        self.held = Some(port);
        self
    }

    /// Whether it is this pod's application that is asked.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether it is a probe of the pod's.
    pub fn is_probe(&self) -> bool {
        matches!(self.account, Account::Port(_, Peer::Probe))
    }

    pub fn inbound(port: Arc<PortMetrics>, peer: Peer, arrived: Instant) -> Tally {
        Tally::of(Account::Port(port, peer), arrived)
    }

    pub fn nobody(arrived: Instant) -> Tally {
        Tally::of(Account::Nobody, arrived)
    }

    fn of(account: Account, arrived: Instant) -> Tally {
        Tally {
            account,
            first: None,
            held: None,
            entry: None,
            arrived,
            counted: None,
        }
    }

    /// This wants to know what becomes of it.
    pub fn watched(&mut self, entry: Entry) {
        self.entry = Some(Box::new(entry));
    }

    /// An attempt has ended so, and another one goes to `next`. What the first one came to is evidence, whatever comes of the others.
    pub fn retry(&mut self, next: &Arc<ArmMetrics>, class: Class) {
        if let Account::Arm(arm, Attempt::First) = &self.account {
            arm.first_attempts.add(class);
            self.account = Account::Arm(next.clone(), Attempt::Second);
            self.first_ended(class);
            self.held_ended(class);
        }
        if let Some(entry) = &mut self.entry {
            entry.goes_on();
        }
    }

    /// The application's port turned out to be one, perhaps while this request was on its way.
    pub fn of_port(&mut self, port: &Arc<PortMetrics>) {
        if let Some(held) = &mut self.held {
            held.clone_from(port);
        }
        if let Account::Port(account, _) = &mut self.account
            && !Arc::ptr_eq(account, port)
        {
            *account = port.clone();
        }
    }

    /// An attempt goes to this endpoint, of this revision.
    pub fn goes_to(&mut self, endpoint: SocketAddr, revision: &str) {
        if let Some(first) = &mut self.first {
            first.goes_to(endpoint);
        }
        if let Some(entry) = &mut self.entry {
            entry.goes_to(endpoint, revision);
        }
    }

    /// What the answer says of how it went.
    pub fn said(&mut self, said: Said) {
        if let Some(first) = &mut self.first {
            first.said(said);
        }
        if let Some(entry) = &mut self.entry {
            entry.said(said);
        }
    }

    /// There is no answer but this one, of the proxy's own.
    pub fn refused(&mut self, flag: Flag, status: u16, reason: &str) {
        if let Some(entry) = &mut self.entry {
            entry.refused(flag, status, reason);
        }
    }

    /// The answer broke off.
    pub fn broke(&mut self, flag: Flag) {
        if let Some(entry) = &mut self.entry {
            entry.broke(flag);
        }
    }

    /// So many bytes of the request's body have gone on, and of its answer's.
    pub fn moved(&mut self, moved: impl FnOnce() -> (u64, u64)) {
        if let Some(entry) = &mut self.entry {
            let (received, sent) = moved();
            entry.moved(received, sent);
        }
    }

    /// It fails: which request it was, if anybody keeps that.
    pub fn traced(&mut self, trace: impl FnOnce() -> Option<Trace>) {
        if let Some(first) = &mut self.first {
            first.traced(trace());
        }
    }

    /// The head of an answer is here.
    pub fn answered(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.arrived);
        if let Some(first) = &mut self.first {
            first.answered(time);
        }
        if let Some(port) = &self.held {
            port.answered_after(time);
        }
        match &self.account {
            Account::Arm(arm, Attempt::First) => arm.answered_after(time),
            Account::Port(port, _) => port.answered_after(time),
            Account::Arm(_, Attempt::Second) | Account::Nobody => {}
        }
    }

    /// The request has ended; only the first call counts.
    pub fn end(&mut self, class: Class) {
        if self.counted.is_some() {
            return;
        }
        self.counted = Some(class);
        if let Some(entry) = &mut self.entry {
            entry.ended(class);
        }
        self.first_ended(class);
        self.held_ended(class);
        match &self.account {
            Account::Arm(arm, attempt) => {
                arm.requests.add(class);
                match attempt {
                    Attempt::First => arm.first_attempts.add(class),
                    Attempt::Second => {}
                }
            }
            Account::Port(port, peer) => port.requests(*peer).add(class),
            Account::Nobody => {}
        }
    }

    /// A sidecar has picked its revision: this one.
    fn held_ended(&mut self, class: Class) {
        if let Some(port) = self.held.take() {
            port.requests(Peer::Mesh).add(class);
        }
    }

    fn first_ended(&mut self, class: Class) {
        if let Some(first) = self.first.take() {
            first.ended(class, self.arrived);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.end(Class::ClientClosed);
        if let Some(entry) = self.entry.take() {
            entry.over();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use traffic_core::outcome::{Bucket, Counts, PerClass};

    use super::*;
    use crate::state::outcomes::Outcomes;

    fn counts(by: &crate::metrics::ByClass) -> [u64; 4] {
        Class::ALL.map(|class| by.get(class))
    }

    /// A request of second 100 whose first attempt went to `arm`, and what the ledgers say in the end.
    fn told(arm: &Arc<ArmMetrics>, becomes: impl FnOnce(Tally)) -> Counts {
        let outcomes = Outcomes::default();
        let first = FirstAttempt::start(&outcomes.of("picked"), 100);
        becomes(Tally::outbound(arm.clone(), Some(first), Instant::now()));
        let mut told = outcomes.tell(103);
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0).counts
    }

    fn once(class: Class) -> Counts {
        let mut ended = PerClass::default();
        ended[class] = 1;
        Counts {
            started: 1,
            ended,
            ..Counts::default()
        }
    }

    #[test]
    fn a_request_without_retry_counts_once_in_both() {
        let arm = Arc::new(ArmMetrics::default());
        let told = told(&arm, |mut tally| {
            tally.answered(tally.arrived + Duration::from_millis(3));
            tally.end(Class::Failure);
            tally.end(Class::Success);
        });
        assert_eq!(
            (counts(&arm.requests), counts(&arm.first_attempts)),
            ([0, 1, 0, 0], [0, 1, 0, 0])
        );
        let latency = [(Bucket::of(Duration::from_millis(3)), 1)];
        let expected = Counts {
            latency: latency.into_iter().collect(),
            ..once(Class::Failure)
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn a_retried_request_is_unsent_evidence_against_the_picked_and_a_request_of_the_other() {
        let (canary, stable) = (
            Arc::new(ArmMetrics::default()),
            Arc::new(ArmMetrics::default()),
        );
        let told = told(&canary, |mut tally| {
            tally.retry(&stable, Class::Unsent);
            tally.answered(Instant::now());
            tally.end(Class::Success);
        });
        assert_eq!(
            (counts(&canary.requests), counts(&canary.first_attempts)),
            ([0; 4], [0, 0, 0, 1])
        );
        assert_eq!(
            (counts(&stable.requests), counts(&stable.first_attempts)),
            ([1, 0, 0, 0], [0; 4])
        );
        assert_eq!(told, once(Class::Unsent));
    }

    #[test]
    fn a_dropped_request_is_client_closed() {
        for answered in [false, true] {
            let arm = Arc::new(ArmMetrics::default());
            let told = told(&arm, |mut tally| {
                if answered {
                    tally.answered(Instant::now());
                }
            });
            assert_eq!(
                (counts(&arm.requests), counts(&arm.first_attempts)),
                ([0, 0, 1, 0], [0, 0, 1, 0])
            );
            let latency = told.latency.count();
            let expected = once(Class::ClientClosed);
            assert_eq!((told.started, told.ended), (1, expected.ended));
            assert_eq!(latency, 1, "answered: {answered}");
        }
    }

    #[test]
    fn an_attempt_without_an_answer_has_no_latency() {
        for class in [Class::Failure, Class::Unsent] {
            let told = told(&Arc::default(), |mut tally| tally.end(class));
            assert_eq!(told, once(class));
        }
    }
}
