//! How many requests may be sent again, of all: when everything fails, each request that is sent again is one more for whoever is failing, and the last thing
//! it needs.
//!
//! A share of the requests of the last [`WINDOW`] seconds, this one included, and besides so many in each second that a Service with few requests has any. What is
//! not used in a second is lost. Requests that are sent again are no requests: what they cause is bounded by what callers ask for.

use std::time::Instant;

/// Over so many seconds the share is taken.
pub const WINDOW: usize = 10;

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    percent: u8,
    floor: u16,
}

impl Terms {
    pub const MOST_PERCENT: u32 = 100;
    pub const MOST_A_SECOND: u32 = 1_000;

    /// `percent` of the requests, and `floor` a second besides. `None`: it is more than there may be, or nothing at all.
    pub fn new(percent: u32, floor: u32) -> Option<Terms> {
        let is_some = percent > 0 || floor > 0;
        let is_bounded = percent <= Terms::MOST_PERCENT && floor <= Terms::MOST_A_SECOND;
        (is_some && is_bounded).then_some(Terms {
            percent: u8::try_from(percent).ok()?,
            floor: u16::try_from(floor).ok()?,
        })
    }

    pub fn percent(self) -> u32 {
        self.percent.into()
    }

    /// Requests a second.
    pub fn floor(self) -> u32 {
        self.floor.into()
    }
}

impl Default for Terms {
    /// As in Linkerd, but for what is not used, which it saves.
    fn default() -> Terms {
        Terms {
            percent: 20,
            floor: 10,
        }
    }
}

/// What one worker has spent on one route.
#[derive(Clone, Debug)]
pub struct Budget {
    terms: Terms,
    begun: Instant,
    /// The second that is counted now, since `begun`.
    second: u64,
    seconds: [Second; WINDOW],
    /// Their sums.
    requests: u64,
    shared: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    requests: u32,
    /// Sent again out of the share.
    shared: u32,
    /// Sent again out of what is there besides.
    besides: u32,
}

impl Budget {
    pub fn new(terms: Terms, now: Instant) -> Budget {
        Budget {
            terms,
            begun: now,
            second: 0,
            seconds: [Second::default(); WINDOW],
            requests: 0,
            shared: 0,
        }
    }

    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// A request came.
    pub fn request(&mut self, now: Instant) {
        let second = self.at(now);
        second.requests = second.requests.saturating_add(1);
        self.requests += 1;
    }

    /// Whether one may be sent again; that is spent then.
    pub fn spend(&mut self, now: Instant) -> bool {
        let floor = self.terms.floor();
        let second = self.at(now);
        if second.besides < floor {
            second.besides += 1;
            return true;
        }
        let share = self.requests * u64::from(self.terms.percent) / 100;
        let is_left = self.shared < share;
        if is_left {
            self.at(now).shared += 1;
            self.shared += 1;
        }
        is_left
    }

    /// The second of `now`, or the newest that there was: time does not go back.
    fn at(&mut self, now: Instant) -> &mut Second {
        let second = now.saturating_duration_since(self.begun).as_secs();
        let passed = second.saturating_sub(self.second);
        let length = WINDOW as u64;
        for each in 0..passed.min(length) {
            let index = (self.second.saturating_add(1 + each) % length) as usize;
            let old = std::mem::take(&mut self.seconds[index]);
            self.requests -= u64::from(old.requests);
            self.shared -= u64::from(old.shared);
        }
        self.second += passed;
        &mut self.seconds[(self.second % length) as usize]
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to count from"
)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn terms(percent: u32, floor: u32) -> Terms {
        Terms::new(percent, floor).unwrap()
    }

    fn spent(budget: &mut Budget, asked: usize, now: Instant) -> usize {
        (0..asked).filter(|_| budget.spend(now)).count()
    }

    fn after(begun: Instant, milliseconds: u64) -> Instant {
        begun + Duration::from_millis(milliseconds)
    }

