//! The standard output. A reader that has seen enough (`| head`) ends the program, and is no error.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stdout};

use crate::exit::Exit;

/// Prints it, and a line end.
pub fn line(text: impl Display) {
    let Err(error) = writeln!(stdout(), "{text}") else {
        return;
    };
    let exit = match error.kind() {
        ErrorKind::BrokenPipe => Exit::Done,
        _ => {
            eprintln!("error: cannot write: {error}");
            Exit::Unusable
        }
    };
    std::process::exit(exit.code().into());
}
