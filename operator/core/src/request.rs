//! What a person asks of a release: bound to a revision, and to the weight that it has where that matters.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::Percent;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verb {
    /// What waits at this weight goes on.
    Promote,
    /// The rest of the steps and their judgement are skipped.
    PromoteNow,
    /// Weight 0, and never again for this run.
    Abort,
    /// What failed is tried again from its first step.
    Retry,
    /// Nothing of this run is raised.
    Pause,
    /// The end of a pause.
    Resume,
    /// Back to a revision that was stable before.
    Undo,
    /// New pods of the stable revision.
    Restart,
}

/// Who asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct By {
    /// As the API server knows them; `None`: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl By {
    /// For people.
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("somebody, unknown")
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    pub verb: Verb,
    pub revision: String,
    /// That the revision has; of [`Verb::Promote`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Percent>,
    #[serde(default)]
    pub by: By,
}
