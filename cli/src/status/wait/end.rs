//! Whether a wait is over, and how it ended: pure.

use std::time::Duration;

use serde::Serialize;

use crate::exit::Exit;
use crate::standing::{Standing, standing};
use crate::status::follow::Known;
use crate::template::Template;

/// What forbids a release, and does not name its template, has to last so long: it may be what the same `kubectl apply` mends.
pub(super) const LASTS: Duration = Duration::from_secs(15);

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct End {
    pub(super) outcome: Outcome,
    /// The template that was waited for.
    pub(super) revision: String,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Outcome {
    Promoted,
    RolledBack,
    Superseded,
    NeedsPerson,
    /// The CanaryRollout, or its Deployment.
    Deleted,
    Timeout,
}

impl Outcome {
    pub(super) fn exit(self) -> Exit {
        match self {
            Outcome::Promoted => Exit::Done,
            Outcome::RolledBack | Outcome::Superseded => Exit::Failed,
            Outcome::NeedsPerson => Exit::NeedsPerson,
            Outcome::Deleted => Exit::Unusable,
            Outcome::Timeout => Exit::Timeout,
        }
    }
}

impl End {
    fn new(outcome: Outcome, asked: &Template, message: String) -> End {
        End {
            outcome,
            revision: asked.revision.clone(),
            message,
        }
    }

    /// For people.
    pub(super) fn sentence(&self, name: &str) -> String {
        let End {
            outcome,
            revision,
            message,
        } = self;
        let how = match outcome {
            Outcome::Promoted => "serves everyone",
            Outcome::RolledBack => "was rolled back",
            Outcome::Superseded => "was superseded",
            Outcome::NeedsPerson => "waits for a person",
            Outcome::Deleted => "is not released any more",
            Outcome::Timeout => "has not been released in time",
        };
        if message.is_empty() {
            format!("{name}: revision {revision} {how}")
        } else {
            format!("{name}: revision {revision} {how}: {message}")
        }
    }
}

/// `elapsed`: since the wait began. `None`: it is not over.
pub(super) fn end(known: &Known, asked: &Template, elapsed: Duration) -> Option<End> {
    let ended = |outcome, message| Some(End::new(outcome, asked, message));
    let Some(rollout) = &known.rollout else {
        return ended(Outcome::Deleted, "its CanaryRollout was deleted".to_owned());
    };
    match &known.template {
        Some(newest) if newest.revision == asked.revision => {}
        Some(newest) => {
            let target = &rollout.spec.target_ref.name;
            let by = format!(
                "Deployment {target} asks for revision {} now",
                newest.revision
            );
            return ended(Outcome::Superseded, by);
        }
        None => return ended(Outcome::Deleted, "its Deployment was deleted".to_owned()),
    }
    match standing(rollout, asked) {
        Standing::Serves => ended(Outcome::Promoted, String::new()),
        Standing::Failed { why } => ended(Outcome::RolledBack, why),
        Standing::Waits { why } => ended(Outcome::NeedsPerson, why),
        Standing::Blocked { why } if elapsed >= LASTS => ended(Outcome::NeedsPerson, why),
        Standing::Blocked { .. } | Standing::Runs | Standing::Unseen => None,
    }
}

/// The time is over.
pub(super) fn timeout(known: &Known, asked: &Template) -> End {
    let status = known.rollout.as_ref().and_then(|it| it.status.as_ref());
    let said = status.and_then(|it| it.message.clone());
    End::new(Outcome::Timeout, asked, said.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use aviary_crds::CanaryRollout;
    use serde_json::{Value, json};

    use super::*;

    fn known(status: Value, newest: Option<&str>) -> Known {
        let rollout: CanaryRollout = serde_json::from_value(json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "payment", "namespace": "shop", "generation": 1},
            "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
            "status": status,
        }))
        .unwrap();
        Known {
            rollout: Some(rollout),
            template: newest.map(template),
            events: Vec::new(),
        }
    }

    fn template(revision: &str) -> Template {
        Template {
            revision: revision.to_owned(),
            content: String::new(),
        }
    }

    fn outcome(known: &Known, seconds: u64) -> Option<Outcome> {
        let end = end(known, &template("new"), Duration::from_secs(seconds))?;
        Some(end.outcome)
    }

    #[test]
    fn an_end_has_its_exit_code() {
        let of = |status: Value| outcome(&known(status, Some("new")), 0).map(|it| it.exit().code());
        assert_eq!(of(json!({})), None);
        assert_eq!(
            of(json!({"phase": "Stable", "stable": {"revision": "old"}})),
            None
        );
        assert_eq!(
            of(json!({"phase": "Stable", "stable": {"revision": "new"}})),
            Some(0)
        );
        assert_eq!(
            of(json!({"phase": "Failed", "failure": {"revision": "new", "cause": "CanaryLost"}})),
            Some(1)
        );
        assert_eq!(
            of(
                json!({"phase": "Paused", "canary": {"revision": "new", "run": 1}, "message": "passed, and pauses"})
            ),
            Some(4)
        );
    }

    #[test]
    fn another_template_supersedes_the_one_that_is_waited_for() {
        let known = known(
            json!({"phase": "Stable", "stable": {"revision": "newer"}}),
            Some("newer"),
        );
        assert_eq!(outcome(&known, 0), Some(Outcome::Superseded));
    }

    #[test]
    fn what_is_deleted_is_not_waited_for() {
        let mut known = known(json!({}), None);
        assert_eq!(outcome(&known, 0), Some(Outcome::Deleted));
        known.rollout = None;
        assert_eq!(outcome(&known, 0), Some(Outcome::Deleted));
    }

    #[test]
    fn what_forbids_a_release_has_to_last() {
        let mut known = known(
            json!({"phase": "Stable", "stable": {"revision": "old"}}),
            Some("new"),
        );
        known.rollout.as_mut().unwrap().spec.suspend = true;
        assert_eq!(outcome(&known, 14), None);
        assert_eq!(outcome(&known, 15), Some(Outcome::NeedsPerson));
    }

    #[test]
    fn the_sentence_names_the_revision_and_why() {
        let known = known(
            json!({"phase": "Soaking", "message": "step 1/2: 40s more"}),
            Some("new"),
        );
        let end = timeout(&known, &template("new"));
        assert_eq!(
            end.sentence("payment"),
            "payment: revision new has not been released in time: step 1/2: 40s more"
        );
    }
}
