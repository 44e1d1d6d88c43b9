//! What the owner of a Service says of requests that fail: which are sent again, how often, and how many of all.

use std::time::Duration;

use super::budget::Terms;
use super::conditions::Conditions;
use super::failure::Failure;
use super::methods::Methods;

/// What holds for one Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retries {
    pub on: Conditions,
    pub times: Times,
    /// How long each attempt may take until the head of its answer. Above zero.
    pub each: Option<Duration>,
    pub methods: Methods,
    pub budget: Terms,
}

/// Why a policy cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    #[error("nothing is named that a request is sent again for")]
    Nothing,
    #[error(
        "one attempt may take {each:?}, and the whole call {whole:?}: there is no time for another one"
    )]
    NoTime { each: Duration, whole: Duration },
    #[error(
        "an attempt has a time of its own, and nothing is sent again for a reset, which is what it is then"
    )]
    TimeForNothing,
    #[error("a status of gRPC is named, and calls of gRPC may not be sent again")]
    NoCalls,
}

impl Retries {
    /// Whether all of it can hold at once, where a whole call may take this long.
    pub fn check(&self, whole: Option<Duration>) -> Result<(), Contradiction> {
        if self.on.is_empty() {
            return Err(Contradiction::Nothing);
        }
        if let (Some(each), Some(whole)) = (self.each, whole)
            && each >= whole
        {
            return Err(Contradiction::NoTime { each, whole });
        }
        if self.each.is_some() && !self.on.has(Failure::Reset) {
            return Err(Contradiction::TimeForNothing);
        }
        if self.on.is_about_grpc() && !self.methods.cover_grpc() {
            return Err(Contradiction::NoCalls);
        }
        Ok(())
    }
}

/// How often a request is sent again at most: 1 to [`Times::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Times(u8);

impl Times {
    pub const ONCE: Times = Times(1);
    pub const MOST: u8 = 5;

    pub fn new(times: u32) -> Option<Times> {
        let times = u8::try_from(times).ok()?;
        (1..=Times::MOST).contains(&times).then_some(Times(times))
    }

    pub fn get(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::conditions::read;
    use super::super::methods::Method;
    use super::*;

    #[test]
    fn a_policy_has_a_reason_time_for_it_and_calls_that_it_is_about() {
        let good = Retries {
            on: read("reset,unavailable"),
            times: Times::ONCE,
            each: Some(Duration::from_secs(1)),
            methods: [Method::Grpc].into_iter().collect(),
            budget: Terms::default(),
        };
        let whole = Duration::from_secs(2);
        assert_eq!(good.check(None), Ok(()));
        assert_eq!(good.check(Some(whole)), Ok(()));
        let endless = Retries { each: None, ..good };
        assert_eq!(endless.check(Some(Duration::from_millis(1))), Ok(()));
        let of = |on| Retries { on, ..good };
        let each = Some(whole);
        let get = Methods::default();
        for (wrong, why) in [
            (of(Conditions::default()), Contradiction::Nothing),
            (
                Retries { each, ..good },
                Contradiction::NoTime { each: whole, whole },
            ),
            (of(read("unavailable")), Contradiction::TimeForNothing),
            (
                Retries {
                    methods: get,
                    ..good
                },
                Contradiction::NoCalls,
            ),
        ] {
            assert_eq!(wrong.check(Some(whole)), Err(why));
        }
    }

    #[test]
    fn a_request_is_sent_again_at_least_once_and_not_endlessly() {
        for (times, is_one) in [(0, false), (1, true), (5, true), (6, false), (257, false)] {
            assert_eq!(Times::new(times).is_some(), is_one, "{times}");
        }
    }
}
