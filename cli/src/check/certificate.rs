//! The public part of a certificate: until when it holds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::pem::Pem;

/// How long a certificate still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Long,
    /// It expires soon.
    Ends(SystemTime),
    Over(SystemTime),
}

/// Of a moment in seconds since the epoch; `soon`: what is left of it that is worth a word.
pub(super) fn life(expires: u64, now: SystemTime, soon: Duration) -> Life {
    let at = UNIX_EPOCH + Duration::from_secs(expires);
    if at <= now {
        Life::Over(at)
    } else if at <= now + soon {
        Life::Ends(at)
    } else {
        Life::Long
    }
}

/// When the first of the certificates in `pem` expires, in seconds since the epoch; `None`: there is none.
pub(super) fn expires(pem: &[u8]) -> Option<u64> {
    let of = |pem: &Pem| {
        let certificate = pem.parse_x509().ok()?;
        u64::try_from(certificate.validity().not_after.timestamp()).ok()
    };
    let all: Option<Vec<u64>> = Pem::iter_from_buffer(pem)
        .map(|pem| of(&pem.ok()?))
        .collect();
    all?.into_iter().min()
}
