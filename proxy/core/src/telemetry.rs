//! What a pod may want its sidecar to say of single requests, and how it says so: by an annotation, which the injector turns into a flag of the proxy.
//! Both sides read it here, so that a pod with a bad one is refused when it is made and not when its proxy starts.

use std::fmt;
use std::str::FromStr;

use crate::weight::Weight;

/// On a pod, or for all pods of a namespace: [`AccessLog`].
pub const ACCESS_LOG_ANNOTATION: &str = "aviary.dev/access-log";
/// The same as a flag of `aviary-proxy run`.
pub const ACCESS_LOG_FLAG: &str = "access-log";
/// On a pod, or for all pods of a namespace: [`AccessLogPath`].
pub const ACCESS_LOG_PATH_ANNOTATION: &str = "aviary.dev/access-log-path";
pub const ACCESS_LOG_PATH_FLAG: &str = "access-log-path";
/// On a pod, or for all pods of a namespace: [`MetricNames`].
pub const METRICS_ANNOTATION: &str = "aviary.dev/metrics";
pub const METRICS_FLAG: &str = "metrics";

/// The annotations that a namespace may have for all its pods.
pub const OF_NAMESPACES: [&str; 3] = [
    ACCESS_LOG_ANNOTATION,
    ACCESS_LOG_PATH_ANNOTATION,
    METRICS_ANNOTATION,
];

/// Which requests have a line in the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    #[default]
    Off,
    /// Every request that failed or was refused, and this share of the others.
    On(Weight),
}

/// How much of a request's target is in its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogPath {
    /// Without the query, in which people put tokens and names.
    #[default]
    Plain,
    WithQuery,
}

/// The names under which requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricNames {
    /// Aviary's alone.
    #[default]
    Aviary,
    /// Istio's as well, for dashboards and tools that know those.
    Istio,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is none; write {expected}")]
pub struct InvalidWord {
    text: String,
    expected: &'static str,
}

impl InvalidWord {
    fn new(text: &str, expected: &'static str) -> InvalidWord {
        InvalidWord {
            text: text.chars().take(32).collect(),
            expected,
        }
    }
}

const SHARES: &str =
    "off, errors, all, or the share of good requests that is logged besides all errors, such as 1%";

impl FromStr for AccessLog {
    type Err = InvalidWord;

    fn from_str(text: &str) -> Result<AccessLog, InvalidWord> {
        match text {
            "off" => Ok(AccessLog::Off),
            "errors" => Ok(AccessLog::On(Weight::ZERO)),
            "all" => Ok(AccessLog::On(Weight::ALL)),
            share => share
                .strip_suffix('%')
                .and_then(percent)
                .map(AccessLog::On)
                .ok_or_else(|| InvalidWord::new(text, SHARES)),
        }
    }
}

impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessLog::Off => f.write_str("off"),
            AccessLog::On(Weight::ZERO) => f.write_str("errors"),
            AccessLog::On(Weight::ALL) => f.write_str("all"),
            AccessLog::On(share) => share.fmt(f),
        }
    }
}

/// A percentage with at most three digits behind the point.
fn percent(text: &str) -> Option<Weight> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 3 || !digits(whole) || !digits(part) {
        return None;
    }
    let units = format!("{whole}{part:0<3}").parse().ok()?;
    Weight::new(units).ok()
}

impl FromStr for AccessLogPath {
    type Err = InvalidWord;

    fn from_str(text: &str) -> Result<AccessLogPath, InvalidWord> {
        match text {
            "plain" => Ok(AccessLogPath::Plain),
            "with-query" => Ok(AccessLogPath::WithQuery),
            _ => Err(InvalidWord::new(text, "plain or with-query")),
        }
    }
}

impl fmt::Display for AccessLogPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessLogPath::Plain => "plain",
            AccessLogPath::WithQuery => "with-query",
        })
    }
}

impl FromStr for MetricNames {
    type Err = InvalidWord;

    fn from_str(text: &str) -> Result<MetricNames, InvalidWord> {
        match text {
            "aviary" => Ok(MetricNames::Aviary),
            "istio" => Ok(MetricNames::Istio),
            _ => Err(InvalidWord::new(text, "aviary or istio")),
        }
    }
}

impl fmt::Display for MetricNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MetricNames::Aviary => "aviary",
            MetricNames::Istio => "istio",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_and_all_errors_come_with_it() {
        let share = |units| AccessLog::On(Weight::new(units).unwrap());
        for (text, expected) in [
            ("off", AccessLog::Off),
            ("errors", share(0)),
            ("0%", share(0)),
            ("0.001%", share(1)),
            ("0.5%", share(500)),
            ("1%", share(1_000)),
            ("12.34%", share(12_340)),
            ("100%", share(100_000)),
            ("all", share(100_000)),
        ] {
            let read: AccessLog = text.parse().unwrap();
            assert_eq!(read, expected, "{text}");
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_says_what_would() {
        for bad in [
            "", "%", "1", "-1%", "+1%", "101%", "100.001%", "1.0001%", "1.%x", ".5%", "1e1%", "on",
            "All", " 1%", "1 %",
        ] {
            let error = bad.parse::<AccessLog>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{bad}' is none; ")), "{error}");
            assert!(error.contains("off, errors, all") && error.contains("1%"));
        }
        let error = "yes".parse::<AccessLogPath>().unwrap_err().to_string();
        assert_eq!(error, "'yes' is none; write plain or with-query");
        let error = "Istio".parse::<MetricNames>().unwrap_err().to_string();
        assert_eq!(error, "'Istio' is none; write aviary or istio");
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for path in [AccessLogPath::Plain, AccessLogPath::WithQuery] {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        for names in [MetricNames::Aviary, MetricNames::Istio] {
            assert_eq!(names.to_string().parse(), Ok(names));
        }
        assert_eq!(AccessLog::default().to_string(), "off");
    }
}