    #[test]
    fn terms_are_bounded_and_not_nothing() {
        for (percent, floor, is_one) in [
            (0, 0, false),
            (1, 0, true),
            (0, 1, true),
            (100, 1_000, true),
            (101, 0, false),
            (0, 1_001, false),
            (u32::MAX, u32::MAX, false),
        ] {
            assert_eq!(
                Terms::new(percent, floor).is_some(),
                is_one,
                "{percent} {floor}"
            );
        }
    }

    #[test]
    fn the_share_is_of_the_last_seconds_and_the_floor_of_each() {
        let begun = Instant::now();
        let mut budget = Budget::new(terms(20, 3), begun);
        assert_eq!(
            spent(&mut budget, 9, begun),
            3,
            "nobody has asked for anything"
        );
        (0..100).for_each(|_| budget.request(after(begun, 900)));
        assert_eq!(spent(&mut budget, 99, after(begun, 999)), 20);
        assert_eq!(
            spent(&mut budget, 99, after(begun, 1_000)),
            3,
            "another second"
        );
        assert_eq!(
            spent(&mut budget, 99, after(begun, 9_999)),
            3,
            "still the same window"
        );
        (0..50).for_each(|_| budget.request(after(begun, 10_000)));
        assert_eq!(
            spent(&mut budget, 99, after(begun, 10_001)),
            13,
            "the first second is gone"
        );
        assert_eq!(spent(&mut budget, 99, after(begun, 3_600_000)), 3);
    }

    #[test]
    fn one_time_that_is_over_is_counted_as_now() {
        let begun = Instant::now();
        let mut budget = Budget::new(terms(100, 0), after(begun, 5_000));
        budget.request(after(begun, 9_000));
        budget.request(begun);
        assert_eq!(spent(&mut budget, 9, begun), 2);
    }

    proptest! {
        /// Whatever happens, no ten seconds in a row have more than their share and what there is besides.
        #[test]
        fn no_window_spends_more_than_it_may(
            percent in 0_u32..=100,
            floor in 1_u32..20,
            events in proptest::collection::vec((0_u64..1_500, any::<bool>()), 1..400),
        ) {
            let begun = Instant::now();
            let mut budget = Budget::new(terms(percent, floor), begun);
            let (mut time, mut requests, mut sent) = (0, Vec::new(), Vec::new());
            for (step, is_request) in events {
                // Many at once, and now and then a pause.
                time += if step > 1_000 { (step - 1_000) * 20 } else { step / 100 };
                if is_request {
                    budget.request(after(begun, time));
                    requests.push(time / 1_000);
                } else if budget.spend(after(begun, time)) {
                    sent.push(time / 1_000);
                }
            }
            let window = WINDOW as u64;
            for from in 0..=time / 1_000 {
                let within = |all: &[u64], from: u64, to: u64| {
                    all.iter().filter(|second| (from..to).contains(*second)).count() as u64
                };
                // What was spent in the window's last second was a share of the window before it, too.
                let of = from.saturating_sub(window - 1);
                let most = within(&requests, of, from + window) * u64::from(percent) / 100
                    + window * u64::from(floor);
                prop_assert!(within(&sent, from, from + window) <= most);
            }
        }

        /// Each that is granted was within the share of the requests that came in its own window.
        #[test]
        fn the_share_is_never_overdrawn(
            percent in 1_u32..=100,
            bursts in proptest::collection::vec((0_u64..30, 0_usize..60, 0_usize..60), 1..40),
        ) {
            let begun = Instant::now();
            let mut budget = Budget::new(terms(percent, 0), begun);
            let (mut second, mut history) = (0_u64, Vec::new());
            for (pause, requests, asked) in bursts {
                second += pause;
                let now = begun + Duration::from_secs(second);
                (0..requests).for_each(|_| budget.request(now));
                let granted = spent(&mut budget, asked, now);
                history.push((second, requests, granted));
                let recent = history.iter().filter(|(at, ..)| at + WINDOW as u64 > second);
                let (requests, sent) = recent.fold((0, 0), |(r, s), (_, requests, granted)| {
                    (r + requests, s + granted)
                });
                let share = requests * percent as usize / 100;
                prop_assert!(granted == 0 || sent <= share, "{sent} of {share}");
                // And all of it can be had.
                prop_assert!(granted == asked || sent >= share);
            }
        }
    }
}
