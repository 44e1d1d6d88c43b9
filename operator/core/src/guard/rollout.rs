//! The guard of one release: errors and latency on one budget.

use serde::{Deserialize, Serialize};

use super::capital::sum;
use super::eprocess::{EProcess, Turn};
use super::limits::Limits;
use super::second::Second;
use super::sketch::Sketch;
use super::threshold::Threshold;

/// The share of the initial capital that is bet on errors; the rest is bet on latency.
const ON_ERRORS: f64 = 0.75;
/// How much more of the canary's requests than of stable's may be slower than stable's 99th percentile.
const SLOW_MARGIN: f64 = 0.01;

/// What the capital is bet on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Budget {
    /// Requests that failed.
    Errors,
    /// Requests that were slower than stable's 99th percentile.
    Latency,
}

/// The canary is worse than stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Alarm {
    /// The second that said so, since the Unix epoch.
    pub at: i64,
    /// Where most of the capital was won.
    pub by: Budget,
}

/// The guard of one release, from its first second to its last: carried over steps and restarts.
///
/// Its state is integers, the last judged second among them: about 1.4 KiB as JSON, and below 2 KiB whatever was seen. A new revision, or a retry, starts with a new
/// one; the seconds of stable alone before the first weight teach it what stable is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Guard {
    limits: Limits,
    /// The last judged second and the weight that it was under.
    last: Option<(i64, u64)>,
    errors: EProcess,
    slow: EProcess,
    threshold: Threshold,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alarm: Option<Alarm>,
}

impl Guard {
    pub fn new(limits: Limits) -> Guard {
        Guard {
            limits,
            last: None,
            errors: EProcess::new(),
            slow: EProcess::new(),
            threshold: Threshold::default(),
            alarm: None,
        }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Judges a second. One that was judged already, or is older than one that was, is ignored.
    pub fn see(&mut self, second: &Second) {
        let this = (second.at, second.epoch);
        if self.last.is_some_and(|last| this <= last) {
            return;
        }
        let turn = match self.last {
            _ if second.epoch == 0 => Turn::Alone,
            Some((_, epoch)) if epoch == second.epoch => Turn::GoesOn,
            Some(_) | None => Turn::Begins,
        };
        self.last = Some(this);
        let (canary, stable) = (&second.canary, &second.stable);
        self.errors
            .see(turn, self.limits.margin(), canary.counts, stable.counts);
        let slow = |arm| self.threshold.counts(arm);
        if let (Some(canary), Some(stable)) = (slow(&canary.latency), slow(&stable.latency)) {
            self.slow.see(turn, SLOW_MARGIN, canary, stable);
        }
        self.threshold.see(&stable.latency);
        if self.alarm.is_none() && self.wealth() >= self.limits.log_alarm() {
            let [errors, latency] = self.parts();
            let by = if errors >= latency {
                Budget::Errors
            } else {
                Budget::Latency
            };
            self.alarm = Some(Alarm { at: second.at, by });
        }
    }

    /// Set for good once the wealth has reached 1 / `falseAlarm`.
    pub fn alarm(&self) -> Option<Alarm> {
        self.alarm
    }

    /// The natural logarithm of the wealth: 0 at first, below 0 while the canary looks no worse than stable plus the margin.
    /// A mixture of two e-processes is one.
    pub fn wealth(&self) -> f64 {
        sum(self.parts())
    }

    /// The second that was judged last, since the Unix epoch.
    pub fn judged_until(&self) -> Option<i64> {
        self.last.map(|(at, _)| at)
    }

    /// What is slow, microseconds: what takes longer than this. `None` before stable has had 100 requests.
    pub fn slow_above(&self) -> Option<u64> {
        self.threshold.bucket().map(Sketch::bound)
    }

    fn parts(&self) -> [f64; 2] {
        [
            ON_ERRORS.ln() + self.errors.wealth(),
            (1.0 - ON_ERRORS).ln() + self.slow.wealth(),
        ]
    }
}
