//! What all certificates of workloads have in common.

use std::time::Duration;

use jiff::SignedDuration;
use traffic_core::spiffe::TrustDomain;

/// How long a certificate holds, unless told otherwise.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// A pod gets a new one at half of the life, and may have to try for a while.
const SHORTEST: Duration = Duration::from_secs(120);
/// What is not renewed is known to be good for no longer.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// What all certificates of workloads have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub trust_domain: TrustDomain,
    pub lifetime: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no life of a certificate: write 2m to 720h, such as 24h or 90m")]
pub struct InvalidLifetime(String);

/// A lifetime, as a flag has it.
pub fn lifetime(text: &str) -> Result<Duration, InvalidLifetime> {
    let read = text.parse::<SignedDuration>().ok();
    let lifetime = read.and_then(|read| Duration::try_from(read).ok());
    let allowed = |lifetime: &Duration| (SHORTEST..=LONGEST).contains(lifetime);
    lifetime
        .filter(allowed)
        .ok_or_else(|| InvalidLifetime(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_two_minutes_to_thirty_days() {
        assert_eq!(lifetime("24h"), Ok(LIFETIME));
        assert_eq!(lifetime("2m"), Ok(SHORTEST));
        assert_eq!(lifetime("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(lifetime("720h"), Ok(LONGEST));
        for text in ["", "24", "119s", "721h", "-1h", "a day", "1e9h"] {
            let error = lifetime(text).unwrap_err().to_string();
            assert!(error.contains("such as 24h"), "{text}: {error}");
        }
    }
}
