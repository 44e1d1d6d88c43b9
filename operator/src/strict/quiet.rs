//! For how long nobody may have called a namespace without an identity before it refuses who does.

use std::time::Duration;

use jiff::SignedDuration;

/// Sidecars remember no longer.
pub const QUIET: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no quiet time: write 1s to 10m, such as 10m")]
pub struct InvalidQuiet(String);

/// Reads such a time: a second to ten minutes.
pub fn quiet(text: &str) -> Result<Duration, InvalidQuiet> {
    let read = text.parse::<SignedDuration>().ok();
    let quiet = read.and_then(|read| Duration::try_from(read).ok());
    let allowed = |quiet: &Duration| (Duration::from_secs(1)..=QUIET).contains(quiet);
    quiet
        .filter(allowed)
        .ok_or_else(|| InvalidQuiet(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_time_is_a_second_to_ten_minutes() {
        assert_eq!(quiet("10m"), Ok(QUIET));
        assert_eq!(quiet("1s"), Ok(Duration::from_secs(1)));
        for text in ["", "10", "0s", "601s", "-1m", "soon"] {
            let error = quiet(text).unwrap_err().to_string();
            assert!(error.contains("such as 10m"), "{text}: {error}");
        }
    }
}
