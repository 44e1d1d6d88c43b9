//! How many requests a second a pod takes, of all callers together and of each: a bucket of tokens, filled evenly, that a request takes one of.
//!
//! Kept as the time at which the bucket will be full again (the generic cell rate algorithm, ITU-T I.371): one number, nothing to refill, and it says by itself
//! when there will be a token.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// On a pod, and of `aviary-proxy run`: [`Rates::all`] and [`Rates::each`].
pub const ANNOTATIONS: [(&str, &str); 2] = [
    ("aviary.dev/rate-limit", "rate-limit"),
    ("aviary.dev/rate-limit-per-caller", "rate-limit-per-caller"),
];

/// So many callers are told apart; all others share a bucket.
pub const MOST_CALLERS: usize = 1_024;

/// Requests a second, and how many may come at once. Both from 1 to [`Rate::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no rate: write requests a second and, if more may come at once, how many, like 100/s or 100/s burst 300, from 1 to {most}",
    most = Rate::MOST
)]
pub struct InvalidRate(String);

impl Rate {
    pub const MOST: u32 = 1_000_000;

    pub fn new(per_second: u32, burst: u32) -> Option<Rate> {
        let is_one = |number| (1..=Rate::MOST).contains(&number);
        (is_one(per_second) && is_one(burst)).then_some(Rate { per_second, burst })
    }

    pub fn per_second(self) -> u32 {
        self.per_second
    }

    pub fn burst(self) -> u32 {
        self.burst
    }

    /// From one token to the next.
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Rate, InvalidRate> {
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| is_plain)
        };
        let mut words = text.split_ascii_whitespace();
        let per_second = words
            .next()
            .and_then(|word| number(word.strip_suffix("/s")?));
        let rate = match (per_second, words.next(), words.next(), words.next()) {
            (Some(per_second), None, None, None) => Rate::new(per_second, per_second),
            (Some(per_second), Some("burst"), Some(burst), None) => {
                number(burst).and_then(|burst| Rate::new(per_second, burst))
            }
            _ => None,
        };
        rate.ok_or_else(|| InvalidRate(text.chars().take(32).collect()))
    }
}

/// As it is read.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s burst {}", self.per_second, self.burst)
    }
}

/// When a bucket will be full; `None`: it is.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(Option<Instant>);

impl Bucket {
    /// How long it takes until there is a token.
    fn wait(&self, rate: Rate, now: Instant) -> Option<Duration> {
        let missing = self.0?.saturating_duration_since(now);
        let most = rate.interval() * (rate.burst - 1);
        missing.checked_sub(most).filter(|wait| !wait.is_zero())
    }

    fn take(&mut self, rate: Rate, now: Instant) {
        let from = self.0.map_or(now, |full| full.max(now));
        self.0 = Some(from + rate.interval());
    }

    fn is_full(&self, now: Instant) -> bool {
        self.0.is_none_or(|full| full <= now)
    }
}

/// What holds for one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rates {
    /// For all callers together.
    pub all: Option<Rate>,
    /// For each, by its identity; those without one are one caller.
    pub each: Option<Rate>,
}

impl Rates {
    pub fn is_some(&self) -> bool {
        self.all.is_some() || self.each.is_some()
    }
}

/// Whose rate is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    All,
    Callers,
}

/// A request that is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    pub whose: Whose,
    pub rate: Rate,
    /// There is a token after this time. Above zero.
    pub wait: Duration,
}

/// What has come to one pod.
#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    all: Bucket,
    each: HashMap<Arc<str>, Bucket>,
    others: Bucket,
}

impl Limiter {
    pub fn new(rates: Rates) -> Limiter {
        Limiter {
            rates,
            all: Bucket::default(),
            each: HashMap::new(),
            others: Bucket::default(),
        }
    }

    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// A request of `caller`, which is a SPIFFE ID, or `None` for whoever shows none. What is refused takes nothing.
    pub fn admit(&mut self, caller: Option<&Arc<str>>, now: Instant) -> Result<(), TooMany> {
        if let Some(rate) = self.rates.all
            && let Some(wait) = self.all.wait(rate, now)
        {
            let whose = Whose::All;
            return Err(TooMany { whose, rate, wait });
        }
        if let Some(rate) = self.rates.each {
            let bucket = self.bucket(caller, now);
            if let Some(wait) = bucket.wait(rate, now) {
                let whose = Whose::Callers;
                return Err(TooMany { whose, rate, wait });
            }
            bucket.take(rate, now);
        }
        if let Some(rate) = self.rates.all {
            self.all.take(rate, now);
        }
        Ok(())
    }

    fn bucket(&mut self, caller: Option<&Arc<str>>, now: Instant) -> &mut Bucket {
        let Some(caller) = caller else {
            return &mut self.others;
        };
        if !self.each.contains_key(caller) {
            if self.each.len() >= MOST_CALLERS {
                // A full bucket is as good as none.
                self.each.retain(|_, bucket| !bucket.is_full(now));
            }
            if self.each.len() >= MOST_CALLERS {
                return &mut self.others;
            }
        }
        self.each.entry(caller.clone()).or_default()
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to count from"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    fn of_all(text: &str) -> Limiter {
        Limiter::new(Rates {
            all: Some(rate(text)),
            each: None,
        })
    }

    fn of_each(text: &str) -> Limiter {
        Limiter::new(Rates {
            all: None,
            each: Some(rate(text)),
        })
    }

