//! Which second of the wall clock a moment belongs to, without a question to the kernel for each: one pair of readings, taken
//! when the proxy starts, translates for all threads. When somebody sets the clock, [`WallClock::follow`] takes the pair anew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use traffic_core::outcome::Second;

const NANOS: u64 = 1_000_000_000;

/// The clock was set, if it is off by more. Less may lie between two readings on a busy machine; and it is less than the time that is
/// given to a second, once it is over, before it is told.
const SET: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct WallClock {
    start: Instant,
    /// Nanoseconds from the Unix epoch to `start`. Good until the year 2554.
    offset: AtomicU64,
}

impl WallClock {
    /// `now` and `wall` are one moment.
    pub fn new(now: Instant, wall: SystemTime) -> WallClock {
        WallClock {
            start: now,
            offset: AtomicU64::new(nanos(since_epoch(wall))),
        }
    }

    /// The second that `moment` belongs to, since the Unix epoch. A moment before the proxy's start counts as the start.
    pub fn second(&self, moment: Instant) -> Second {
        self.nanos(moment) / NANOS
    }

    /// From the Unix epoch to `moment`. A moment before the proxy's start counts as the start.
    pub fn since_epoch(&self, moment: Instant) -> Duration {
        Duration::from_nanos(self.nanos(moment))
    }

    /// Goes by another pair of readings from now on if the clock was set.
    pub fn follow(&self, now: Instant, wall: SystemTime) {
        let (known, wall) = (self.nanos(now), nanos(since_epoch(wall)));
        if known.abs_diff(wall) > nanos(SET) {
            let elapsed = nanos(now.saturating_duration_since(self.start));
            self.offset
                .store(wall.saturating_sub(elapsed), Ordering::Relaxed);
        }
    }

    fn nanos(&self, moment: Instant) -> u64 {
        let elapsed = nanos(moment.saturating_duration_since(self.start));
        self.offset.load(Ordering::Relaxed).saturating_add(elapsed)
    }
}

fn since_epoch(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn nanos(time: Duration) -> u64 {
    let whole = time.as_secs().saturating_mul(NANOS);
    whole.saturating_add(u64::from(time.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn epoch(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_moment_belongs_to_the_second_that_the_wall_clock_showed_at_it() {
        let (now, wall) = (Instant::now(), epoch(1_790_000_000) + 250 * MS);
        let clock = WallClock::new(now, wall);
        for (later, second) in [(0, 0), (749, 0), (750, 1), (1_750, 2), (3_599_750, 3_600)] {
            assert_eq!(clock.second(now + later * MS), 1_790_000_000 + second);
        }
    }

    #[test]
    fn a_clock_that_was_set_is_followed_and_a_reading_that_took_long_is_not() {
        let (start, wall) = (Instant::now(), epoch(1_790_000_000));
        let clock = WallClock::new(start, wall);
        let now = start + 10_000 * MS;
        clock.follow(now, wall + 9_960 * MS);
        assert_eq!(clock.second(now), 1_790_000_010);
        for seen in [wall + 9_900 * MS, wall + 3_600_500 * MS, epoch(1_000)] {
            clock.follow(now, seen);
            assert_eq!(clock.second(now), since_epoch(seen).as_secs());
        }
    }
}
