//! The weight that is sent, of the one that is wanted: what the Ready pods can carry. Lower at once; higher again only when
//! they could carry it for a while, so that a pod that flaps does not make the weight flap.

use crate::plan::Percent;
use crate::time::{Span, Time};

/// How long pods have to carry more before they get it.
pub const STEADY: Span = Span::seconds(5);

/// The weight that the Ready pods can carry: `wanted * min(1, ready / needed)`, rounded down, and 0 without any.
pub fn effective(wanted: Percent, ready: u32, needed: u32) -> Percent {
    if ready >= needed && ready > 0 {
        return wanted;
    }
    let scaled = u64::from(wanted.get()) * u64::from(ready) / u64::from(needed.max(1));
    // One pod that is Ready can carry the smallest step, whatever the rounding says.
    let scaled = if ready > 0 && wanted > Percent::ZERO {
        scaled.max(1)
    } else {
        scaled
    };
    Percent::new(i64::try_from(scaled).unwrap_or(0)).unwrap_or(Percent::ZERO)
}

/// The same while stable's pods are being replaced: they get back only what the canary's cannot carry, and no more than they
/// can carry themselves.
pub fn effective_while_replaced(canary: (u32, u32), stable: (u32, u32)) -> Percent {
    let ((ready, needed), (stable_ready, replicas)) = (canary, stable);
    match (ready, stable_ready) {
        (_, 0) => Percent::ALL,
        (0, _) => Percent::ZERO,
        (_, _) => {
            let rest = Percent::covered(stable_ready, replicas).rest();
            effective(Percent::ALL, ready, needed).max(rest)
        }
    }
}

/// What is sent of a run's weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried(Option<Sent>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    run: u64,
    wanted: Percent,
    weight: Percent,
    /// Since when the pods can carry more, and the least of it.
    more: Option<(Time, Percent)>,
}

impl Carried {
    /// The weight to be sent now, of which the pods `can` carry this. A raise that was earned has to wait for nothing.
    pub fn follow(&mut self, run: u64, wanted: Percent, can: Percent, now: Time) -> Percent {
        let before = self.0.filter(|sent| sent.run == run);
        let mut sent = before.filter(|sent| wanted <= sent.wanted).unwrap_or(Sent {
            run,
            wanted,
            weight: can,
            more: None,
        });
        sent.wanted = wanted;
        if can <= sent.weight {
            sent.weight = can;
            sent.more = None;
        } else {
            let (since, least) = sent.more.unwrap_or((now, can));
            let least = least.min(can);
            sent.more = Some((since, least));
            if now - since >= STEADY {
                sent.weight = least;
                sent.more = (can > least).then_some((now, can));
            }
        }
        self.0 = Some(sent);
        sent.weight
    }

    /// When more is sent, if the pods go on like this.
    pub fn next(&self) -> Option<Time> {
        let (since, _) = self.0?.more?;
        Some(since + STEADY)
    }

    /// The clock was set.
    pub fn shift(&mut self, by: Span) {
        if let Some(Sent {
            more: Some((since, _)),
            ..
        }) = &mut self.0
        {
            *since = *since + by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(percent: i64) -> Percent {
        Percent::new(percent).unwrap()
    }

    #[test]
    fn the_effective_weight_never_exceeds_what_is_wanted_or_what_pods_can_carry() {
        for wanted in 0..=100 {
            let wanted = percent(wanted);
            for needed in 0..=10 {
                for ready in 0..=12 {
                    let got = effective(wanted, ready, needed);
                    assert!(got <= wanted);
                    assert_eq!(got == Percent::ZERO, ready == 0 || wanted == Percent::ZERO);
                    if ready >= needed.max(1) {
                        assert_eq!(got, wanted);
                    } else {
                        let share = u32::from(wanted.get()) * ready / needed.max(1);
                        assert!(
                            u32::from(got.get()) <= share.max(1),
                            "{wanted} {ready}/{needed}: {got}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn stable_that_goes_away_gets_only_what_the_canary_cannot_carry_and_it_can() {
        for (canary, stable, expected) in [
            ((4, 4), (4, 4), 100),
            ((4, 4), (0, 4), 100),
            ((2, 4), (0, 4), 100),
            ((0, 4), (0, 4), 100),
            ((0, 4), (1, 4), 0),
            ((2, 4), (4, 4), 50),
            ((2, 4), (1, 4), 75),
            ((3, 4), (2, 4), 75),
            ((1, 4), (2, 0), 25),
        ] {
            let got = effective_while_replaced(canary, stable);
            assert_eq!(got, percent(expected), "{canary:?} beside {stable:?}");
        }
    }

    /// One run at the weights that its pods can carry, one for each second.
    fn sent(wanted: i64, can: &[i64]) -> Vec<u8> {
        let mut carried = Carried::default();
        let looks = can.iter().zip(0..).map(|(can, second)| {
            let now = Time(second * 1000);
            carried.follow(1, percent(wanted), percent(*can), now).get()
        });
        looks.collect()
    }

    #[test]
    fn less_is_sent_at_once_and_more_after_five_steady_seconds() {
        assert_eq!(
            sent(50, &[50, 25, 50, 50, 50, 50, 50, 50, 50]),
            [50, 25, 25, 25, 25, 25, 25, 50, 50]
        );
    }

    #[test]
    fn what_flaps_stays_low() {
        assert_eq!(
            sent(50, &[50, 0, 50, 50, 0, 50, 50, 50, 50, 0, 50, 50]),
            [50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn after_five_seconds_the_least_of_them_is_sent() {
        assert_eq!(
            sent(60, &[60, 0, 20, 40, 60, 40, 60, 60, 60, 60, 60, 60, 60]),
            [60, 0, 0, 0, 0, 0, 0, 20, 20, 20, 20, 20, 60]
        );
    }

    #[test]
    fn an_earned_raise_and_another_run_wait_for_nothing_and_a_lower_weight_raises_nothing() {
        let mut carried = Carried::default();
        let now = Time(0);
        assert_eq!(
            carried.follow(1, percent(10), percent(10), now),
            percent(10)
        );
        assert_eq!(
            carried.follow(1, percent(50), percent(50), now),
            percent(50)
        );
        assert_eq!(carried.follow(1, percent(50), percent(5), now), percent(5));
        assert_eq!(carried.follow(1, percent(20), percent(20), now), percent(5));
        assert_eq!(
            carried.follow(2, percent(20), percent(20), now),
            percent(20)
        );
    }

    #[test]
    fn it_says_when_more_is_sent_and_a_clock_that_is_set_does_not_matter() {
        let mut carried = Carried::default();
        let look = |carried: &mut Carried, at: i64, can: i64| {
            carried.follow(1, percent(50), percent(can), Time(at))
        };
        look(&mut carried, 0, 25);
        assert_eq!(carried.next(), None);
        look(&mut carried, 1000, 50);
        assert_eq!(carried.next(), Some(Time(6000)));
        carried.shift(Span(-100_000));
        assert_eq!(carried.next(), Some(Time(-94_000)));
        assert_eq!(look(&mut carried, -94_001, 50), percent(25));
        assert_eq!(look(&mut carried, -94_000, 50), percent(50));
        assert_eq!(carried.next(), None);
    }
}
