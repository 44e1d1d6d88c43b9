//! Releases to show, as a cluster has shown them.

use aviary_crds::CanaryRollout;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use super::{View, newest_events, view};
use crate::template::Template;

/// A release in its second step, with traffic, and the moment at which it is looked at.
pub(crate) fn soaking() -> (View, Timestamp) {
    read(include_str!("testdata/soaking.json"))
}

/// `{rollout, newest, events, now}`
pub(crate) fn read(json: &str) -> (View, Timestamp) {
    let value: Value = serde_json::from_str(json).unwrap();
    let rollout: CanaryRollout = serde_json::from_value(value["rollout"].clone()).unwrap();
    let events: Vec<Event> = serde_json::from_value(value["events"].clone()).unwrap();
    let template = value["newest"].as_str().map(|revision| Template {
        revision: revision.to_owned(),
        content: String::new(),
    });
    let now = value["now"].as_str().unwrap().parse().unwrap();
    (
        view(&rollout, template.as_ref(), newest_events(&events, 6)),
        now,
    )
}
