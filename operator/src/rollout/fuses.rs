//! The proxies' own fuses: which canary has one, and what is heard of those that are open.
//!
//! An open fuse forbids every raise, since what is seen of the canary meanwhile leaves out those who fared worst. It lowers
//! nothing: it is one proxy's view, and the guard goes on with the few requests that it lets through.

use std::time::Duration;

use rollout_core::desired;
use rollout_core::guard::Limits;
use rollout_core::plan::Percent;
use rollout_core::state::{Phase, State};
use rollout_core::time::{Span, Time};
use traffic_core::fuse::{OPEN, Tolerance};

use crate::outcomes::Closed;

/// What proxies may hold back by themselves. While stable is being replaced, and where it gets nothing, there is nothing to
/// compare with, or to go to.
pub(super) fn tolerance(state: &State, limits: Option<Limits>) -> Option<Tolerance> {
    let judged = match state.phase {
        Phase::Scaling { .. } | Phase::Shifting { .. } | Phase::Soaking { .. } => true,
        Phase::Unsettled { .. }
        | Phase::Stable
        | Phase::Promoting { .. }
        | Phase::Returning { .. }
        | Phase::RollingBack { .. }
        | Phase::Failed => false,
    };
    let compares = judged && desired(state).weight() < Percent::ALL;
    let limits = limits.filter(|_| compares)?;
    Tolerance::new(limits.max_error_increase())
}

/// What was heard last of open fuses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fuses(Option<Open>);

#[derive(Clone, Copy, Debug)]
struct Open {
    run: u64,
    /// The second in which something was withheld.
    at: Time,
    requests: u64,
}

impl Fuses {
    /// Takes in what is closed; says whether the run has an open fuse now, and had none before.
    pub(super) fn see(&mut self, run: Option<u64>, seconds: &[Closed]) -> bool {
        let Some(run) = run else { return false };
        let mut opened = false;
        for closed in seconds.iter().filter(|closed| closed.canary.withheld > 0) {
            let at = Time(closed.at * 1000);
            opened |= self.open(run, at).is_none();
            self.0 = Some(Open {
                run,
                at,
                requests: closed.canary.withheld,
            });
        }
        opened
    }

    /// How many requests were withheld from this run's canary in the last second of which something was; `None`: no fuse is open.
    pub(super) fn withheld(&self, state: &State, now: Time) -> Option<u64> {
        let run = state.running()?.number;
        self.open(run, now).map(|open| open.requests)
    }

    /// When the last one has closed, if nothing more is heard.
    pub(super) fn until(&self, now: Time) -> Option<Time> {
        self.0.map(closes).filter(|at| *at > now)
    }

    fn open(&self, run: u64, now: Time) -> Option<&Open> {
        let open = self.0.as_ref()?;
        // A clock that was set back must not hold a release for as long as it was set.
        let is_fresh = now < closes(*open) && now - open.at > Span(-span(OPEN).0);
        (open.run == run && is_fresh).then_some(open)
    }
}

fn closes(open: Open) -> Time {
    open.at + span(OPEN)
}

fn span(time: Duration) -> Span {
    Span(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use traffic_core::outcome::Counts;

    use super::*;
    use crate::rollout::testing;

    const SECOND: i64 = 1_790_000_000;

    fn soaking() -> (State, u64) {
        let state = testing::state(Phase::Soaking {
            step: 0,
            since: Time(0),
        });
        let run = state.run.as_ref().unwrap().number;
        (state, run)
    }

    fn second(at: i64, withheld: u64) -> Closed {
        Closed {
            at,
            canary: Counts {
                withheld,
                ..Counts::default()
            },
            stable: Counts::default(),
        }
    }

    #[test]
    fn a_fuse_is_open_until_nothing_was_withheld_for_as_long_as_one_stays_open() {
        let (state, run) = soaking();
        let mut fuses = Fuses::default();
        let at = |second: i64| Time(second * 1000);
        assert!(!fuses.see(Some(run), &[second(SECOND, 0)]));
        assert_eq!(fuses.withheld(&state, at(SECOND + 1)), None);
        assert!(fuses.see(Some(run), &[second(SECOND, 7), second(SECOND + 1, 9)]));
        assert!(!fuses.see(Some(run), &[second(SECOND + 2, 8)]), "said once");
        assert_eq!(fuses.withheld(&state, at(SECOND + 3)), Some(8));
        assert_eq!(fuses.until(at(SECOND + 3)), Some(at(SECOND + 32)));
        assert_eq!(fuses.withheld(&state, at(SECOND + 32)), None);
        assert_eq!(fuses.until(at(SECOND + 32)), None);
        assert!(
            fuses.see(Some(run), &[second(SECOND + 40, 1)]),
            "another time"
        );
        assert_eq!(fuses.withheld(&state, at(SECOND - 3_600)), None, "set back");
    }

    #[test]
    fn another_run_knows_nothing_of_it() {
        let (mut state, run) = soaking();
        let mut fuses = Fuses::default();
        assert!(!fuses.see(None, &[second(SECOND, 7)]));
        fuses.see(Some(run), &[second(SECOND, 7)]);
        let now = Time((SECOND + 1) * 1000);
        assert!(fuses.withheld(&state, now).is_some());
        state.run.as_mut().unwrap().number += 1;
        assert_eq!(fuses.withheld(&state, now), None);
    }

    #[test]
    fn only_what_is_compared_has_a_fuse() {
        let limits = || Some(Limits::try_new(10_000, 7_000).unwrap());
        let (mut state, _) = soaking();
        assert_eq!(tolerance(&state, limits()), Tolerance::new(7_000));
        assert_eq!(tolerance(&state, None), None);
        let last = state.run.as_ref().unwrap().plan.steps().len() - 1;
        for phase in [
            Phase::Soaking {
                step: last,
                since: Time(0),
            },
            Phase::Promoting { since: Time(0) },
            Phase::Failed,
        ] {
            state.phase = phase;
            assert_eq!(tolerance(&state, limits()), None, "{phase:?}");
        }
    }
}
