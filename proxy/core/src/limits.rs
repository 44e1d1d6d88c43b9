//! What a sidecar takes from its callers at most, and waits for at most, and how a pod says otherwise: by an annotation, which the injector turns into a flag of the proxy.
//! Both sides read the number here, so that a pod with a bad one is refused when it is made and not when its proxy starts.

use std::ops::RangeInclusive;

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// On a pod.
    pub annotation: &'static str,
    /// Of `aviary-proxy run`.
    pub flag: &'static str,
    /// For people: what is counted.
    pub meaning: &'static str,
    pub default: u64,
    pub range: RangeInclusive<u64>,
}

/// Callers' connections at once, for each worker.
pub const CONNECTIONS: Limit = Limit {
    annotation: "aviary.dev/max-connections",
    flag: "max-connections",
    meaning: "callers' connections at once, for each worker",
    default: 16_384,
    range: 1..=1_000_000,
};
/// Requests in progress on one HTTP/2 connection.
pub const STREAMS: Limit = Limit {
    annotation: "aviary.dev/max-streams",
    flag: "max-streams",
    meaning: "requests in progress on one HTTP/2 connection of a caller's",
    default: 1_000,
    // Each may have 64 KiB on its way unread, and a connection's window is less than 2 GiB.
    range: 1..=10_000,
};
/// Bytes of a head.
pub const HEADER_BYTES: Limit = Limit {
    annotation: "aviary.dev/max-header-bytes",
    flag: "max-header-bytes",
    meaning: "bytes of a head",
    default: 60 * 1024,
    range: 1_024..=1_048_576,
};
/// Fields of a head.
pub const HEADERS: Limit = Limit {
    annotation: "aviary.dev/max-headers",
    flag: "max-headers",
    meaning: "fields of a request's head",
    default: 128,
    range: 1..=128,
};
/// Seconds from a head's first byte to its last.
pub const HEADER_SECONDS: Limit = Limit {
    annotation: "aviary.dev/header-timeout-seconds",
    flag: "header-timeout-seconds",
    meaning: "seconds from a head's first byte to its last",
    default: 10,
    range: 1..=600,
};

/// Milliseconds until a connection to an endpoint is there: enough for one lost SYN, and little enough to try another endpoint.
pub const CONNECT_MILLISECONDS: Limit = Limit {
    annotation: "aviary.dev/connect-timeout-milliseconds",
    flag: "connect-timeout-milliseconds",
    meaning: "milliseconds until a connection to an endpoint is there",
    default: 2_000,
    range: 10..=60_000,
};

pub const ALL: [Limit; 6] = [
    CONNECTIONS,
    STREAMS,
    HEADER_BYTES,
    HEADERS,
    HEADER_SECONDS,
    CONNECT_MILLISECONDS,
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no number from {least} to {most}")]
pub struct InvalidLimit {
    text: String,
    least: u64,
    most: u64,
}

impl Limit {
    /// The number that `text` says, if this limit may be that.
    pub fn parse(&self, text: &str) -> Result<u64, InvalidLimit> {
        let number = text.parse().ok();
        number
            .filter(|number| self.range.contains(number))
            .ok_or_else(|| InvalidLimit {
                text: text.chars().take(32).collect(),
                least: *self.range.start(),
                most: *self.range.end(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_number_that_could_be_set() {
        for limit in ALL {
            let text = limit.default.to_string();
            assert_eq!(limit.parse(&text), Ok(limit.default), "{}", limit.flag);
            assert!(limit.annotation.starts_with("aviary.dev/"));
            assert!(limit.annotation.ends_with(limit.flag));
        }
    }

    #[test]
    fn what_is_no_number_in_the_range_says_which_would_be() {
        for bad in ["", "0", "10001", "-1", "1.5", "1k", " 7", "many"] {
            let error = STREAMS.parse(bad).unwrap_err().to_string();
            assert_eq!(error, format!("'{bad}' is no number from 1 to 10000"));
        }
    }
}
