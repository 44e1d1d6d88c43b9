//! Whole messages through the forwarder, in whatever pieces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod forwarder;
#[allow(
    clippy::disallowed_methods,
    reason = "how long it goes on is for whoever starts it to say"
)]
mod fuzz;
mod oddities;
mod peer;
mod pieces;
mod properties;
mod requests;
mod smuggling;
