//! Counts a request exactly once, whatever becomes of it: a request that is dropped before it ended (the caller went away) is
//! `client_closed`. The first attempt is counted for the revision that was picked, the request for the one that answered last.

use std::sync::Arc;
use std::time::Instant;

use traffic_core::outcome::Class;
use traffic_core::peer::Peer;
use traffic_core::retry::Attempt;

use crate::metrics::{ArmMetrics, PortMetrics};

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
    arrived: Instant,
    counted: Option<Class>,
}

impl Tally {
    pub fn outbound(picked: Arc<ArmMetrics>, arrived: Instant) -> Tally {
        Tally {
            account: Account::Arm(picked, Attempt::First),
            arrived,
            counted: None,
        }
    }

    pub fn inbound(port: Arc<PortMetrics>, peer: Peer, arrived: Instant) -> Tally {
        Tally {
            account: Account::Port(port, peer),
            arrived,
            counted: None,
        }
    }

    pub fn nobody(arrived: Instant) -> Tally {
        Tally {
            account: Account::Nobody,
            arrived,
            counted: None,
        }
    }

    /// The first attempt could not be sent; the second goes to `next`.
    pub fn retry(&mut self, next: &Arc<ArmMetrics>) {
        if let Account::Arm(arm, Attempt::First) = &self.account {
            arm.first_attempts.add(Class::Unsent);
            self.account = Account::Arm(next.clone(), Attempt::Second);
        }
    }

    /// The application's port turned out to be one, perhaps while this request was on its way.
    pub fn of_port(&mut self, port: &Arc<PortMetrics>) {
        if let Account::Port(account, _) = &mut self.account
            && !Arc::ptr_eq(account, port)
        {
            *account = port.clone();
        }
    }

    /// The head of an answer is here.
    pub fn answered(&self, now: Instant) {
        let time = now.saturating_duration_since(self.arrived);
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
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.end(Class::ClientClosed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(by: &crate::metrics::ByClass) -> [u64; 4] {
        Class::ALL.map(|class| by.get(class))
    }

    #[test]
    fn a_request_without_retry_counts_once_in_both() {
        let arm = Arc::new(ArmMetrics::default());
        let mut tally = Tally::outbound(arm.clone(), Instant::now());
        tally.end(Class::Failure);
        tally.end(Class::Success);
        drop(tally);
        assert_eq!(
            (counts(&arm.requests), counts(&arm.first_attempts)),
            ([0, 1, 0, 0], [0, 1, 0, 0])
        );
    }

    #[test]
    fn a_retried_request_is_unsent_evidence_against_the_picked_and_a_request_of_the_other() {
        let (canary, stable) = (
            Arc::new(ArmMetrics::default()),
            Arc::new(ArmMetrics::default()),
        );
        let mut tally = Tally::outbound(canary.clone(), Instant::now());
        tally.retry(&stable);
        tally.end(Class::Success);
        drop(tally);
        assert_eq!(
            (counts(&canary.requests), counts(&canary.first_attempts)),
            ([0; 4], [0, 0, 0, 1])
        );
        assert_eq!(
            (counts(&stable.requests), counts(&stable.first_attempts)),
            ([1, 0, 0, 0], [0; 4])
        );
    }

    #[test]
    fn a_dropped_request_is_client_closed() {
        let arm = Arc::new(ArmMetrics::default());
        drop(Tally::outbound(arm.clone(), Instant::now()));
        assert_eq!(
            (counts(&arm.requests), counts(&arm.first_attempts)),
            ([0, 0, 1, 0], [0, 0, 1, 0])
        );
    }
}
