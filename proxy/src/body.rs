//! The bodies that pass through: frames go on as they come, trailers included; nothing waits for the whole.

mod request;
mod response;

pub use request::{RequestBody, Upload};
pub use response::{Flight, ResponseBody};
