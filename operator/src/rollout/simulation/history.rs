//! What happened, in order: for people when a check fails, and as one number to compare two histories by.

use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Debug, Default)]
pub(super) struct History {
    lines: Vec<String>,
    hash: DefaultHasher,
    /// Whether the lines are kept.
    pub(super) is_kept: bool,
}

impl History {
    pub(super) fn new(is_kept: bool) -> History {
        History {
            is_kept,
            ..History::default()
        }
    }

    pub(super) fn say(&mut self, now: i64, line: String) {
        now.hash(&mut self.hash);
        line.hash(&mut self.hash);
        if self.is_kept {
            self.lines
                .push(format!("{:>5}.{:03} {line}", now / 1000, now % 1000));
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }
}
