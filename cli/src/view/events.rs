//! What happened, by the Events about a CanaryRollout.

use aviary_crds::status::CanaryRolloutStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde::Serialize;

/// One Event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    pub at: Timestamp,
    pub warning: bool,
    pub reason: String,
    pub note: String,
    /// How often it was said.
    pub times: i32,
}

/// The newest `most`, newest last.
pub fn newest_events(events: &[Event], most: usize) -> Vec<EventView> {
    let mut all: Vec<EventView> = events.iter().filter_map(read).collect();
    all.sort_by_key(|event| event.at);
    all.drain(..all.len().saturating_sub(most));
    all
}

/// What was said of releases before the one that is shown is beside the point.
pub(super) fn of_this_release(
    mut events: Vec<EventView>,
    status: &CanaryRolloutStatus,
) -> Vec<EventView> {
    let canary = status.canary.as_ref();
    if let Some(began) = canary.and_then(|it| it.started_at.as_ref()) {
        // Some Events have whole seconds.
        events.retain(|event| event.at.as_second() >= began.0.as_second());
    }
    events
}

fn read(event: &Event) -> Option<EventView> {
    let series = event.series.as_ref();
    let last = series.and_then(|series| series.last_observed_time.as_ref());
    let at = last
        .or(event.event_time.as_ref())
        .map(|time| time.0)
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| {
            event
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0)
        })?;
    Some(EventView {
        at,
        warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.clone().unwrap_or_default(),
        note: event.message.clone().unwrap_or_default(),
        times: series
            .and_then(|series| series.count)
            .or(event.count)
            .unwrap_or(1),
    })
}
