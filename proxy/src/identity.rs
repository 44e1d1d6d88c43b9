//! Who this pod is to other sidecars.

pub mod generation;

pub use generation::{Generation, GenerationError};
