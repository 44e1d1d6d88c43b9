//! One end of what is carried: a connection, and what was read from it and not used yet.

use std::rc::Rc;

use super::buffers::Buffers;
use super::input::Input;
use super::stream::Stream;

#[derive(Debug)]
pub struct End {
    pub stream: Stream,
    pub input: Input,
}

impl End {
    /// Of a connection that nothing was read from.
    pub fn new(stream: impl Into<Stream>, buffers: Rc<Buffers>) -> End {
        End {
            stream: stream.into(),
            input: Input::new(buffers),
        }
    }

    /// Closes it, since there is nobody to carry it to. If something came on it a reset says that nobody has taken that, as the kernel itself says it
    /// of bytes that were not read. A sidecar is told by a reset in any case: its caller's connection was taken already.
    pub fn abandon(self) {
        if !self.input.is_empty() || matches!(self.stream, Stream::Mesh(_)) {
            self.stream.reset_on_close();
        }
    }
}
