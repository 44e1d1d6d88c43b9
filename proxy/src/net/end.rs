//! One end of what is carried: a connection, and what was read from it and not used yet.

use std::rc::Rc;

use tokio::net::TcpStream;

use super::buffers::Buffers;
use super::input::Input;
use super::socket;

#[derive(Debug)]
pub struct End {
    pub stream: TcpStream,
    pub input: Input,
}

impl End {
    /// Of a connection that nothing was read from.
    pub fn new(stream: TcpStream, buffers: Rc<Buffers>) -> End {
        End {
            stream,
            input: Input::new(buffers),
        }
    }

    /// Closes it, since there is nobody to carry it to. If something came on it a reset says that nobody has taken that, as the kernel itself says it
    /// of bytes that were not read.
    pub fn abandon(self) {
        if !self.input.is_empty() {
            socket::reset_on_close(&self.stream);
        }
    }
}
