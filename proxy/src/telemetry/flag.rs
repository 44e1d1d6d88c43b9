//! Why a request did not go well, in the words that Envoy has for it (`%RESPONSE_FLAGS%`): dashboards and people know them.

use crate::endpoint::{CallerFault, Cause, Lost, SendError};

/// One at most: of a request that was sent again, that of its last attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    /// Nothing happened that the answer does not say by itself.
    #[default]
    None,
    /// There is no healthy endpoint.
    NoEndpoint,
    /// No connection to the endpoint, or none to the application behind its sidecar.
    Unreached,
    /// As many requests are in progress as there may be.
    Overflow,
    /// The endpoint closed the connection before the answer was whole.
    Closed,
    /// The endpoint reset the stream.
    Reset,
    /// The endpoint's answer is no HTTP.
    Malformed,
    /// It took longer than it may.
    TimedOut,
    /// It was a long stream to a revision that gets nothing any more: this sidecar ended it.
    Withdrawn,
    /// The caller left first.
    CallerLeft,
    /// The request's body is no HTTP.
    CallerMalformed,
}

impl From<&SendError> for Flag {
    fn from(error: &SendError) -> Flag {
        match error {
            SendError::Unsent(Cause::Connect(_) | Cause::Marked) => Flag::Unreached,
            SendError::Unsent(Cause::Closed(_)) | SendError::Unknown(Lost::Closed(_)) => {
                Flag::Closed
            }
            SendError::Unsent(Cause::Refused) | SendError::Unknown(Lost::Reset { .. }) => {
                Flag::Reset
            }
            SendError::Unknown(Lost::Malformed(_)) => Flag::Malformed,
            SendError::Caller(CallerFault::Left) => Flag::CallerLeft,
            SendError::Caller(CallerFault::Malformed(_)) => Flag::CallerMalformed,
            SendError::TimedOut(_) => Flag::TimedOut,
            SendError::Withdrawn => Flag::Withdrawn,
        }
    }
}

impl Flag {
    pub fn as_str(self) -> &'static str {
        match self {
            Flag::None => "-",
            Flag::NoEndpoint => "UH",
            Flag::Unreached => "UF",
            Flag::Overflow => "UO",
            Flag::Closed => "UC",
            Flag::Reset => "UR",
            Flag::Malformed => "UPE",
            Flag::TimedOut => "UT",
            Flag::Withdrawn => "LR",
            Flag::CallerLeft => "DC",
            Flag::CallerMalformed => "DPE",
        }
    }
}
