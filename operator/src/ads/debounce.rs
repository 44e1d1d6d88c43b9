//! A rolling update changes endpoints many times in a second: they are sent when it has been quiet for a moment, and at the
//! latest after a little longer. Only endpoints pass through here; routes never wait.

use std::time::Duration;

use tokio::time::Instant;

const QUIET: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Debounce {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Debounce {
    /// Something changed that can wait.
    pub(super) fn touch(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// All of it was sent.
    pub(super) fn clear(&mut self) {
        *self = Debounce::default();
    }

    /// When to send. At once, if nothing is known of a change.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        match (self.first, self.last) {
            (Some(first), Some(last)) => (last + QUIET).min(first + LONGEST),
            (None, _) | (_, None) => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_sent_after_it_is_quiet_and_at_the_latest_after_a_tenth_of_a_second() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut debounce = Debounce::default();
        debounce.touch(at(0));
        assert_eq!(debounce.deadline(at(0)), at(25));
        for millis in [20, 40, 60, 80, 95] {
            debounce.touch(at(millis));
        }
        assert_eq!(debounce.deadline(at(95)), at(100));
        debounce.clear();
        debounce.touch(at(200));
        assert_eq!(debounce.deadline(at(200)), at(225));
    }
}
