//! Stories of releases, told to the machine alone: one observation after the other, and what has to become of it.

#![allow(clippy::unwrap_used)] // a test says so by panicking

#[path = "stories/deleted.rs"]
mod deleted;
#[path = "stories/down.rs"]
mod down;
#[path = "stories/edited.rs"]
mod edited;
#[path = "stories/exposure.rs"]
mod exposure;
#[path = "stories/first_sight.rs"]
mod first_sight;
#[path = "stories/hooks.rs"]
mod hooks;
#[path = "stories/people.rs"]
mod people;
#[path = "stories/promotion.rs"]
mod promotion;
#[path = "stories/requests.rs"]
mod requests;
#[path = "stories/time.rs"]
mod time;
#[path = "stories/up.rs"]
mod up;
#[path = "stories/waiting.rs"]
mod waiting;
#[path = "stories/world.rs"]
mod world;
