//! What a request is sent again for. The words are Envoy's where Envoy has one, but that `5xx` is an answer of 500 to 599 and nothing else.

use std::fmt;
use std::str::FromStr;

use super::failure::Failure;

/// One thing that a request is sent again for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// It reached nobody. Of these the first is always sent again; this is about more.
    ConnectFailure,
    /// Something of it went out, and no head of an answer came: the connection or the stream broke, or the attempt took too long.
    Reset,
    /// Any status of 500 to 599.
    ServerError,
    /// This one of them.
    Status(u16),
    /// An answer of gRPC that is a status and nothing else.
    Grpc(Code),
}

/// A status of gRPC that Envoy has a word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    Cancelled,
    DeadlineExceeded,
    ResourceExhausted,
    Internal,
    Unavailable,
}

impl Code {
    pub const ALL: [Code; 5] = [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
        Code::Internal,
        Code::Unavailable,
    ];

    pub fn number(self) -> u16 {
        match self {
            Code::Cancelled => 1,
            Code::DeadlineExceeded => 4,
            Code::ResourceExhausted => 8,
            Code::Internal => 13,
            Code::Unavailable => 14,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Code::Cancelled => "cancelled",
            Code::DeadlineExceeded => "deadline-exceeded",
            Code::ResourceExhausted => "resource-exhausted",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
        }
    }
}

const CONNECT_FAILURE: &str = "connect-failure";
const RESET: &str = "reset";
const SERVER_ERROR: &str = "5xx";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is nothing that is tried again: write connect-failure, reset, 5xx, a status from 500 to 599, or cancelled, deadline-exceeded, resource-exhausted, internal or unavailable of gRPC"
)]
pub struct InvalidCondition(String);

impl FromStr for Condition {
    type Err = InvalidCondition;

    fn from_str(word: &str) -> Result<Condition, InvalidCondition> {
        let code = Code::ALL.into_iter().find(|code| code.as_str() == word);
        match word {
            CONNECT_FAILURE => Ok(Condition::ConnectFailure),
            RESET => Ok(Condition::Reset),
            SERVER_ERROR => Ok(Condition::ServerError),
            _ => code
                .map(Condition::Grpc)
                .or_else(|| status(word))
                .ok_or_else(|| InvalidCondition(word.chars().take(32).collect())),
        }
    }
}

fn status(word: &str) -> Option<Condition> {
    let status = word.parse().ok().filter(|_| word.len() == 3)?;
    STATUSES
        .contains(&status)
        .then_some(Condition::Status(status))
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::ConnectFailure => f.write_str(CONNECT_FAILURE),
            Condition::Reset => f.write_str(RESET),
            Condition::ServerError => f.write_str(SERVER_ERROR),
            Condition::Status(status) => status.fmt(f),
            Condition::Grpc(code) => f.write_str(code.as_str()),
        }
    }
}

const STATUSES: std::ops::RangeInclusive<u16> = 500..=599;

/// What a request is sent again for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conditions {
    connect_failure: bool,
    reset: bool,
    /// A bit for each status from 500 on.
    statuses: u128,
    /// A bit for each number.
    codes: u16,
}

impl Conditions {
    /// All of [`STATUSES`].
    const EVERY_STATUS: u128 = (1 << 100) - 1;

    pub fn is_empty(&self) -> bool {
        *self == Conditions::default()
    }

    /// Whether one of them is a status of gRPC.
    pub fn is_about_grpc(&self) -> bool {
        self.codes != 0
    }

    pub fn has(&self, failure: Failure) -> bool {
        match failure {
            Failure::Unsent => self.connect_failure,
            Failure::Reset => self.reset,
            Failure::Status(status) => {
                STATUSES.contains(&status) && self.statuses & bit(status) != 0
            }
            Failure::Grpc(code) => code < 16 && self.codes & (1 << code) != 0,
            Failure::Full | Failure::Over => false,
        }
    }

