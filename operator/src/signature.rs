//! The signature of what is sent to hooks and receivers of notifications: HMAC-SHA256 over the second of sending, a dot, and the body. The second is in a header of its own,
//! so that what was overheard cannot be sent again later.

use std::fmt::Write as _;

use aws_lc_rs::hmac;

pub const SIGNATURE: &str = "x-aviary-signature";
pub const TIMESTAMP: &str = "x-aviary-timestamp";

/// `sha256=` and 64 digits, as the header has it.
pub fn signature(key: &[u8], timestamp: i64, body: &[u8]) -> String {
    let mut message = timestamp.to_string().into_bytes();
    message.push(b'.');
    message.extend_from_slice(body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &message);
    let mut text = String::from("sha256=");
    for byte in tag.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python's hmac says: docs/hooks.md has the receiver.
    #[test]
    fn it_is_what_a_receiver_computes() {
        assert_eq!(
            signature(b"0123456789abcdef", 1_790_000_000, br#"{"hook":"a"}"#),
            "sha256=b17dd0f3ec91d7d760bf90ba55bc0477eadc1530d61bb85e24fea10f309efa0a"
        );
    }
}
