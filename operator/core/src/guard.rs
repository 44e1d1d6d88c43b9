//! The guard: is the canary worse than stable, in the same seconds? Anytime-valid: it may look every second.
//!
//! ```text
//!  Second --> Guard --+--> errors:  EProcess <-- Bet <-- Baseline, Dispersion (stable's past)
//!                     |                 +--> Capital (wealth on eight effects, and a reserve)
//!                     +--> latency: EProcess, of requests above the Threshold (stable's past p99)
//! ```
//!
//! Each second it bets a part of its capital against "the canary's rate is at most stable's plus a margin". While that is
//! true, the capital is expected never to grow, so it reaches 1 / `falseAlarm` with a chance of at most `falseAlarm` in the
//! whole life of a release (J. Ville's inequality, 1939), however often it is looked at.
//!
//! It rests on errors that are independent beyond the bursts that stable shows: the dispersion is an estimate. It does not
//! tell a bad pod or node of the canary from a bad release, and it has nothing to compare with where stable has no requests.
//! Requests are to be counted when they start, and retries not at all: who counts what has finished sees fast failures first.
//!
//! All state is integers, rounded after every second: going on from a status is going on from memory, bit for bit.

mod baseline;
mod batch;
mod bet;
mod capital;
mod dispersion;
mod eprocess;
mod foresight;
mod limits;
mod rollout;
mod second;
mod sketch;
mod threshold;
mod units;

pub use foresight::seconds_to_see;
pub use limits::{InvalidGuard, Limits};
pub use rollout::{Alarm, Budget, Guard};
pub use second::{Arm, Counts, Second};
pub use sketch::Sketch;

#[cfg(test)]
mod tests;