    fn after(begun: Instant, milliseconds: u64) -> Instant {
        begun + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_rate_is_a_number_a_second_and_perhaps_a_burst() {
        for (text, per_second, burst) in [
            ("1/s", 1, 1),
            ("100/s", 100, 100),
            ("100/s burst 5", 100, 5),
            (" 10/s  burst 1000000 ", 10, 1_000_000),
        ] {
            let read = rate(text);
            assert_eq!((read.per_second(), read.burst()), (per_second, burst));
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for text in [
            "",
            "100",
            "0/s",
            "/s",
            "+1/s",
            "1.5/s",
            "100/m",
            "1000001/s",
            "1/s burst",
            "1/s burst 0",
            "1/s burst x",
            "1/s 5",
            "1/s burst 5 6",
            "100 /s",
        ] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("like 100/s or 100/s burst 300"), "{error}");
        }
    }

    #[test]
    fn a_burst_may_come_at_once_and_then_one_for_each_interval() {
        let begun = Instant::now();
        let mut limiter = of_all("10/s burst 3");
        for _ in 0..3 {
            assert_eq!(limiter.admit(None, begun), Ok(()));
        }
        let refused = TooMany {
            whose: Whose::All,
            rate: rate("10/s burst 3"),
            wait: Duration::from_millis(100),
        };
        assert_eq!(limiter.admit(None, begun), Err(refused));
        let wait = Duration::from_millis(1);
        assert_eq!(
            limiter.admit(None, after(begun, 99)),
            Err(TooMany { wait, ..refused })
        );
        assert_eq!(limiter.admit(None, after(begun, 100)), Ok(()));
        assert!(limiter.admit(None, after(begun, 100)).is_err());
        for _ in 0..3 {
            assert_eq!(limiter.admit(None, after(begun, 60_000)), Ok(()));
        }
        assert!(limiter.admit(None, after(begun, 60_000)).is_err());
    }

    #[test]
    fn a_caller_that_asks_for_too_much_takes_nothing_from_others() {
        let now = Instant::now();
        let (loud, quiet): (Arc<str>, Arc<str>) = ("loud".into(), "quiet".into());
        let mut limiter = of_each("10/s burst 2");
        let granted = |limiter: &mut Limiter, caller| {
            (0..9)
                .filter(|_| limiter.admit(caller, now).is_ok())
                .count()
        };
        assert_eq!(granted(&mut limiter, Some(&loud)), 2);
        assert_eq!(
            limiter.admit(Some(&loud), now).unwrap_err().whose,
            Whose::Callers
        );
        assert_eq!(granted(&mut limiter, Some(&quiet)), 2);
        assert_eq!(
            granted(&mut limiter, None),
            2,
            "who shows no identity is one caller"
        );
        let mut both = Limiter::new(Rates {
            all: Some(rate("10/s burst 3")),
            each: Some(rate("10/s burst 2")),
        });
        assert_eq!(granted(&mut both, Some(&loud)), 2);
        assert_eq!(
            granted(&mut both, Some(&quiet)),
            1,
            "what was refused took nothing"
        );
    }

    #[test]
    fn callers_without_end_are_not_remembered_without_end() {
        let begun = Instant::now();
        let mut limiter = of_each("1/s");
        let callers: Vec<Arc<str>> = (0..MOST_CALLERS + 2)
            .map(|n| n.to_string().into())
            .collect();
        for caller in &callers[..=MOST_CALLERS] {
            assert_eq!(limiter.admit(Some(caller), begun), Ok(()));
        }
        assert!(
            limiter.admit(callers.last(), begun).is_err(),
            "the others share one"
        );
        assert_eq!(limiter.each.len(), MOST_CALLERS);
        assert_eq!(limiter.admit(callers.last(), after(begun, 1_000)), Ok(()));
        assert_eq!(limiter.each.len(), 1, "whose bucket is full is forgotten");
    }

    proptest! {
        /// In any stretch of time at most the burst and what is filled in it gets in, and whoever waits as long as was said does.
        #[test]
        fn no_stretch_of_time_has_more_than_its_burst_and_its_rate(
            per_second in 1_u32..2_000,
            burst in 1_u32..50,
            steps in proptest::collection::vec(0_u64..5_000_000, 1..300),
        ) {
            let begun = Instant::now();
            let rate = Rate::new(per_second, burst).unwrap();
            let mut limiter = Limiter::new(Rates { all: Some(rate), each: None });
            let (mut nanos, mut admitted) = (0_u64, Vec::new());
            for step in steps {
                nanos += step;
                let now = begun + Duration::from_nanos(nanos);
                match limiter.admit(None, now) {
                    Ok(()) => admitted.push(nanos),
                    Err(TooMany { wait, .. }) => {
                        prop_assert!(!wait.is_zero() && wait <= rate.interval());
                        nanos += wait.as_nanos() as u64;
                        let then = begun + Duration::from_nanos(nanos);
                        prop_assert_eq!(limiter.admit(None, then), Ok(()));
                        admitted.push(nanos);
                    }
                }
            }
            let interval = rate.interval().as_nanos() as u64;
            for (index, from) in admitted.iter().enumerate() {
                for (count, to) in admitted[index..].iter().enumerate() {
                    let most = u64::from(burst) + (to - from) / interval;
                    prop_assert!((count as u64) < most, "{} within {}", count + 1, to - from);
                }
            }
        }
    }
}
