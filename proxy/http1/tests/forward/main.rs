//! Whole messages through the forwarder, in whatever pieces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod forwarder;
mod fuzz;
mod pieces;
mod requests;
mod smuggling;