    /// In the order of [`Condition`], each once.
    pub fn iter(&self) -> impl Iterator<Item = Condition> {
        let Conditions {
            connect_failure,
            reset,
            statuses,
            codes,
        } = *self;
        let every = statuses == Conditions::EVERY_STATUS;
        let each = STATUSES.filter(move |status| !every && statuses & bit(*status) != 0);
        let codes = Code::ALL
            .into_iter()
            .filter(move |code| codes & (1 << code.number()) != 0);
        let some = |has: bool, condition| has.then_some(condition).into_iter();
        some(connect_failure, Condition::ConnectFailure)
            .chain(some(reset, Condition::Reset))
            .chain(some(every, Condition::ServerError))
            .chain(each.map(Condition::Status))
            .chain(codes.map(Condition::Grpc))
    }
}

fn bit(status: u16) -> u128 {
    1 << (status - STATUSES.start())
}

impl FromIterator<Condition> for Conditions {
    fn from_iter<I: IntoIterator<Item = Condition>>(conditions: I) -> Conditions {
        let mut all = Conditions::default();
        for condition in conditions {
            match condition {
                Condition::ConnectFailure => all.connect_failure = true,
                Condition::Reset => all.reset = true,
                Condition::ServerError => all.statuses = Conditions::EVERY_STATUS,
                Condition::Status(status) if STATUSES.contains(&status) => {
                    all.statuses |= bit(status);
                }
                Condition::Status(_) => {}
                Condition::Grpc(code) => all.codes |= 1 << code.number(),
            }
        }
        all
    }
}

/// Of words with commas between them.
#[cfg(test)]
pub(super) fn read(text: &str) -> Conditions {
    let words = text.split(',');
    words
        .map(|word| word.parse::<Condition>().unwrap())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_word_is_one_condition_and_covers_nothing_else() {
        let failures = [
            Failure::Unsent,
            Failure::Full,
            Failure::Reset,
            Failure::Over,
            Failure::Status(499),
            Failure::Status(500),
            Failure::Status(503),
            Failure::Status(599),
            Failure::Status(600),
            Failure::Grpc(0),
            Failure::Grpc(1),
            Failure::Grpc(8),
            Failure::Grpc(14),
            Failure::Grpc(16),
            Failure::Grpc(u16::MAX),
        ];
        for (text, covered) in [
            ("connect-failure", &failures[..1]),
            ("reset", &failures[2..3]),
            ("5xx", &failures[5..8]),
            ("503", &failures[6..7]),
            ("cancelled", &failures[10..11]),
            ("resource-exhausted", &failures[11..12]),
            ("unavailable", &failures[12..13]),
        ] {
            for failure in failures {
                let is_covered = covered.contains(&failure);
                assert_eq!(read(text).has(failure), is_covered, "{text} {failure:?}");
            }
        }
        assert!(Conditions::default().is_empty() && !read("599").is_empty());
        assert!(read("unavailable").is_about_grpc() && !read("5xx,reset").is_about_grpc());
    }

    #[test]
    fn what_is_no_condition_is_refused_with_those_that_there_are() {
        for word in [
            "",
            "5XX",
            "499",
            "600",
            "0503",
            "+503",
            "gateway-error",
            "UNAVAILABLE",
            " reset",
        ] {
            let error = word.parse::<Condition>().unwrap_err().to_string();
            assert!(
                error.contains("write connect-failure, reset, 5xx"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn conditions_are_written_and_read_again(
            connect in any::<bool>(),
            reset in any::<bool>(),
            statuses in proptest::collection::vec(500_u16..600, 0..5),
            every in any::<bool>(),
            codes in proptest::collection::vec(0_usize..5, 0..5),
        ) {
            let all: Conditions = connect.then_some(Condition::ConnectFailure).into_iter()
                .chain(reset.then_some(Condition::Reset))
                .chain(every.then_some(Condition::ServerError))
                .chain(statuses.into_iter().map(Condition::Status))
                .chain(codes.into_iter().map(|code| Condition::Grpc(Code::ALL[code])))
                .collect();
            let words: Vec<String> = all.iter().map(|each| each.to_string()).collect();
            let again: Conditions = words.iter().map(|word| word.parse::<Condition>().unwrap()).collect();
            prop_assert_eq!(all, again);
        }
    }
}
