//! How the plugin ends: what a pipeline branches on. [docs/plugin.md](../../docs/plugin.md) has the table.

use std::process::ExitCode;

/// The end of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for was done; of `status --wait`: the newest template serves everyone.
    Done,
    /// The release was rolled back or superseded; what was asked for was not done; a check failed.
    Failed,
    /// The call makes no sense, what it names is not there, or the cluster cannot be asked.
    Unusable,
    /// `--timeout` is over.
    Timeout,
    /// The release waits for a person.
    NeedsPerson,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            // As clap ends when a flag is wrong.
            Exit::Unusable => 2,
            Exit::Timeout => 3,
            Exit::NeedsPerson => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
