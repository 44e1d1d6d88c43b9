//! A proxy's own fuse: it stops giving requests to a canary that fails far more of them than stable does, before anybody else
//! has heard of it.
//!
//! The control plane hears of a second when it is over, and takes three bad ones to be sure. A proxy sees each failure when it
//! happens. So it holds requests back on weaker evidence, and less for good: it goes on trying the canary, with a pause after each
//! failure, so that the control plane has something to decide by, and gives it all of its share back when that goes well.
//!
//! ```text
//!            far more fail than of stable's            30 s
//!   closed ──────────────────────────────────> open ────────> worse since it opened? ── no ──> closed
//!                                               ^                        │
//!                                               └───────── yes ──────────┘
//! ```
//!
//! "Far more" is a likelihood ratio of first attempts that started in the same seconds: how much likelier their failures are
//! with a rate for each of the two revisions than with one for both. Of the canary's failures, as many as are tolerated are
//! taken for successes before. Attempts count from their start: counted at their end, a canary's quick failures would be there
//! before its slow successes are.
//!
//! An open fuse is no rollback: it is one proxy's view, and perhaps one bad pod.

use std::time::{Duration, Instant};

use crate::split::Pick;

/// How long a fuse is open before the canary may have its share again.
pub const OPEN: Duration = Duration::from_secs(30);
/// Meanwhile the canary gets at most one request in this time,
pub const PROBE: Duration = Duration::from_millis(25);
/// and none for so long after one that failed: so at most four failures a second, and the more requests the fewer of them fail.
pub const PAUSE: Duration = Duration::from_millis(250);
/// First attempts of each revision without which nothing is concluded.
pub const LEAST: u64 = 10;
/// The logarithm of the likelihood ratio from which on a fuse opens. Twice of it is as far out as a χ² of one degree of freedom is
/// once in a million times (Wilks, 1938): a fuse is asked at each failure.
const FAR: f64 = 12.0;
/// Seconds that are remembered: longer than a fuse is open.
const SECONDS: usize = 32;
/// How much more of the canary's requests may fail, in millionths, where nobody says so.
pub const TOLERANCE: Tolerance = Tolerance(5_000);

/// By how much more of the canary's requests may fail than of stable's, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tolerance(u32);

impl Tolerance {
    /// Above a half there is nothing to protect from; `None`.
    pub fn new(millionths: u32) -> Option<Tolerance> {
        (millionths <= 500_000).then_some(Tolerance(millionths))
    }

    pub fn millionths(self) -> u32 {
        self.0
    }
}

/// First attempts, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    pub started: u64,
    pub failed: u64,
}

/// What a fuse opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub canary: Attempts,
    pub stable: Attempts,
}

/// Both revisions in one second.
type Second = [Attempts; 2];

#[derive(Clone, Debug)]
pub struct Fuse {
    tolerance: Tolerance,
    /// Seconds are counted from here.
    origin: Instant,
    /// By second, modulo their number; the newest is `newest`.
    seconds: [Second; SECONDS],
    newest: u64,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: Instant,
    next_probe: Instant,
}

/// What becomes of a request that the split gives to the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes there.
    Pass,
    /// The same, from now on: the fuse was open.
    Closes,
    /// It goes to stable.
    Withhold,
}

impl Fuse {
    pub fn new(tolerance: Tolerance, now: Instant) -> Fuse {
        Fuse {
            tolerance,
            origin: now,
            seconds: [Second::default(); SECONDS],
            newest: 0,
            open: None,
        }
    }

    pub fn tolerance(&self) -> Tolerance {
        self.tolerance
    }

    /// A first attempt starts whose request came at `arrived`.
    pub fn started(&mut self, of: Pick, arrived: Instant) {
        if let Some(attempts) = self.at(of, arrived) {
            attempts.started += 1;
        }
    }

    /// It failed. Says so if the fuse opens now.
    pub fn failed(&mut self, of: Pick, arrived: Instant, now: Instant) -> Option<Seen> {
        self.at(of, arrived)?.failed += 1;
        if of == Pick::Stable {
            return None;
        }
        if let Some(open) = &mut self.open {
            open.next_probe = now + PAUSE;
            return None;
        }
        let seen = self.worst()?;
        self.open(now);
        Some(seen)
    }

