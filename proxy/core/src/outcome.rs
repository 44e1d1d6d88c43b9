//! What a request counts as, seen from the caller.
//!
//! Four classes, because each means something else to a judge: `failure` and `unsent` speak against the revision, `success` for
//! it, and `client_closed` says nothing (the caller went away before there was an answer, or before all of it was read).
//! Deliberately not failures: 4xx (the caller's fault) and gRPC codes that an application uses to say "no" (NOT_FOUND, ALREADY_EXISTS,
//! PERMISSION_DENIED, RESOURCE_EXHAUSTED, ...).
//!
//! [`ledger`] counts them by the second in which they started, [`sketch`] their latencies, [`failures`] where they failed, and [`trace`] which of
//! them it was.

pub mod counts;
pub mod failures;
pub mod ledger;
pub mod sketch;
pub mod trace;

pub use counts::{Counts, PerClass};
pub use failures::{Failed, Failures, Place, Said};
pub use ledger::{Ledger, Second};
pub use sketch::{Bucket, Sketch};
pub use trace::Trace;

use crate::contract::class;

/// The classes, in the order of the metrics' label values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Success,
    /// Answered with an error, reset, or cut short.
    Failure,
    /// The caller went away first.
    ClientClosed,
    /// Never reached the application: no endpoint, refused connection, refused stream.
    Unsent,
}

impl Class {
    pub const ALL: [Class; 4] = [
        Class::Success,
        Class::Failure,
        Class::ClientClosed,
        Class::Unsent,
    ];

    /// The value of the label `class`.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Success => class::SUCCESS,
            Class::Failure => class::FAILURE,
            Class::ClientClosed => class::CLIENT_CLOSED,
            Class::Unsent => class::UNSENT,
        }
    }

    /// Position in [`Class::ALL`].
    pub fn index(self) -> usize {
        match self {
            Class::Success => 0,
            Class::Failure => 1,
            Class::ClientClosed => 2,
            Class::Unsent => 3,
        }
    }
}

/// The language that status is spoken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Http,
    /// `content-type: application/grpc*`: the status is in the trailers, HTTP says 200 to everything.
    Grpc,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The whole answer arrived. `grpc_status` is what headers or trailers said, if they did.
    Complete {
        status: u16,
        dialect: Dialect,
        grpc_status: Option<u16>,
    },
    /// The connection or stream broke before the answer was whole.
    Broken,
    ClientClosed,
    Unsent,
}

/// The class of a request that ended so.
pub fn classify(end: End) -> Class {
    match end {
        End::Complete { status: 500.., .. } => Class::Failure,
        End::Complete {
            dialect: Dialect::Http,
            ..
        } => Class::Success,
        // An error below 500 from something that is not the gRPC server (a 404 of a router) carries no gRPC status.
        End::Complete {
            dialect: Dialect::Grpc,
            status,
            grpc_status: None,
        } => {
            if status == 200 {
                Class::Failure
            } else {
                Class::Success
            }
        }
        End::Complete {
            dialect: Dialect::Grpc,
            grpc_status: Some(code),
            ..
        } => grpc(code),
        End::Broken => Class::Failure,
        End::ClientClosed => Class::ClientClosed,
        End::Unsent => Class::Unsent,
    }
}

/// UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS are the server's failures.
fn grpc(code: u16) -> Class {
    if matches!(code, 2 | 4 | 12 | 13 | 14 | 15) {
        Class::Failure
    } else {
        Class::Success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16) -> Class {
        classify(End::Complete {
            status,
            dialect: Dialect::Http,
            grpc_status: None,
        })
    }

    fn grpc_end(status: u16, grpc_status: Option<u16>) -> Class {
        classify(End::Complete {
            status,
            dialect: Dialect::Grpc,
            grpc_status,
        })
    }

    #[test]
    fn only_server_errors_of_http_are_failures() {
        for status in 100..=599 {
            assert_eq!(
                http(status),
                if status >= 500 {
                    Class::Failure
                } else {
                    Class::Success
                },
                "{status}"
            );
        }
    }

    #[test]
    fn grpc_is_judged_by_its_status() {
        for code in 0..=20 {
            let expected = if [2, 4, 12, 13, 14, 15].contains(&code) {
                Class::Failure
            } else {
                Class::Success
            };
            assert_eq!(grpc_end(200, Some(code)), expected, "{code}");
        }
    }

    #[test]
    fn a_grpc_answer_that_ends_without_a_status_is_a_failure() {
        assert_eq!(grpc_end(200, None), Class::Failure);
        assert_eq!(grpc_end(503, Some(0)), Class::Failure);
        assert_eq!(grpc_end(404, None), Class::Success);
    }

    #[test]
    fn a_broken_answer_is_a_failure_and_a_caller_that_leaves_is_not() {
        assert_eq!(classify(End::Broken), Class::Failure);
        assert_eq!(classify(End::ClientClosed), Class::ClientClosed);
        assert_eq!(classify(End::Unsent), Class::Unsent);
    }

    #[test]
    fn index_is_the_position() {
        for (position, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), position);
        }
    }
}
