//! Checks what a Service's annotations say of calls to it: what cannot be read, or contradicts itself, is refused with what would do.
//!
//! Whoever comes past it (a webhook that is away refuses nothing) is told later: what is wrong is left out of the routes, and said in the operator's
//! log and wherever the Service is released. On an update only what the update brings is refused: a Service that is wrong already can still be changed.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use k8s_openapi::api::core::v1::Service;

use super::Admission;
use super::review::{Answer, Request, Review};
use crate::mesh::{Unread, has_faults, unread};

pub(super) async fn handle(
    State(admission): State<Admission>,
    Json(review): Json<Review>,
) -> Response {
    let request = review.request;
    let answer = answer(&request);
    tracing::debug!(
        namespace = request.namespace,
        service = request.name,
        answer = answer.kind(),
        "services"
    );
    admission.metrics.count("services", &answer);
    answer.into_response(&request)
}

fn answer(request: &Request) -> Answer {
    let read = |object: &serde_json::Value| {
        let service = serde_json::from_value::<Service>(object.clone());
        service.map(|service| unread(&service)).unwrap_or_default()
    };
    // Absent on CREATE.
    let before = read(&request.old_object);
    let new = read(&request.object)
        .into_iter()
        .filter(|wrong| !before.contains(wrong));
    let wrong: Vec<String> = new.map(|wrong| sentence(&wrong)).collect();
    if wrong.is_empty() {
        return Answer::Allow {
            warnings: faults(&request.object).into_iter().collect(),
        };
    }
    let Request {
        namespace, name, ..
    } = request;
    Answer::Deny {
        message: format!("Service {namespace}/{name}: {}", wrong.join("; ")),
    }
}

/// What has to be known of faults.
fn faults(object: &serde_json::Value) -> Option<String> {
    let service = serde_json::from_value::<Service>(object.clone()).ok()?;
    let why = "requests to this Service get faults on purpose, of callers with a sidecar; there are none while a release of its pods is under way, since nobody is to be judged by them";
    has_faults(&service).then(|| why.to_owned())
}

fn sentence(Unread { annotation, why }: &Unread) -> String {
    format!("annotation {annotation}: {why}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(annotations: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": "web", "annotations": annotations}})
    }

    fn asked(old: Value, new: Value) -> Answer {
        let request = json!({
            "uid": "1", "namespace": "shop", "name": "web", "operation": "UPDATE",
            "object": new, "oldObject": old,
        });
        answer(&serde_json::from_value(request).unwrap())
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_would_do() {
        let wrong = service(json!({
            "aviary.dev/request-timeout": "15",
            "aviary.dev/retry-on": "5xx",
            "aviary.dev/retry-limit": "9",
        }));
        let message = "Service shop/web: annotation aviary.dev/request-timeout: '15' is no duration: write a number and a unit, like 15s, 500ms or 1m30s; annotation aviary.dev/retry-limit: '9' is no number from 1 to 5: write how often a request is sent again at most";
        let refused = Answer::Deny {
            message: message.to_owned(),
        };
        assert_eq!(asked(Value::Null, wrong), refused);
    }

    #[test]
    fn what_can_be_read_and_what_was_wrong_before_is_let_through() {
        let allowed = Answer::Allow { warnings: vec![] };
        let right = service(json!({"aviary.dev/retry-on": "5xx", "other": "15"}));
        assert_eq!(asked(Value::Null, right), allowed);
        let faulty = service(json!({"aviary.dev/fault-abort": "5% 503"}));
        let Answer::Allow { warnings } = asked(Value::Null, faulty) else {
            panic!("it is refused");
        };
        assert!(
            warnings[0].contains("there are none while a release"),
            "{warnings:?}"
        );
        let wrong = service(json!({"aviary.dev/max-requests": "few"}));
        let still =
            service(json!({"aviary.dev/max-requests": "few", "aviary.dev/retry-on": "5xx"}));
        assert_eq!(asked(wrong.clone(), still), allowed);
        let worse = service(json!({"aviary.dev/max-requests": "many"}));
        assert_eq!(asked(wrong, worse).kind(), "deny");
    }
}
