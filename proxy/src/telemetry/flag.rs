//! Why a request did not go well, in the words that Envoy has for it (`%RESPONSE_FLAGS%`): dashboards and people know them.

use std::borrow::Cow;

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
    /// More requests came than the called pod takes: its sidecar answered.
    RateLimited,
    /// The owner of the Service asks for this answer.
    FaultAbort,
}

/// All that is to be said of a request: a delay on purpose, and how it went then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags {
    /// The owner of the Service asks for a delay, and it was one of those that were kept waiting.
    pub is_delayed: bool,
    pub flag: Flag,
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
            Flag::RateLimited => "RL",
            Flag::FaultAbort => "FI",
        }
    }
}

impl Flags {
    /// With a comma between two, as Envoy writes them.
    pub fn text(self) -> Cow<'static, str> {
        match (self.is_delayed, self.flag) {
            (false, flag) => flag.as_str().into(),
            (true, Flag::None) => DELAYED.into(),
            (true, flag) => format!("{DELAYED},{}", flag.as_str()).into(),
        }
    }
}

const DELAYED: &str = "DI";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [Flag; Flag::FaultAbort as usize + 1] = [
        Flag::None,
        Flag::NoEndpoint,
        Flag::Unreached,
        Flag::Overflow,
        Flag::Closed,
        Flag::Reset,
        Flag::Malformed,
        Flag::TimedOut,
        Flag::Withdrawn,
        Flag::CallerLeft,
        Flag::CallerMalformed,
        Flag::RateLimited,
        Flag::FaultAbort,
    ];

    #[test]
    fn the_page_has_every_flag_and_no_other() {
        let page = include_str!("../../../docs/access-log.md");
        let row = page
            .lines()
            .find_map(|line| line.strip_prefix("| `response_flags` |"));
        let (flags, _) = row.unwrap().split_once(". ").unwrap();
        let told: BTreeSet<&str> = flags.split('`').skip(1).step_by(2).collect();
        let known = ALL.map(Flag::as_str).into_iter().chain([DELAYED]);
        assert_eq!(told, known.collect::<BTreeSet<&str>>());
    }

    #[test]
    fn a_delay_is_said_besides_how_it_went() {
        for (is_delayed, flag, expected) in [
            (false, Flag::None, "-"),
            (false, Flag::FaultAbort, "FI"),
            (true, Flag::None, "DI"),
            (true, Flag::TimedOut, "DI,UT"),
        ] {
            assert_eq!(Flags { is_delayed, flag }.text(), expected);
        }
    }
}
