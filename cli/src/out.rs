//! The standard output. A reader that has seen enough (`| head`) ends the program, and is no error.

use std::fmt::Display;
use std::io::{Write, stdout};

use crate::exit::Exit;

/// Prints it, and a line end.
pub fn line(text: impl Display) {
    if writeln!(stdout(), "{text}").is_err() {
        std::process::exit(Exit::Done.code().into());
    }
}
