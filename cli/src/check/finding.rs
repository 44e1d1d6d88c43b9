//! What a check found.

use serde::Serialize;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Outcome {
    Passed,
    /// It works, and something is to be known or done.
    Warning,
    Failed,
    /// It cannot be asked.
    Unknown,
}

/// One of them, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) group: &'static str,
    /// What is to hold.
    pub(super) what: String,
    pub(super) outcome: Outcome,
    /// What was seen; empty when it passed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) mend: String,
}

/// The findings of one group.
#[derive(Debug)]
pub(super) struct Group {
    name: &'static str,
    pub(super) findings: Vec<Finding>,
}

impl Group {
    pub(super) fn new(name: &'static str) -> Group {
        Group {
            name,
            findings: Vec::new(),
        }
    }

    fn add(&mut self, what: impl Into<String>, outcome: Outcome, seen: String, mend: String) {
        debug_assert!(
            matches!(outcome, Outcome::Passed | Outcome::Unknown) || !mend.is_empty(),
            "what is wrong is told with its mend: {seen}"
        );
        self.findings.push(Finding {
            group: self.name,
            what: what.into(),
            outcome,
            seen,
            mend,
        });
    }

    pub(super) fn passed(&mut self, what: impl Into<String>) {
        self.add(what, Outcome::Passed, String::new(), String::new());
    }

    pub(super) fn warning(
        &mut self,
        what: impl Into<String>,
        seen: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.add(what, Outcome::Warning, seen.into(), mend.into());
    }

    pub(super) fn failed(
        &mut self,
        what: impl Into<String>,
        seen: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.add(what, Outcome::Failed, seen.into(), mend.into());
    }

    pub(super) fn unknown(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.add(what, Outcome::Unknown, why.into(), String::new());
    }
}
