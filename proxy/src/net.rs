//! Sockets, and what happens to a connection before anybody knows what it carries.

pub mod buffers;
pub mod connect;
pub mod cork;
pub mod detect;
pub mod end;
pub mod hello;
pub mod input;
pub mod listen;
pub mod local;
pub mod mesh;
pub mod origin;
pub mod parting;
pub mod pump;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod tunnel;
pub mod untaken;
