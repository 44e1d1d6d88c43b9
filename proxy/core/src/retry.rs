//! What may be sent again: only what was provably never processed, and only if all of it is still in hand.
//!
//! A canary attempt that could not be sent goes to **stable** (and stays counted against the canary); a stable one goes to
//! another stable endpoint. Once: a second failure is the caller's to see. Not here: buffering of started bodies, budgets, retries
//! of answers (a POST is never sent twice, and neither is a GET whose fate is unknown).

use crate::split::Pick;

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Provably not processed: no endpoint, the connection was refused or never used, the stream was refused.
    Unsent,
    /// Bytes went out and no whole answer came back.
    Unknown,
}

/// What is left of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing of it was taken yet, or there is none.
    Whole,
    /// Some of it went out, and no copy was kept.
    Started,
}

/// Whether this was the first try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    First,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send it to an endpoint of the stable revision, another one than the last if there is one.
    Stable,
    GiveUp,
}

/// Whether a request whose attempt on `picked` failed may be sent again.
pub fn after(picked: Pick, attempt: Attempt, failure: Failure, body: Body) -> Decision {
    match (attempt, failure, body) {
        (Attempt::First, Failure::Unsent, Body::Whole) => match picked {
            Pick::Canary | Pick::Stable => Decision::Stable,
        },
        (Attempt::Second, _, _) | (_, Failure::Unknown, _) | (_, _, Body::Started) => {
            Decision::GiveUp
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_unsent_attempt_with_its_whole_body_is_sent_again_and_never_to_the_canary() {
        for picked in [Pick::Stable, Pick::Canary] {
            for attempt in [Attempt::First, Attempt::Second] {
                for failure in [Failure::Unsent, Failure::Unknown] {
                    for body in [Body::Whole, Body::Started] {
                        let again = (attempt, failure, body)
                            == (Attempt::First, Failure::Unsent, Body::Whole);
                        let expected = if again {
                            Decision::Stable
                        } else {
                            Decision::GiveUp
                        };
                        assert_eq!(after(picked, attempt, failure, body), expected);
                    }
                }
            }
        }
    }
}
