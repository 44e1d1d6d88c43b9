//! A proxy's clock against ours. Both arms of a proxy are told by one clock, so a difference only blurs sums over proxies: whole
//! seconds are enough, and only where it is more than reports take on their way.

/// By how many seconds a report may be older than it looks, and younger.
const LATE: i64 = 2;
const EARLY: i64 = -1;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// How many seconds it is ahead of ours.
    ahead: i64,
}

impl Clock {
    /// The newest second that a message is about, and ours when it came: how many seconds the proxy's clock is ahead.
    pub(super) fn heard(&mut self, newest: u64, now: i64) -> i64 {
        let newest = i64::try_from(newest).unwrap_or(i64::MAX);
        // The second that was over when the message was sent.
        let late = now.saturating_sub(newest).saturating_sub(1);
        if !(EARLY..=LATE).contains(&late.saturating_add(self.ahead)) {
            self.ahead = late.saturating_neg();
        }
        self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_right_or_nearly_is_left_alone() {
        let mut clock = Clock::default();
        for (newest, now) in [(99, 100), (100, 100), (97, 100), (98, 100), (120, 121)] {
            assert_eq!(clock.heard(newest, now), 0, "{newest} at {now}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_put_right_once_and_stays_so() {
        for off in [-100_000, -30, 30, 1_000_000] {
            let mut clock = Clock::default();
            for now in 2_000_000..2_000_100_i64 {
                // It is told a moment later now and then.
                let newest = now - 1 + off - i64::from(now % 3 == 1);
                let ahead = clock.heard(u64::try_from(newest).unwrap(), now);
                assert_eq!(ahead, off, "{now}");
            }
        }
        let mut clock = Clock::default();
        clock.heard(u64::MAX, 5);
        assert_eq!(clock.heard(4, 5), 0, "what it said before is forgotten");
    }
}
