//! What becomes of a canary's long streams (gRPC, WebSocket, opaque TCP) when its weight goes to 0.
//!
//! A weight is about what comes next: a raise moves nobody's open stream, and what is open stays where it is. But a stream has no next request by which it
//! would leave a bad revision, and may be open for days. So a revision whose weight is 0 is withdrawn: its streams have [`GRACE`], and then they are ended so
//! that their clients open them again, at stable. A weight that comes back before that ends the withdrawal.
//!
//! ```text
//!   weight 0 ── GRACE (30 s) ──> streams are ended, one every BEAT, all of them within SPREAD (10 s)
//!      └────── a weight again ──> nothing is ended
//! ```
//!
//! Why 30 s: as long as Kubernetes gives a pod by default (`terminationGracePeriodSeconds`), which is what applications with streams are made for; and long
//! enough for a readiness that flickers, and with it the effective weight, to come back. Only what was opened as a canary's is ended: when that revision is
//! stable, its streams are stable's.

use std::time::Duration;

use crate::config::Split;
use crate::weight::Weight;

/// How long a stream may go on after its revision's weight went to 0.
pub const GRACE: Duration = Duration::from_secs(30);
/// Within this time all of a worker's streams of a revision are ended after that: their clients come back at once, and not all at the same moment.
pub const SPREAD: Duration = Duration::from_secs(10);
/// The time between two endings, at least.
pub const BEAT: Duration = Duration::from_millis(10);
/// The longest that a stream may be open at weight 0.
pub const LONGEST: Duration = Duration::from_secs(GRACE.as_secs() + SPREAD.as_secs());

/// How much time streams are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// Before the first one is ended.
    pub least: Duration,
    /// For all of them to be ended after that.
    pub spread: Duration,
}

impl Default for Grace {
    fn default() -> Grace {
        Grace {
            least: GRACE,
            spread: SPREAD,
        }
    }
}

/// What a route says about the streams that were opened as its canary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They stay: the revision has a weight, or nobody says anything about it.
    Stays,
    /// The revision is stable now, and so are they.
    Promoted,
    /// The revision gets nothing any more.
    Withdrawn,
}

/// What becomes of the streams to the canary's `cluster`, by the split that holds now (after revocations). `None`: there is no route any more, which says
/// nothing about a revision.
pub fn fate(cluster: &str, split: Option<&Split>) -> Fate {
    let Some(split) = split else {
        return Fate::Stays;
    };
    let canary = split.canary.as_ref();
    let has_weight = canary.is_some_and(|it| it.arm.cluster == cluster && it.weight > Weight::ZERO);
    if split.stable.cluster == cluster {
        Fate::Promoted
    } else if has_weight {
        Fate::Stays
    } else {
        Fate::Withdrawn
    }
}

/// How many of `streams` are ended at each [`BEAT`], so that all of them are within `spread`.
pub fn at_once(streams: usize, spread: Duration) -> usize {
    let beats = spread.as_nanos() / BEAT.as_nanos();
    streams
        .div_ceil(usize::try_from(beats).unwrap_or(usize::MAX).max(1))
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arm, CanaryArm};
    use crate::lease::Lease;

    fn split(stable: &str, canary: Option<(&str, u32)>) -> Split {
        let arm = |revision: &str| Arm {
            cluster: format!("shop/web/80/{revision}"),
            revision: revision.to_owned(),
        };
        Split {
            stable: arm(stable),
            canary: canary.map(|(revision, units)| CanaryArm {
                arm: arm(revision),
                weight: Weight::new(units).unwrap(),
                run: 1,
                lease: Lease::Unlimited,
                fuse: None,
                sticky: None,
            }),
        }
    }

    fn of_v2(split: Option<&Split>) -> Fate {
        fate("shop/web/80/v2", split)
    }

    #[test]
    fn any_weight_lets_the_streams_be_and_none_withdraws_them() {
        for units in [1, 1_000, Weight::SCALE] {
            assert_eq!(of_v2(Some(&split("v1", Some(("v2", units))))), Fate::Stays);
        }
        assert_eq!(of_v2(Some(&split("v1", Some(("v2", 0))))), Fate::Withdrawn);
    }

    #[test]
    fn a_revision_that_is_in_the_route_no_more_is_withdrawn() {
        assert_eq!(of_v2(Some(&split("v1", None))), Fate::Withdrawn);
        let next = split("v1", Some(("v3", 50_000)));
        assert_eq!(of_v2(Some(&next)), Fate::Withdrawn);
    }

    #[test]
    fn a_promoted_revision_keeps_its_streams() {
        assert_eq!(of_v2(Some(&split("v2", None))), Fate::Promoted);
        let next = split("v2", Some(("v3", 50_000)));
        assert_eq!(of_v2(Some(&next)), Fate::Promoted);
    }

    #[test]
    fn without_a_route_nobody_says_anything_about_a_revision() {
        assert_eq!(of_v2(None), Fate::Stays);
    }

    #[test]
    fn however_many_there_are_they_end_one_by_one_or_within_the_spread() {
        assert_eq!(at_once(0, SPREAD), 1);
        for streams in [1, 10, 1_000] {
            assert_eq!(at_once(streams, SPREAD), 1);
        }
        assert_eq!(at_once(1_001, SPREAD), 2);
        let beats = usize::try_from(SPREAD.as_millis() / BEAT.as_millis()).unwrap();
        for streams in 1..5_000 {
            assert!(at_once(streams, SPREAD) * beats >= streams);
        }
        assert_eq!(at_once(7, Duration::ZERO), 7);
    }
}
