//! What may be sent again. Without being asked for: what was provably never processed, once, if all of it is still in hand. By the word of the Service's owner
//! ([`policy`]): more of it, and requests whose fate is unknown or that were answered with a failure, within a [`budget`].
//!
//! Whatever is sent again goes to **stable**, to another endpoint than the last if there is one; a canary attempt stays counted against the canary. Not here:
//! buffering of started bodies (a POST is sent twice by nobody who has not named it), waiting between attempts: a budget bounds what they cost, and the
//! next endpoint is another one.

pub mod budget;
pub mod conditions;
mod failure;
pub mod methods;
pub mod policy;

pub use failure::Failure;

use policy::Retries;

/// What is left of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing of it was taken yet, or there is none, or what was taken is kept.
    Whole,
    /// Some of it went out, and no copy was kept.
    Started,
}

/// Whether this was the first try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    First,
    /// It, or a later one.
    Second,
}

/// What the owner of the Service says of a request.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'r> {
    pub retries: &'r Retries,
    /// Whether its method is one that may reach an application twice.
    pub is_listed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send it to an endpoint of the stable revision, another one than the last if there is one.
    Stable(Price),
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// It costs nobody anything: no application has seen it.
    Free,
    /// If there is enough in the budget.
    Budgeted,
}

/// Whether a request that was sent again `retries` times before may be sent once more after a failure.
pub fn after(retries: u8, failure: Failure, body: Body, allowed: Option<Allowed<'_>>) -> Decision {
    let is_unsent = match failure {
        Failure::Unsent | Failure::Full => true,
        Failure::Reset | Failure::Status(_) | Failure::Grpc(_) => false,
        Failure::Over => return Decision::GiveUp,
    };
    match body {
        Body::Whole if retries == 0 && is_unsent => return Decision::Stable(Price::Free),
        Body::Whole => {}
        Body::Started => return Decision::GiveUp,
    }
    match allowed {
        Some(Allowed {
            retries: policy,
            is_listed,
        }) if retries < policy.times.get()
            && policy.on.has(failure)
            && (is_listed || is_unsent) =>
        {
            Decision::Stable(Price::Budgeted)
        }
        Some(_) | None => Decision::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::budget::Terms;
    use super::conditions::read;
    use super::methods::Methods;
    use super::policy::Times;
    use super::*;

    const FAILURES: [Failure; 8] = [
        Failure::Unsent,
        Failure::Full,
        Failure::Reset,
        Failure::Over,
        Failure::Status(500),
        Failure::Status(503),
        Failure::Grpc(13),
        Failure::Grpc(14),
    ];

    fn policy(times: u32, on: &str) -> Retries {
        Retries {
            on: read(on),
            times: Times::new(times).unwrap(),
            each: None,
            methods: Methods::default(),
            budget: Terms::default(),
        }
    }

    #[test]
    fn without_a_word_only_a_first_unsent_attempt_with_its_whole_body_is_sent_again() {
        let none = policy(5, "5xx");
        let not_listed = Allowed {
            retries: &none,
            is_listed: false,
        };
        for allowed in [None, Some(not_listed)] {
            for retries in 0..7 {
                for failure in FAILURES {
                    for body in [Body::Whole, Body::Started] {
                        let is_unsent = matches!(failure, Failure::Unsent | Failure::Full);
                        let expected = if retries == 0 && is_unsent && body == Body::Whole {
                            Decision::Stable(Price::Free)
                        } else {
                            Decision::GiveUp
                        };
                        assert_eq!(after(retries, failure, body, allowed), expected);
                    }
                }
            }
        }
    }

    /// Every failure, times sent again, body and method, under a policy: only what it names, as often as it says, and whole.
    #[test]
    fn what_is_named_is_sent_again_so_often_and_for_what_it_is_named() {
        for (on, named) in [
            ("connect-failure", &FAILURES[..1]),
            ("reset", &FAILURES[2..3]),
            ("5xx", &FAILURES[4..6]),
            ("503", &FAILURES[5..6]),
            ("internal,unavailable", &FAILURES[6..8]),
        ] {
            for times in 1..=5 {
                let policy = policy(times, on);
                for retries in 0..7 {
                    for failure in FAILURES {
                        for is_listed in [true, false] {
                            let allowed = Some(Allowed {
                                retries: &policy,
                                is_listed,
                            });
                            let is_unsent = matches!(failure, Failure::Unsent | Failure::Full);
                            let expected = if retries == 0 && is_unsent {
                                Decision::Stable(Price::Free)
                            } else if named.contains(&failure)
                                && u32::from(retries) < times
                                && (is_listed || is_unsent)
                            {
                                Decision::Stable(Price::Budgeted)
                            } else {
                                Decision::GiveUp
                            };
                            let decided = after(retries, failure, Body::Whole, allowed);
                            assert_eq!(decided, expected, "{on} {times} {retries} {failure:?}");
                            let started = after(retries, failure, Body::Started, allowed);
                            assert_eq!(started, Decision::GiveUp);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn no_condition_covers_what_nobody_waits_for() {
        let all = read("connect-failure,reset,5xx,unavailable");
        assert!(!all.has(Failure::Over) && !all.has(Failure::Full));
    }
}
