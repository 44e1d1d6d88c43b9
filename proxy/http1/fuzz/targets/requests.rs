//! Any bytes, as a caller's requests.

#![no_main]
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "what the tests share is more than one target needs"
)]

#[path = "../../tests/forward/forwarder.rs"]
mod forwarder;
#[path = "../../tests/forward/peer.rs"]
mod peer;
#[path = "../../tests/forward/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    properties::of_requests(bytes);
});
