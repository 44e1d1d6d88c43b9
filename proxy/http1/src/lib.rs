//! HTTP/1.1 as a proxy forwards it, without any I/O: bytes in, bytes out. No socket, clock or task appears here.
//!
//! ```text
//!   bytes ──HeadEnd──> a whole head ──Request / Response──> what it says, and how it goes on
//!         ──Body────> what belongs to the message, and how that goes on
//! ```
//!
//! What goes on is written anew from what was understood, never copied line by line: whatever the next reader makes of an oddity, it does not
//! get to see it. Method, target, status, reason, and the fields that are end-to-end keep their bytes, their case and their order.
//!
//! What could be read in two ways is refused (RFC 9112, 11.2): line ends without CR, folded lines, a space before the colon, several lengths that
//! differ, a length beside chunks, any coding but `chunked`, any coding in HTTP/1.0, chunk sizes that are no plain hexadecimal number.
//!
//! - [`scan`] finds the end of a head, within its limits, whatever pieces it comes in;
//! - [`request`] and [`response`] read heads and write them for the next hop; [`fields`] is what both have in common;
//! - [`framing`] says where a body ends, [`body`] how it goes on; [`chunks`] reads the chunked coding;
//! - [`malformed`] names everything that is refused;
//! - [`websocket`] says where the frames end of what was upgraded to one.

mod authority;
pub mod body;
pub mod chunks;
pub mod fields;
pub mod framing;
pub mod malformed;
pub mod request;
pub mod response;
pub mod scan;
pub mod websocket;

pub use body::Body;
pub use fields::{Edit, Lines, Persistence, Version};
pub use framing::{Coding, Framing};
pub use malformed::Malformed;
pub use request::Request;
pub use response::Response;
pub use scan::{HeadEnd, Limits};
