//! Who asks: an annotation carries no identity, its admission does. A request that is set or changed gets the name of the
//! user who sets it ([`REQUESTED_BY_ANNOTATION`]); nobody gets another's.
//!
//! | change | answer |
//! |---|---|
//! | a request is set or changed | it gets the name of the user, whatever name it came with |
//! | the same, and it is no request | denied: what would be right is said to whoever has just typed it |
//! | the name of a request is changed or taken out | put back |
//! | a name without a request | taken out |
//!
//! failurePolicy is Ignore: an abort waits for nobody. Without us a request has no name, and the operator says so; a name that
//! somebody makes up is refused by a policy in the API server itself (`config/webhooks/policy.yaml`).

use aviary_crds::{REQUEST_ANNOTATION, REQUESTED_BY_ANNOTATION, Request};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use json_patch::{Patch, PatchOperation};
use serde_json::{Value, json};

use super::Admission;
use super::review::{Answer, Review, add, remove};

pub(super) async fn handle(
    State(admission): State<Admission>,
    Json(review): Json<Review>,
) -> Response {
    let request = review.request;
    let answer = answer(
        &request.old_object,
        &request.object,
        &request.user_info.username,
    );
    tracing::info!(
        namespace = request.namespace,
        canaryrollout = request.name,
        user = request.user_info.username,
        asked = annotation(&request.object, REQUEST_ANNOTATION),
        answer = answer.kind(),
        "request"
    );
    admission.metrics.count("request", &answer);
    answer.into_response(&request)
}

/// `old` is null for an object that is new. `user`: who makes the change.
fn answer(old: &Value, new: &Value, user: &str) -> Answer {
    let asked = annotation(new, REQUEST_ANNOTATION);
    let by = annotation(new, REQUESTED_BY_ANNOTATION);
    let is_new = asked != annotation(old, REQUEST_ANNOTATION);
    if let (true, Some(Err(invalid))) = (is_new, asked.map(str::parse::<Request>)) {
        return Answer::Deny {
            message: format!("{REQUEST_ANNOTATION}: {invalid}"),
        };
    }
    let right = match asked {
        None => None,
        Some(_) if is_new => Some(user),
        Some(_) => annotation(old, REQUESTED_BY_ANNOTATION),
    };
    match edit(by, right) {
        None => Answer::Allow {
            warnings: Vec::new(),
        },
        Some(operation) => Answer::Patch {
            patch: Patch(vec![operation]),
            warnings: warning(by, right).into_iter().collect(),
        },
    }
}

fn edit(by: Option<&str>, right: Option<&str>) -> Option<PatchOperation> {
    if by == right {
        return None;
    }
    let path = ["metadata", "annotations", REQUESTED_BY_ANNOTATION];
    Some(match right {
        Some(user) => add(path, json!(user)),
        None => remove(path),
    })
}

/// For whoever has named somebody else.
fn warning(by: Option<&str>, right: Option<&str>) -> Option<String> {
    let right = right.map_or("nobody, since nothing is asked", |user| user);
    by.map(|_| {
        format!("{REQUESTED_BY_ANNOTATION} is set by Aviary, to whoever asks: it is {right}")
    })
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CanaryRollout with this request and name.
    fn asking(asked: Option<&str>, by: Option<&str>) -> Value {
        let mut rollout = json!({"metadata": {"name": "payment", "annotations": {"a": "b"}}});
        for (name, value) in [(REQUEST_ANNOTATION, asked), (REQUESTED_BY_ANNOTATION, by)] {
            if let Some(value) = value {
                rollout["metadata"]["annotations"][name] = json!(value);
            }
        }
        rollout
    }

    /// Who is said to have asked after alice's change, and what she is told.
    fn by_alice(old: &Value, new: &Value) -> (Option<String>, usize) {
        let mut stored = new.clone();
        let told = match answer(old, new, "alice") {
            Answer::Allow { warnings } => warnings.len(),
            Answer::Patch { patch, warnings } => {
                json_patch::patch(&mut stored, &patch).unwrap();
                warnings.len()
            }
            Answer::Deny { message } => panic!("{message}"),
        };
        let by = annotation(&stored, REQUESTED_BY_ANNOTATION);
        (by.map(str::to_owned), told)
    }

    const ABORT: Option<&str> = Some("abort:abc");
    const RETRY: Option<&str> = Some("retry:abc");
    const BOB: Option<&str> = Some("bob");

    #[test]
    fn a_request_has_the_name_of_whoever_sets_or_changes_it() {
        for old in [
            Value::Null,
            json!({"metadata": {"name": "payment"}}),
            asking(None, None),
            asking(RETRY, BOB),
            asking(RETRY, None),
            asking(None, BOB),
        ] {
            for (by, told) in [(None, 0), (BOB, 1), (Some("alice"), 0)] {
                let stored = by_alice(&old, &asking(ABORT, by));
                assert_eq!(stored, (Some("alice".to_owned()), told), "{old} {by:?}");
            }
        }
    }

    #[test]
    fn nobody_changes_the_name_of_a_request() {
        let bobs = asking(ABORT, BOB);
        for (by, told) in [(None, 0), (Some("alice"), 1), (Some("carol"), 1), (BOB, 0)] {
            let stored = by_alice(&bobs, &asking(ABORT, by));
            assert_eq!(stored, (Some("bob".to_owned()), told), "{by:?}");
        }
        let nobodys = asking(ABORT, None);
        let stored = by_alice(&nobodys, &asking(ABORT, Some("alice")));
        assert_eq!(
            stored,
            (None, 1),
            "it was asked while we were away, by whomever"
        );
    }

    #[test]
    fn a_name_goes_with_its_request() {
        for old in [asking(ABORT, BOB), asking(None, None), Value::Null] {
            assert_eq!(by_alice(&old, &asking(None, BOB)), (None, 1));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_to_whoever_types_it_and_no_other_change_is() {
        let typo = asking(Some("abrot:abc"), None);
        let denied = answer(&asking(None, None), &typo, "alice");
        let Answer::Deny { message } = denied else {
            panic!("{denied:?}");
        };
        assert_eq!(
            message,
            "aviary.dev/request: 'abrot' is no verb: write promote, promote-now, abort, retry, pause, resume, undo or restart"
        );
        assert_eq!(by_alice(&typo, &typo), (None, 0));
    }
}
