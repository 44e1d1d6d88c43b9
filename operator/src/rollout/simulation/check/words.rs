//! A change of an object in one line of the history.

use super::super::By;
use super::super::api::{Change, Type};
use super::super::controllers::image;

/// A change in one line.
pub(in super::super) fn describe(change: &Change, by: By) -> String {
    let object = change.after.as_ref().or(change.before.as_ref());
    let Some(object) = object else {
        return String::new();
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let verb = match (&change.before, &change.after) {
        (None, _) => "makes",
        (Some(_), Some(_)) => "changes",
        (Some(_), None) => "ends",
    };
    let version = object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let (spec, status) = (&object["spec"], &object["status"]);
    let detail = match change.kind {
        Type::Deployment => format!(
            "{} replicas {} paused {} ready {}/{} updated {}",
            image(&spec["template"]["spec"]),
            spec["replicas"],
            spec["paused"],
            status["readyReplicas"],
            status["replicas"],
            status["updatedReplicas"]
        ),
        Type::ReplicaSet => format!(
            "{} wants {} has {} ready {}",
            image(&spec["template"]["spec"]),
            spec["replicas"],
            status["replicas"],
            status["readyReplicas"]
        ),
        Type::CanaryRollout => format!(
            "{} stable {} canary {} weight {} run {}: {}",
            status["phase"],
            status["stable"]["revision"],
            status["canary"]["revision"],
            status["weight"],
            status["machine"]["state"]["run"]["number"],
            status["message"]
                .as_str()
                .unwrap_or_default()
                .chars()
                .take(90)
                .collect::<String>()
        ),
        Type::Pod => format!(
            "{} ends {}",
            status["conditions"][0]["status"],
            object["metadata"].get("deletionTimestamp").is_some()
        ),
        Type::EndpointSlice => {
            let endpoints = object["endpoints"].as_array().map_or(0, Vec::len);
            format!("{endpoints} endpoints")
        }
        Type::ControllerRevision | Type::Service | Type::ConfigMap => String::new(),
    };
    format!("{by:?} {verb} {:?} {name} {version} {detail}", change.kind)
}
