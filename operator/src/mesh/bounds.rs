//! What the owner of a Service says of calls to it, in annotations. A Service has no schema of ours, and no webhook reads it: what is wrong
//! is left out, as if it were not there, and said.

pub(crate) mod faults;
pub(crate) mod retries;

use std::num::NonZeroU32;
use std::time::Duration;

use aviary_crds::units;
use k8s_openapi::api::core::v1::Service;
use traffic_core::bounds::{Bounds, LONGEST};

pub(crate) const REQUEST_TIMEOUT: &str = "aviary.dev/request-timeout";
pub(crate) const STREAM_IDLE_TIMEOUT: &str = "aviary.dev/stream-idle-timeout";
pub(crate) const MAX_REQUESTS: &str = "aviary.dev/max-requests";

/// The annotations that are read here.
pub(crate) const ANNOTATIONS: [&str; 11] = [
    REQUEST_TIMEOUT,
    STREAM_IDLE_TIMEOUT,
    MAX_REQUESTS,
    retries::ON,
    retries::LIMIT,
    retries::TIMEOUT,
    retries::METHODS,
    retries::BUDGET,
    faults::DELAY,
    faults::ABORT,
    faults::HEADER,
];

/// An annotation that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unread {
    pub annotation: &'static str,
    /// What it has to be.
    pub why: String,
}

/// What of it cannot be read.
pub fn unread(service: &Service) -> Vec<Unread> {
    of(service).1
}

pub(super) fn of(service: &Service) -> (Bounds, Vec<Unread>) {
    let mut unread = Vec::new();
    let text = |name| text(service, name);
    let mut note = |annotation, why: Option<String>| {
        unread.extend(why.map(|why| Unread { annotation, why }));
    };
    let (request, why) = time(text(REQUEST_TIMEOUT));
    note(REQUEST_TIMEOUT, why);
    let (idle, why) = time(text(STREAM_IDLE_TIMEOUT));
    note(STREAM_IDLE_TIMEOUT, why);
    let (requests, why) = number(text(MAX_REQUESTS));
    note(MAX_REQUESTS, why);
    let (retries, why) = retries::of(service, request);
    unread.extend(why);
    let (faults, why) = faults::of(service);
    unread.extend(why);
    let bounds = Bounds {
        request,
        idle,
        requests,
        retries,
        faults,
    };
    (bounds, unread)
}

/// Whether something is put into requests to it on purpose. Nothing is while a release of its pods is under way.
pub fn has_faults(service: &Service) -> bool {
    faults::of(service).0.is_some()
}

fn text<'s>(service: &'s Service, annotation: &str) -> Option<&'s str> {
    let annotations = service.metadata.annotations.as_ref()?;
    annotations.get(annotation).map(String::as_str)
}

/// What there is, or why there is nothing although something was said.
type Read<T> = (Option<T>, Option<String>);

fn time(text: Option<&str>) -> Read<Duration> {
    let Some(text) = text else {
        return (None, None);
    };
    match units::duration(text) {
        // As in the field, no time at all is no limit.
        Ok(Duration::ZERO) => (None, None),
        Ok(time) => match Bounds::time(time) {
            Some(time) => (Some(time), None),
            None => {
                let most = LONGEST.as_secs() / 3600;
                (
                    None,
                    Some(format!("'{}' is longer than {most}h", short(text))),
                )
            }
        },
        Err(_) => {
            let why = format!(
                "'{}' is no duration: write a number and a unit, like 15s, 500ms or 1m30s",
                short(text)
            );
            (None, Some(why))
        }
    }
}

fn number(text: Option<&str>) -> Read<NonZeroU32> {
    let Some(text) = text else {
        return (None, None);
    };
    match text.parse() {
        Ok(number) => (Some(number), None),
        Err(_) => {
            let why = format!(
                "'{}' is no number from 1 to {}: leave it out for no limit",
                short(text),
                u32::MAX
            );
            (None, Some(why))
        }
    }
}

/// As much of it as fits into a line.
fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(annotations: Value) -> (Bounds, Vec<String>) {
        let service = json!({"metadata": {"annotations": annotations}});
        let (bounds, unread) = of(&serde_json::from_value(service).unwrap());
        let said = unread
            .into_iter()
            .map(|unread| format!("{} {}", unread.annotation, unread.why));
        (bounds, said.collect())
    }

    #[test]
    fn without_annotations_nothing_is_bounded() {
        for none in [json!(null), json!({}), json!({"aviary.dev/inject": "true"})] {
            assert_eq!(read(none), (Bounds::default(), Vec::new()));
        }
        let zero = json!({"aviary.dev/request-timeout": "0s"});
        assert_eq!(read(zero), (Bounds::default(), Vec::new()));
    }

    #[test]
    fn each_annotation_is_one_bound() {
        let all = json!({
            "aviary.dev/request-timeout": "1m30s",
            "aviary.dev/stream-idle-timeout": "500ms",
            "aviary.dev/max-requests": "100",
        });
        let bounds = Bounds {
            request: Some(Duration::from_secs(90)),
            idle: Some(Duration::from_millis(500)),
            requests: NonZeroU32::new(100),
            retries: None,
            faults: None,
        };
        assert_eq!(read(all), (bounds, Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_said_and_leaves_the_others_as_they_are() {
        for (annotation, wrong, says) in [
            (
                "request-timeout",
                "15",
                "'15' is no duration: write a number and a unit, like 15s, 500ms or 1m30s",
            ),
            ("request-timeout", "25h", "'25h' is longer than 24h"),
            (
                "max-requests",
                "0",
                "'0' is no number from 1 to 4294967295: leave it out for no limit",
            ),
            (
                "max-requests",
                "many",
                "'many' is no number from 1 to 4294967295: leave it out for no limit",
            ),
        ] {
            let mut annotations = json!({"aviary.dev/stream-idle-timeout": "5s"});
            let name = format!("aviary.dev/{annotation}");
            annotations[&name] = json!(wrong);
            let (bounds, said) = read(annotations);
            assert_eq!(said, [format!("{name} {says}")]);
            let only_idle = Bounds {
                idle: Some(Duration::from_secs(5)),
                ..Bounds::default()
            };
            assert_eq!(bounds, only_idle);
        }
    }
}
