//! Samples around the present, as scrapes would have left them.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Long enough that every window has what it has seen, and that a slow machine does not run out of samples.
const BEFORE: i64 = 1200;
const AFTER: i64 = 600;

#[derive(Default)]
pub(crate) struct Samples(pub(crate) String);

impl Samples {
    /// A counter that is scraped every `every` seconds and grows by `by` each time.
    pub(crate) fn counter(&mut self, series: &str, every: i64, by: u32) {
        self.values(series, every, AFTER, |n| n * u64::from(by));
    }

    /// The same of a process that ended this many seconds ago.
    pub(crate) fn ended(&mut self, series: &str, every: i64, by: u32, ago: i64) {
        self.values(series, every, -ago, |n| n * u64::from(by));
    }

    /// The same of a process that starts anew every six scrapes: it has counted `by` when it is seen first.
    pub(crate) fn restarting(&mut self, series: &str, every: i64, by: u32) {
        self.values(series, every, AFTER, |n| (n % 6 + 1) * u64::from(by));
    }

    fn values(&mut self, series: &str, every: i64, until: i64, value: impl Fn(u64) -> u64) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(since.as_secs()).unwrap();
        let times = (now - BEFORE..=now + until).step_by(usize::try_from(every).unwrap());
        for (n, time) in (0..).zip(times) {
            writeln!(self.0, "{series} {} {time}", value(n)).unwrap();
        }
    }
}
