//! How many certificates a pod may ask for: enough for a sidecar that is restarted again and again, and too few to keep the operator busy.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests of one pod in a minute. The shortest certificate is renewed after one.
pub(super) const MOST: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

/// Counts from minute to minute; what is forgotten then is all that there is.
pub(super) struct Allowance(Mutex<Window>);

struct Window {
    begun: Instant,
    /// By the UID of the pod: one of the same name is another.
    asked: HashMap<Box<str>, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Allowed,
    /// One too many; it is said once.
    First,
    TooMany,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Allowance {
        Allowance(Mutex::new(Window {
            begun: now,
            asked: HashMap::new(),
        }))
    }

    pub(super) fn ask(&self, uid: &str, now: Instant) -> Asked {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.begun) >= MINUTE {
            window.begun = now;
            window.asked.clear();
        }
        let asked = window.asked.entry(uid.into()).or_default();
        *asked = asked.saturating_add(1);
        match *asked {
            ..=MOST => Asked::Allowed,
            asked if asked == MOST + 1 => Asked::First,
            _ => Asked::TooMany,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_asks_too_often_waits_for_the_next_minute_and_others_do_not() {
        let allowance = Allowance::new(Instant::now());
        let ask = |uid: &str| allowance.ask(uid, Instant::now());
        for _ in 0..MOST {
            assert_eq!(ask("a"), Asked::Allowed);
        }
        assert_eq!(ask("a"), Asked::First);
        assert_eq!(ask("a"), Asked::TooMany);
        assert_eq!(ask("b"), Asked::Allowed);
        tokio::time::advance(MINUTE).await;
        assert_eq!(ask("a"), Asked::Allowed);
        assert_eq!(allowance.0.lock().unwrap().asked.len(), 1);
    }
}