    /// Whether a request of the canary's share goes there.
    pub fn ask(&mut self, now: Instant) -> Verdict {
        let Some(open) = &mut self.open else {
            return Verdict::Pass;
        };
        if now.saturating_duration_since(open.since) >= OPEN {
            self.turn_to(now);
            // Nothing is remembered of what was before it opened.
            if self.worst().is_some() {
                self.open(now);
                return Verdict::Withhold;
            }
            self.open = None;
            self.forget();
            return Verdict::Closes;
        }
        if now < open.next_probe {
            return Verdict::Withhold;
        }
        open.next_probe = now + PROBE;
        Verdict::Pass
    }

    fn open(&mut self, now: Instant) {
        self.forget();
        self.open = Some(Open {
            since: now,
            next_probe: now + PAUSE,
        });
    }

    fn forget(&mut self) {
        self.seconds = [Second::default(); SECONDS];
    }

    /// The second of a moment. Later ones than the newest so far are made room for.
    fn turn_to(&mut self, moment: Instant) -> u64 {
        let second = moment.saturating_duration_since(self.origin).as_secs();
        if second > self.newest {
            for gone in self.newest + 1..=second.min(self.newest + SECONDS as u64) {
                self.seconds[place(gone)] = Second::default();
            }
            self.newest = second;
        }
        second
    }

    /// Where an attempt counts; `None`: it is too old to say anything.
    fn at(&mut self, of: Pick, arrived: Instant) -> Option<&mut Attempts> {
        let second = self.turn_to(arrived);
        let is_kept = second + SECONDS as u64 > self.newest;
        let index = match of {
            Pick::Stable => 0,
            Pick::Canary => 1,
        };
        is_kept.then(|| &mut self.seconds[place(second)][index])
    }

    /// The shortest of the last 2, 4, 8, 16 and 32 seconds in which the canary was far worse: what has just begun is not
    /// watered down by the minutes before.
    fn worst(&self) -> Option<Seen> {
        let mut seen = Seen::default();
        for age in 0..SECONDS as u64 {
            let Some(second) = self.newest.checked_sub(age) else {
                break;
            };
            let [stable, canary] = self.seconds[place(second)];
            add(&mut seen.stable, stable);
            add(&mut seen.canary, canary);
            let length = age + 1;
            let is_asked = length > 1 && length.is_power_of_two() || second == 0;
            if is_asked && is_far_worse(seen, self.tolerance) {
                return Some(seen);
            }
        }
        None
    }
}

fn place(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

fn add(sum: &mut Attempts, more: Attempts) {
    sum.started += more.started;
    sum.failed += more.failed;
}

fn is_far_worse(Seen { canary, stable }: Seen, tolerance: Tolerance) -> bool {
    if canary.started < LEAST || stable.started < LEAST {
        return false;
    }
    let tolerated = canary.started as f64 * f64::from(tolerance.0) / 1e6;
    // An attempt that started before all was forgotten may fail afterwards.
    let failures = |of: Attempts| of.failed.min(of.started) as f64;
    let failed = (failures(canary) - tolerated.ceil()).max(0.0);
    let (canary_started, stable_started) = (canary.started as f64, stable.started as f64);
    let (canary_rate, stable_rate) = (failed / canary_started, failures(stable) / stable_started);
    if canary_rate <= stable_rate {
        return false;
    }
    let both = (failed + failures(stable)) / (canary_started + stable_started);
    let ratio = canary_started * divergence(canary_rate, both)
        + stable_started * divergence(stable_rate, both);
    ratio >= FAR
}

/// How unlikely a share of failures is at another rate, in nats for each attempt (Kullback and Leibler, 1951). Both are in 0..=1,
/// and where `rate` is 0 or 1 so is `share`.
fn divergence(share: f64, rate: f64) -> f64 {
    let term = |part: f64, whole: f64| {
        if part > 0.0 {
            part * (part / whole).ln()
        } else {
            0.0
        }
    };
    term(share, rate) + term(1.0 - share, 1.0 - rate)
}

#[cfg(test)]
mod tests;
