//! Who this pod is to other sidecars, and how it is told from others: its certificate, the roots of the mesh, and the checks of mutual TLS.
//!
//! Values only: who fetches a certificate, and who speaks TLS with it, is elsewhere.

pub mod generation;
pub mod inner;
pub mod roots;
#[cfg(test)]
pub(crate) mod testing;
pub mod verify;

pub use generation::{Generation, GenerationError};
pub use inner::Inner;
